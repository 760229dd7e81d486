"""A Modelfile, for `ollama create NAME -f Modelfile`: a recipe of the reconciler in the words of Ollama's own tool.

One instruction a line. A value in quotes ends with the line, one in three quotes with the first line that ends in three
(Ollama's parser/parser.go): so three quotes inside a template are written as an action of Go's template engine, which
prints them. Refuses to decide what a model is made from: that is serving/reconcile.py's.
"""

from collections.abc import Mapping
from typing import Any

from thaud.errors import ServerError

QUOTES = '"""'
QUOTES_AS_ACTION = '{{ "\\"\\"\\"" }}'


def modelfile(
    heading: str, source: str, parameters: Mapping[str, Any], template: str | None = None, adapter: str | None = None
) -> str:
    """The text of a Modelfile. `source` and `adapter` are paths from its own folder; `heading` becomes comments.

    Raises ServerError where a parameter cannot be written in a Modelfile.
    """
    lines = [f"# {line}".rstrip() for line in heading.splitlines()]
    lines.append(f"FROM {source}")
    if adapter is not None:
        lines.append(f"ADAPTER {adapter}")
    for name, value in parameters.items():
        lines += [f"PARAMETER {name} {quoted(each)}" for each in (value if isinstance(value, list) else [value])]
    if template is not None:
        lines.append(f"TEMPLATE {QUOTES}{template.replace(QUOTES, QUOTES_AS_ACTION)}{QUOTES}")
    return "\n".join(lines) + "\n"


def quoted(value: float | str) -> str:
    """A parameter's value: numbers as they are, text in quotes. Raises ServerError on a text that holds three."""
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if QUOTES in value:
        raise ServerError(f"a Modelfile cannot hold the parameter {value!r}: it has three quotes in a row")
    return f"{QUOTES}{value}{QUOTES}" if '"' in value or "\n" in value else f'"{value}"'
