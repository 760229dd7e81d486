"""Turns of a conversation, in OpenAI's and ShareGPT's words, and the rules that make them an example.

Owns roles, canonical text and the order of turns; refuses to know where the list of turns came from.
"""

import re
import unicodedata
from collections.abc import Collection, Sequence
from typing import Any, Literal

from thaud.domain import Message, Role
from thaud.formats.strict import MalformedError, described, excerpt
from thaud.formats.tools import read_calls

ROLES: dict[str, Role | Literal["function_call"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "function_call": "function_call",
}
# Nothing to learn from: control tokens of the usual templates, whitespace and characters that nobody sees.
NOTHING_SAID = re.compile(
    r"(?:\s|[\u200b-\u200f\u2060\ufeff]|<\|[^|<>\s]{1,64}\|>|</?s>|<(?:bos|eos|pad|unk|start_of_turn|end_of_turn)>"
    r"|\[/?INST\]|\[(?:BOS|EOS|PAD|UNK|CLS|SEP|MASK)\])*",
    re.IGNORECASE,
)


def tidy(text: str) -> str:
    """Canonical text: LF line ends, no outer whitespace, NFC."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = text.strip()
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def says_nothing(text: str) -> bool:
    """Whether a completion is empty or only control tokens."""
    return not text[:1].isalnum() and NOTHING_SAID.fullmatch(text) is not None


def read_turns(turns: Any, field: str) -> list[Message]:
    """A list of turns as messages. Raises MalformedError naming the turn."""
    if not isinstance(turns, list) or not turns:
        raise MalformedError(f"{field} is {described(turns)}: use a list of turns")
    names_by_id: dict[str, str] = {}
    return [read_turn(turn, f"{field}[{index}]", names_by_id) for index, turn in enumerate(turns)]


def read_turn(turn: Any, where: str, names_by_id: dict[str, str]) -> Message:
    """One turn: role and content, or ShareGPT's from and value. `names_by_id` collects the ids of calls."""
    if not isinstance(turn, dict):
        raise MalformedError(f"{where} is {described(turn)}: use an object with role and content")
    named = turn.get("role", turn.get("from"))
    role = ROLES.get(named.strip().lower()) if isinstance(named, str) else None
    if role is None:
        raise MalformedError(f"{where} has the role {excerpt(named)}: use system, user, assistant or tool")
    content = turn.get("content", turn.get("value"))
    if role == "function_call":
        return Message("assistant", "", tuple(call for call, _ in read_calls(content, where)))
    calls = read_calls(turn.get("tool_calls"), where)
    if calls and role != "assistant":
        raise MalformedError(f"{where} is a {role} turn with tool_calls: only the assistant calls tools")
    names_by_id.update((identity, call.name) for call, identity in calls if identity is not None)
    name = result_name(turn, names_by_id) if role == "tool" else None
    return Message(role, read_content(content, where), tuple(call for call, _ in calls), name)


def result_name(turn: dict[str, Any], names_by_id: dict[str, str]) -> str | None:
    """Which tool a tool turn answers for, where it says so: by the call's id, else by name."""
    identity = turn.get("tool_call_id")
    if isinstance(identity, str) and identity in names_by_id:
        return names_by_id[identity]
    name = turn.get("name") or turn.get("tool_name")
    return name.strip() if isinstance(name, str) else None


def read_content(content: Any, where: str) -> str:
    """The text of a turn: text, null (nothing), or OpenAI's list of text parts."""
    if isinstance(content, str):
        return tidy(content)
    if content is None:
        return ""
    if isinstance(content, list) and all(isinstance(part, dict) and is_text_part(part) for part in content):
        return tidy("".join(part["text"] for part in content))
    raise MalformedError(f"the content of {where} is {described(content)}: use a text in quotes")


def is_text_part(part: dict[str, Any]) -> bool:
    """Whether it is {"type": "text", "text": "..."}."""
    return part.get("type") == "text" and isinstance(part.get("text"), str)


def check_conversation(messages: Sequence[Message], tools: Collection[str]) -> tuple[Message, ...]:
    """The messages, if they are an example: somebody asks, tools answer calls, and the assistant has the last word.

    `tools` are the declared names; none declared means that any may be called. Raises MalformedError.
    """
    kept = [message for message in messages if message.role != "system" or message.content]
    if not kept or kept[-1].role != "assistant":
        last = f"is a {kept[-1].role} turn" if kept else "is missing"
        raise MalformedError(f"the last turn {last}: an example ends with the assistant's")
    if not any(message.role in ("user", "tool") for message in kept):
        raise MalformedError("nobody asks anything: put a user turn before the assistant's")
    check_completion(kept[-1])
    open_calls: list[str] = []
    for index, message in enumerate(kept):
        if message.role == "tool":
            kept[index] = answered(message, open_calls)
            continue
        open_calls = [call.name for call in message.tool_calls]
        check_turn(message, index, tools)
    return tuple(kept)


def check_completion(completion: Message) -> None:
    """There must be something to learn."""
    if completion.tool_calls or not says_nothing(completion.content):
        return
    if completion.content:
        raise MalformedError(f"the completion is only special tokens, {excerpt(completion.content)}: write the answer")
    raise MalformedError("the completion is empty: write the answer")


def check_turn(message: Message, index: int, tools: Collection[str]) -> None:
    """No turn is empty, and no tool is called that was not declared where some were."""
    if not message.content and not message.tool_calls:
        raise MalformedError(f"turn {index + 1} ({message.role}) is empty: write its text or leave it out")
    for call in message.tool_calls:
        if tools and call.name not in tools:
            known = excerpt(", ".join(tools))
            raise MalformedError(f"the tool {excerpt(call.name)} is called but not declared: tools has {known}")


def answered(result: Message, open_calls: list[str]) -> Message:
    """A tool turn with the name of the call that it answers, which is taken off the open ones."""
    if not open_calls:
        raise MalformedError(f"the tool turn {excerpt(result.content)} follows no tool call: put the call before it")
    name = result.tool_name or open_calls[0]
    if name not in open_calls:
        raise MalformedError(f"a tool turn answers {excerpt(name)}, which the turn before it did not call")
    open_calls.remove(name)
    return Message("tool", result.content, (), name)
