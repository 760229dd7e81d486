"""How a turn is put to a model and its reply read, for each way of calling (Runtime.calling). Owns the difference
between the ways; refuses to run anything.

tagged, native: the template knows tools and gets their definitions. schema: the tools stand in the system's words, and
every turn with the assistant's is the JSON of an action, the answer being one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agent import actions, dialects
from agent.dialects.curtain import Curtain, Screen
from agent.prompts import Prompts
from agent.state import Reply, Step
from agent.toolbox import CheckedCall, Toolbox
from agent.words import Language
from thaud.domain import Message, ToolCall
from thaud.errors import ToolError
from thaud.serving.runtime import Calling


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a runtime is asked: messages, definitions for its template, and what may be called."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    actions: dict[str, Any] | None = None


def put(messages: Sequence[Message], toolbox: Toolbox, calling: Calling, language: Language, *, offer: bool) -> Prompt:
    """The prompt of a turn in which tools may be called, or where they are not offered, only the answer be given."""
    offered = toolbox.tools if offer else ()
    if calling != "schema":
        allowed = actions.union(offered, answer=False) if offered else None
        return Prompt(tuple(merged(messages)), tuple(tool.definition for tool in offered), allowed)
    if not toolbox.tools and all(message.role != "tool" for message in messages):
        return Prompt(tuple(merged(messages)))
    taught = told(messages, actions.instructions(offered, language)) if offered else list(messages)
    spelled = actions.spelled_out(taught, language)
    return Prompt(tuple(merged(spelled)), (), actions.union(offered, answer=True))


def told(messages: Sequence[Message], words: str) -> list[Message]:
    """Messages whose system turn ends with some words; it is made where there is none."""
    if messages and messages[0].role == "system":
        return [replace(messages[0], content=f"{messages[0].content}\n\n{words}"), *messages[1:]]
    return [Message("system", words), *messages]


def merged(messages: Sequence[Message]) -> list[Message]:
    """Messages in which the user never speaks twice in a row: some templates refuse that."""
    joined: list[Message] = []
    for message in messages:
        if joined and message.role == joined[-1].role == "user":
            joined[-1] = replace(joined[-1], content=f"{joined[-1].content}\n\n{message.content}")
        else:
            joined.append(message)
    return joined


def screen_for(toolbox: Toolbox, calling: Calling, prompt: Prompt) -> Screen:
    """What keeps the text of calls from who looks on."""
    if calling == "schema" and prompt.actions is not None:
        return actions.AnswerScreen(toolbox)
    return Curtain(toolbox)


def understood(reply: Reply, toolbox: Toolbox, calling: Calling, prompt: Prompt, words: Prompts, most: int) -> Step:
    """A reply taken apart and its calls checked. A call that is there twice is one; more than `most` are none."""
    acting = calling == "schema" and prompt.actions is not None
    parsed = actions.read(reply.text, toolbox) if acting else dialects.parse(reply.text, toolbox)
    if not toolbox.tools:
        return Step(parsed.content, (), ())
    checked, problems = check((*reply.calls, *parsed.calls), toolbox)
    problems = [*parsed.problems, *problems]
    if len(checked) > most:
        problems.append(words.too_many.format(count=len(checked), most=most))
    if not (parsed.content or checked or problems):
        problems.append(nothing(reply, words))
    return Step(parsed.content, tuple(checked), tuple(problems))


def check(calls: Sequence[ToolCall], toolbox: Toolbox) -> tuple[list[CheckedCall], list[str]]:
    """The calls that may run, each once, and what is wrong with the others."""
    checked: list[CheckedCall] = []
    problems: list[str] = []
    for call in calls:
        try:
            found = toolbox.check(call)
        except ToolError as error:
            problems.append(str(error))
        else:
            if all(found.canonical != other.canonical for other in checked):
                checked.append(found)
    return checked, problems


def lost(reply: Reply) -> bool:
    """Whether tokens were generated of which nothing arrived: the end alone is one token on some servers."""
    spent = reply.usage.completion_tokens if reply.usage else 0
    return spent > 1 and not (reply.text or reply.thinking or reply.calls)


def nothing(reply: Reply, prompts: Prompts) -> str:
    """Why a reply says nothing, for the model."""
    if reply.thinking:
        return prompts.only_thought
    return prompts.lost if lost(reply) else prompts.empty
