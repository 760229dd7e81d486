"""Past conversations, read from their transcripts and from nothing else. Owns the reading; refuses to change them.

A line that cannot be read, such as the last one before a power cut, is passed over; a turn without its end is one
that failed, and so is one of which lines are missing.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.loop import Agent
from agent.state import Ending, Exchange, Outcome, Repair, settled
from agent.window import Window, beginning
from thaud.domain import Message
from thaud.errors import StorageError, UsageError

LAST = "last"
TITLE = 120


@dataclass(frozen=True, slots=True)
class PastChat:
    """A conversation on file. `id` is the file's stem; `title` how its first question begins; `model` the last that was
    asked.
    """

    id: str
    path: Path
    started: datetime
    model: str
    title: str
    questions: int


@dataclass(slots=True)
class Past:
    """A conversation as far as it has been read."""

    exchanges: list[Exchange] = field(default_factory=list)
    window: Window = field(default_factory=Window)
    model: str = ""
    system: str = ""
    think: bool = False
    title: str = ""
    questions: int = 0
    started: datetime | None = None
    _tools: tuple[Mapping[str, Any], ...] = ()
    _messages: list[Message] = field(default_factory=list)
    _repairs: list[Repair] = field(default_factory=list)
    _foreign: list[str] = field(default_factory=list)

    def take(self, row: Mapping[str, Any]) -> None:
        """Read one line on. Raises KeyError, TypeError or ValueError for one that is none of ours."""
        if self.started is None:
            self.started = datetime.fromisoformat(row["at"]).astimezone(UTC)
        if (act := getattr(self, f"_on_{row['event']}", None)) is not None:
            act(row)

    def end(self, ending: Ending, text: str) -> None:
        """The turn is over, if one was begun."""
        if self._messages and self._messages[0].role == "user":
            if ending is Ending.ANSWERED and not is_whole(self._messages):
                ending, text = Ending.FAILED, ""
            messages = settled(self._messages[0].content, self._messages, Outcome(text, ending))
            told = (self._tools, tuple(self._repairs), tuple(self._foreign))
            self._keep([*self.exchanges, Exchange(messages, ending, *told)])
        self._messages, self._repairs, self._foreign = [], [], []

    def _keep(self, exchanges: list[Exchange]) -> None:
        self.exchanges = exchanges
        self.window = self.window.within([exchange.remembered for exchange in exchanges])

    def _on_tools(self, row: Mapping[str, Any]) -> None:
        self._tools = tuple(dict(tool) for tool in row["tools"])

    def _on_begin(self, row: Mapping[str, Any]) -> None:
        self.end(Ending.FAILED, "")
        self.model, self.system, self.think = words(row["model"]), words(row["system"]), bool(row["think"])

    def _on_message(self, row: Mapping[str, Any]) -> None:
        message = message_of(row["message"])
        if not self._messages:
            self.questions += 1
            self.title = self.title or beginning(message.content, TITLE)
        self._messages.append(message)

    def _on_result(self, row: Mapping[str, Any]) -> None:
        if row.get("foreign") and row["tool"] not in self._foreign:
            self._foreign.append(words(row["tool"]))

    def _on_repair(self, row: Mapping[str, Any]) -> None:
        prompt = tuple(message_of(each) for each in row["prompt"])
        self._repairs.append(Repair(prompt, words(row["failed"]), words(row["problem"]), message_of(row["fixed"])))

    def _on_window(self, row: Mapping[str, Any]) -> None:
        self.window = Window(words(row["summary"]), max(0, int(row["left_out"])), max(0, int(row["shortened"])))

    def _on_end(self, row: Mapping[str, Any]) -> None:
        self.end(Ending(row["ending"]), words(row.get("text", "")))

    def _on_undo(self, row: Mapping[str, Any]) -> None:
        if self.exchanges and self.exchanges[-1].question == row["question"]:  # else it never came on file
            self._keep(self.exchanges[:-1])

    def _on_clear(self, _: Mapping[str, Any]) -> None:
        self.exchanges, self.window = [], Window()


def words(value: Any) -> str:
    """A text. Raises TypeError for anything else."""
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def message_of(row: Mapping[str, Any]) -> Message:
    """A message of ours. Raises KeyError, TypeError or ValueError for anything else."""
    message = Message.from_json(row)
    if message.role not in {"user", "assistant", "tool"}:
        raise ValueError(message.role)
    words(message.content)
    words(message.tool_name or "")
    for call in message.tool_calls:
        words(call.name)
        dict(call.arguments)
    return message


def is_whole(messages: Sequence[Message]) -> bool:
    """Whether a turn ends with an answer and each call before it has its result: templates refuse others."""
    waiting = 0
    for message in messages[1:]:
        if (message.role == "tool") != bool(waiting) or message.role == "user":
            return False
        waiting = waiting - 1 if waiting else len(message.tool_calls)
    return messages[-1].role == "assistant" and not waiting


def list_chats(folder: Path) -> Sequence[PastChat]:
    """The conversations of a folder in which something was asked, the newest first; what cannot be read is left out."""
    chats: list[PastChat] = []
    for path in sorted(folder.glob("*.jsonl"), reverse=True):
        try:
            past = read_past(path)
        except StorageError:
            continue
        if past.questions and past.started:
            chats.append(PastChat(path.stem, path, past.started, past.model, past.title, past.questions))
    return chats


def find_chat(folder: Path, name: str) -> Path:
    """The transcript that an id, its beginning or end, or `last` names. Raises UsageError where none or several do."""
    chats = list_chats(folder)
    if name == LAST and chats:
        return chats[0].path
    found = [chat for chat in chats if chat.id.startswith(name) or chat.id.endswith(name)] if name else []
    if len(found) == 1:
        return found[0].path
    many = f"{len(found)} conversations are" if found else "no conversation is"
    raise UsageError(f"{many} called {name!r}: `thau chat --list` shows them")


def read(path: Path) -> tuple[Exchange, ...]:
    """The exchanges of a conversation that were neither cleared nor undone. Raises StorageError."""
    return tuple(read_past(path).exchanges)


def read_past(path: Path) -> Past:
    """A whole conversation. Raises StorageError where the file cannot be read."""
    past = Past()
    for row in rows(path):
        try:
            past.take(row)
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
    past.end(Ending.FAILED, "")
    return past


def rows(path: Path) -> Iterator[Mapping[str, Any]]:
    """The lines of a transcript that are one."""
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            for line in stream:
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict) and "event" in row and "at" in row:
                    yield row
    except OSError as error:
        raise StorageError(f"cannot read the transcript {path}: {error.strerror}") from error


def resume(agent: Agent, path: Path) -> None:
    """Have an agent go on with a conversation, as it was when its last turn ended. Raises StorageError."""
    past = read_past(path)
    agent.exchanges, agent.window = tuple(past.exchanges), past.window
    agent.system, agent.think = past.system, past.think
