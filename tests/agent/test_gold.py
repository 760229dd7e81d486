"""BFCL's kinds of cases in our own words: simple, multiple, parallel and irrelevant, each in Spanish and in English.

What a model would have to say is written in every dialect, as models of that dialect write it, and must come back
equal: not as a text, but as the call that it is.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from agent import actions
from agent.dialects import Curtain, bare, fenced, hermes, openai, parse
from agent.dialects.reading import Offered, Parsed
from thaud.domain import ToolCall
from thaud.errors import ToolError

FOLDER = Path(__file__).parent / "gold"
FEWEST = 200
Dialect = Callable[[str, Offered], Parsed]


class Case(NamedTuple):
    """A question, and the calls that answer it, or the words."""

    kind: str
    asked: str
    calls: tuple[ToolCall, ...]
    says: str


class Known:
    """The gold set's tools, judged by jsonschema."""

    def __init__(self) -> None:
        schemas = json.loads((FOLDER / "tools.json").read_text("utf-8"))
        self.judges = {name: jsonschema.Draft202012Validator(schema) for name, schema in schemas.items()}

    def check(self, call: ToolCall) -> object:
        """Only a known name with arguments that validate."""
        if call.name not in self.judges:
            raise ToolError(f"no tool {call.name!r}")
        for error in self.judges[call.name].iter_errors(dict(call.arguments)):
            raise ToolError(error.message)
        return call


def gold() -> Iterator[Case]:
    """Every case, once in each language."""
    for line in (FOLDER / "calls.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        for language, suffix in (("es", ""), ("en", "_en")):
            calls = row.get(f"calls{suffix}", row.get("calls", []))
            says = row.get(f"says{suffix}", row.get("says", ""))
            yield Case(row["kind"], row[language], tuple(ToolCall(name, given) for name, given in calls), says)


CASES = tuple(gold())
CALLING = tuple(case for case in CASES if case.calls)
IRRELEVANT = tuple(case for case in CASES if case.kind == "irrelevant")


def dumped(value: Any, *, spaced: bool, pure: bool) -> str:
    return json.dumps(value, ensure_ascii=pure, separators=None if spaced else (",", ":"))


def in_tags(calls: Sequence[ToolCall], **style: bool) -> str:
    return "\n".join(f"<tool_call>\n{dumped(plain(call), **style)}\n</tool_call>" for call in calls)


def as_json(calls: Sequence[ToolCall], **style: bool) -> str:
    return "\n".join(dumped({"name": call.name, "parameters": dict(call.arguments)}, **style) for call in calls)


def in_fences(calls: Sequence[ToolCall], **style: bool) -> str:
    values = [plain(call) for call in calls]
    return f"```json\n{dumped(values if len(values) > 1 else values[0], **style)}\n```"


def as_message(calls: Sequence[ToolCall], **style: bool) -> str:
    found = [
        {
            "id": f"call_{number}",
            "type": "function",
            "function": {"name": call.name, "arguments": dumped(dict(call.arguments), **style)},
        }
        for number, call in enumerate(calls)
    ]
    return dumped({"role": "assistant", "content": None, "tool_calls": found}, **style)


def plain(call: ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": dict(call.arguments)}


WRITTEN: dict[str, tuple[Callable[..., str], Dialect]] = {
    "hermes": (in_tags, hermes.parse),
    "bare": (as_json, bare.parse),
    "fenced": (in_fences, fenced.parse),
    "openai": (as_message, openai.parse),
}


def same(calls: Sequence[ToolCall], gold: Sequence[ToolCall]) -> bool:
    """Equal values of equal types: 1 is not true, and order counts in lists alone."""
    trees = [[json.dumps(plain(call), sort_keys=True) for call in each] for each in (calls, gold)]
    return trees[0] == trees[1]


def test_the_set_is_what_it_says() -> None:
    """At least 200 cases of all four kinds, no question twice, and every gold call validates."""
    kinds = Counter(case.kind for case in CASES)
    assert len(CASES) >= FEWEST
    assert set(kinds) == {"simple", "multiple", "parallel", "irrelevant"}
    assert min(kinds.values()) >= 30
    assert len({case.asked for case in CASES}) == len(CASES)
    known = Known()
    for case in CASES:
        assert bool(case.calls) is (case.kind != "irrelevant")
        assert (len(case.calls) > 1) is (case.kind == "parallel")
        for call in case.calls:
            known.check(call)


STYLES = [{"spaced": True, "pure": False}, {"spaced": False, "pure": True}]


@pytest.mark.parametrize("style", STYLES, ids=["qwen", "terse"])
@pytest.mark.parametrize("dialect", WRITTEN)
def test_calls_come_back_as_they_were(dialect: str, style: dict[str, bool]) -> None:
    """Every gold call, in each dialect, alone and after some words, by its parser and by the one of all of them."""
    write, own = WRITTEN[dialect]
    known = Known()
    for case in CALLING:
        text = write(case.calls, **style)
        for before in ("", "Voy a mirarlo.\n"):
            for read in (own, parse):
                parsed = read(before + text, known)
                assert same(parsed.calls, case.calls), (case, text, parsed)
                assert (parsed.content, parsed.problems) == (before.strip(), ())


@pytest.mark.parametrize("dialect", WRITTEN)
def test_calls_are_hidden_while_they_come(dialect: str) -> None:
    """Nothing of a gold call is shown, however its text is cut."""
    write, _ = WRITTEN[dialect]
    known = Known()
    for number, case in enumerate(CALLING):
        text, size = "Voy a mirarlo.\n" + write(case.calls, spaced=True, pure=False), 1 + number % 9
        curtain = Curtain(known)
        pieces = [curtain.feed(text[at : at + size]) for at in range(0, len(text), size)]
        assert "".join([*pieces, curtain.finish()]).strip() == "Voy a mirarlo.", (case, text)


def test_actions_come_back_as_they_were() -> None:
    """Each gold call that stands alone, as the action that a model without tools in its template makes of it."""
    known = Known()
    for case in CALLING:
        for call in case.calls:
            parsed = actions.read(actions.written(call), known)
            assert same(parsed.calls, [call])


@pytest.mark.parametrize("dialect", WRITTEN)
def test_wrong_calls_stay_text(dialect: str) -> None:
    """A call of no tool, or with an argument that there is not, runs in no dialect; in tags its name is told."""
    write, _ = WRITTEN[dialect]
    known = Known()
    for case in CALLING:
        first, *_ = case.calls
        for wrong in (ToolCall(f"{first.name}_2", first.arguments), ToolCall(first.name, {**first.arguments, "zz": 1})):
            text = write([wrong], spaced=True, pure=False)
            parsed = parse(text, known)
            if dialect == "hermes":  # meant as a call: the loop checks it again and tells the model
                assert same(parsed.calls, [wrong])
            else:
                assert (parsed.calls, parsed.content) == ((), text)


def test_what_is_no_call_is_text() -> None:
    """Answers in words, JSON about people, code in fences, and calls that are only talked about call nothing."""
    known = Known()
    for case in IRRELEVANT:
        parsed = parse(case.says, known)
        assert parsed == Parsed(case.says.strip()), case
        curtain = Curtain(known)
        pieces = [curtain.feed(character) for character in case.says]
        assert "".join([*pieces, curtain.finish()]) == case.says
