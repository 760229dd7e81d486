"""Runs a parsed Go template on values: strings, numbers, lists, dicts (Go's maps) and Records (Go's structs).

Owns the meaning of pipelines, scopes and the built-in functions, with Ollama's own four. A key that a map lacks prints
`<no value>`; a field that a struct lacks is an error. Source: https://pkg.go.dev/text/template.
"""

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from thaud.serving.fake.gojson import Record, go_json, go_number
from thaud.serving.fake.gotemplate import Action, Branch, Jump, Node, Pipeline, TemplateError, Term, Text

ORDER: Mapping[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}


class _Jumped(Exception):  # noqa: N818 - no error: a range is left or goes on
    """break or continue, on its way to the range around it."""


@dataclass(slots=True)
class Scope:
    """The variables that can be seen, innermost last, and the text so far."""

    frames: list[dict[str, Any]]
    written: list[str] = field(default_factory=list)

    def find(self, name: str) -> dict[str, Any]:
        """The frame of a variable. Raises TemplateError."""
        frames: list[dict[str, Any]] = [frame for frame in self.frames if name in frame]
        if not frames:
            raise TemplateError(f'template: :1: undefined variable "{name}"')
        return frames[-1]


def execute(nodes: Sequence[Node], values: Mapping[str, Any]) -> str:
    """What a template writes. Raises TemplateError."""
    scope = Scope([{"$": values}])
    _list(nodes, values, scope)
    return "".join(scope.written)


def truth(value: Any) -> bool:
    """What `if` makes of a value: empty and zero are false, a struct never is."""
    return True if isinstance(value, Record) else bool(value)


def printed(value: Any) -> str:
    """A value as {{ }} writes it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return go_number(value)
    return value if isinstance(value, str) else go_json(value, sort=True)


def _list(nodes: Sequence[Node], dot: Any, scope: Scope) -> None:
    for node in nodes:
        if isinstance(node, Text):
            scope.written.append(node.text)
        elif isinstance(node, Action):
            value = _set(node.pipeline, dot, scope)
            if not node.pipeline.names:
                scope.written.append(printed(value))
        elif isinstance(node, Jump):
            raise _Jumped(node.kind)
        else:
            scope.frames.append({})
            _branch(node, dot, scope)
            scope.frames.pop()


def _branch(node: Branch, dot: Any, scope: Scope) -> None:
    if node.kind == "range":
        _range(node, dot, scope)
        return
    value = _set(node.pipeline, dot, scope)
    taken = truth(value)
    _list(node.body if taken else node.otherwise, value if taken and node.kind == "with" else dot, scope)


def _range(node: Branch, dot: Any, scope: Scope) -> None:
    rows = list(_items(_value(node.pipeline, dot, scope)))
    depth = len(scope.frames)
    for key, item in rows:
        names = node.pipeline.names
        scope.frames.append(dict(zip(names, (key, item) if len(names) > 1 else (item,), strict=False)))
        try:
            _list(node.body, item, scope)
        except _Jumped as jumped:
            if str(jumped) == "break":
                break
        finally:
            del scope.frames[depth:]
    if not rows:
        _list(node.otherwise, dot, scope)


def _items(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        yield from sorted(value.items())
    elif isinstance(value, list | tuple):
        yield from enumerate(value)
    elif value is not None:
        raise TemplateError(f"range can't iterate over {printed(value)}")


def _set(pipeline: Pipeline, dot: Any, scope: Scope) -> Any:
    value = _value(pipeline, dot, scope)
    for name in pipeline.names:
        frame = scope.frames[-1] if pipeline.declares else scope.find(name)
        frame[name] = value
    return value


def _value(pipeline: Pipeline, dot: Any, scope: Scope) -> Any:
    piped: tuple[Any, ...] = ()
    for first, *rest in pipeline.commands:
        if first.kind == "function":
            arguments = [lambda term=term: _operand(term, dot, scope) for term in rest]
            piped = (_call(str(first.value), [*arguments, *(lambda value=value: value for value in piped)]),)
        elif rest or piped:
            raise TemplateError("can't give argument to non-function")
        else:
            piped = (_operand(first, dot, scope),)
    return piped[0]


def _operand(term: Term, dot: Any, scope: Scope) -> Any:
    if term.kind == "function":
        return _call(str(term.value), [])
    value = term.value if term.kind == "literal" else dot
    if term.kind == "variable":
        value = scope.find(str(term.value))[str(term.value)]
    elif isinstance(term.value, Pipeline):
        value = _value(term.value, dot, scope)
    for name in term.fields:
        value = _field(value, name)
    return value


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Record):
        if name not in value.fields:
            raise TemplateError(f"can't evaluate field {name} in a struct that has {', '.join(value.fields)}")
        return value.fields[name]
    if isinstance(value, Mapping):
        return value.get(name)
    reason = "nil data; no entry for key" if value is None else "can't evaluate field"
    raise TemplateError(f'{reason} "{name}"')


def _call(name: str, arguments: Sequence[Callable[[], Any]]) -> Any:
    if name in {"and", "or"}:
        value = None
        for argument in arguments:  # As in Go, what follows the decision is not looked at.
            value = argument()
            if truth(value) == (name == "or"):
                break
        return value
    return _function(name, [argument() for argument in arguments])


def _function(name: str, values: list[Any]) -> Any:
    try:
        if name in {"eq", "ne"}:
            return (name == "eq") == any(values[0] == other for other in values[1:])
        if name in ORDER:
            return all(ORDER[name](a, b) for a, b in pairwise(values))
        return OTHERS[name](*values)
    except (TypeError, IndexError, KeyError) as error:
        raise TemplateError(f"error calling {name}: {error}") from error


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    if not 0 <= start <= len(value):
        raise IndexError(f"index out of range: {start}")
    return value[start:end]


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(key, int) and key < 0:
            raise IndexError(f"index out of range: {key}")
        value = value.get(key) if isinstance(value, Mapping) else value[key]
    return value


def _printf(layout: str, *values: Any) -> str:
    return layout.replace("%v", "%s").replace("%q", '"%s"') % tuple(
        value if isinstance(value, int) and not isinstance(value, bool) else printed(value) for value in values
    )


def _day(back: int) -> str:
    return (datetime.now().astimezone() - timedelta(days=back)).strftime("%Y-%m-%d")


OTHERS: Mapping[str, Callable[..., Any]] = {
    "not": lambda value: not truth(value),
    "len": len,
    "index": _index,
    "slice": _slice,
    "print": lambda *values: "".join(map(printed, values)),
    "println": lambda *values: " ".join(map(printed, values)) + "\n",
    "printf": _printf,
    "json": lambda value: go_json(value, sort=True),
    "currentDate": lambda *_: _day(0),
    "yesterdayDate": lambda *_: _day(1),
    "toTypeScriptType": lambda _: "any",
}
