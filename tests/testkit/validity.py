"""Whether what a model calls is valid: tools with generated schemas, a runtime that is asked to use them, and a judge.

The judge is jsonschema on the tools' own schemas, whole: it knows nothing of how the model was held to them.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from time import perf_counter
from typing import Any

import jsonschema

from agent import actions, dialects
from tests.agent.offers import Anything
from tests.testkit.schemas import tool_schema
from thaud.domain import Message, ToolCall
from thaud.errors import ModelError
from thaud.serving.runtime import Delta, Runtime
from tools.base import Risk, Tool

MOST_TOKENS = 12_000
ASKED = (Message("user", "x"),)


@dataclass(slots=True)
class Tally:
    """What came of some replies. `wrong`: calls that do not parse or validate, in words. `cut`: by the limit of tokens.

    refused: sets of tools that could not be made a grammar. seconds, tokens: of the replies that came to an end.
    """

    replies: int = 0
    calls: int = 0
    answers: int = 0
    cut: int = 0
    tokens: int = 0
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        valid = self.calls - len(self.wrong)
        share = f"{100 * valid / self.calls:.1f}%" if self.calls else "none"
        return (
            f"{self.replies} sets of tools, {self.calls} calls, {valid} valid ({share}), {self.answers} answers, "
            f"{self.cut} replies cut, {len(self.refused)} refused, {self.tokens} tokens, {self.seconds:.1f} s"
        )


def offered(seed: int) -> tuple[Tool, ...]:
    """One to three tools."""
    chance = Random(seed)
    return tuple(made(f"tool_{number}", tool_schema(chance)) for number in range(chance.randint(1, 3)))


def made(name: str, schema: Mapping[str, Any]) -> Tool:
    """A tool of that schema that does nothing."""
    return Tool(name, "Does something", Risk.COMPUTES, schema, dict, lambda _, __: "")


def judge(runtime: Runtime, seed: int, tally: Tally, most_tokens: int = MOST_TOKENS) -> None:
    """Ask for one reply, sampled at temperature 1, and count what it calls."""
    tools = offered(seed)
    acting = runtime.calling == "schema"
    tally.replies += 1
    begun = perf_counter()
    try:
        deltas = list(sampled(runtime, seed, actions.union(tools, answer=acting), most_tokens))
    except ModelError as error:
        tally.refused.append(f"{seed}: {error}")
        return
    if deltas[-1].done != "stop":
        tally.cut += 1
        return
    tally.seconds += perf_counter() - begun
    tally.tokens += deltas[-1].completion_tokens
    text = "".join(delta.text for delta in deltas)
    read = actions.read if acting else dialects.parse
    parsed = read(text, Anything())
    tally.answers += not parsed.calls and not parsed.problems
    tally.calls += len(parsed.calls) + len(parsed.problems)
    tally.wrong += [f"{seed}: {found}" for found in (*parsed.problems, *faults(parsed.calls, tools))]


def sampled(runtime: Runtime, seed: int, allowed: Mapping[str, Any] | None, most_tokens: int) -> Iterator[Delta]:
    """One reply at temperature 1."""
    return runtime.chat(ASKED, actions=allowed, temperature=1.0, seed=seed, max_new_tokens=most_tokens)


def faults(calls: tuple[ToolCall, ...], tools: tuple[Tool, ...]) -> Iterator[str]:
    """What jsonschema says against each call that does not validate."""
    schemas = {tool.name: tool.schema for tool in tools}
    for call in calls:
        if call.name not in schemas:
            yield f"there is no {call.name!r}"
            continue
        validator = jsonschema.Draft202012Validator(schemas[call.name])
        if found := jsonschema.exceptions.best_match(validator.iter_errors(json.loads(json.dumps(call.arguments)))):
            yield f"{call.name}: {found.message[:200]} at {list(found.absolute_path)}"
