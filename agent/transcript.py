"""The record of a conversation: one JSON object a line, written as it happens. Owns the file; refuses to change a line.

Each line has `at` (UTC, ISO 8601) and `event`; further fields belong to the event. A turn goes from `begin` to `end`.
A conversation in which nothing happens leaves no file. resume.py reads it back.
"""

import fcntl
import json
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from agent.state import Repair, Reply
from thaud.errors import StorageError


class Transcript:
    """An append-only transcript in a folder, which is made where it is missing. `clock` gives an aware time.

    `path`: a file to go on with, instead of a new one.
    """

    def __init__(self, folder: Path, clock: Callable[[], datetime], path: Path | None = None) -> None:
        started = clock().astimezone(UTC)
        self.path = path or folder / f"{started:%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}.jsonl"
        self._clock = clock
        self._stream: TextIO | None = None
        self._tools: list[dict[str, Any]] = []

    def begin(self, model: str, system: str, tools: Sequence[Mapping[str, Any]], *, think: bool) -> None:
        """A turn begins."""
        self.offer(tools)
        self.add("begin", model=model, system=system, think=think)

    def offer(self, tools: Sequence[Mapping[str, Any]]) -> None:
        """The definitions of tools from here on, written where they are others than the last."""
        definitions = [dict(tool) for tool in tools]
        if definitions != self._tools:
            self.add("tools", tools=definitions)
            self._tools = definitions

    def reply(self, reply: Reply, offered: Sequence[str]) -> None:
        """A reply of the model, raw."""
        called = [call.to_json() for call in reply.calls]
        spent = asdict(reply.usage) if reply.usage else None
        fields: dict[str, Any] = {"done": reply.done, "looping": reply.looping, "tools": list(offered), "usage": spent}
        self.add("reply", text=reply.text, thinking=reply.thinking, calls=called, **fields)

    def repair(self, repair: Repair) -> None:
        """A wrong call was made right."""
        prompt = [message.to_json() for message in repair.prompt]
        said = {"failed": repair.failed, "problem": repair.problem, "fixed": repair.fixed.to_json()}
        self.add("repair", prompt=prompt, **said)

    def add(self, event: str, **fields: Any) -> None:
        """Append a line and hand it to the system. Raises StorageError."""
        row = {"at": self._clock().astimezone(UTC).isoformat(timespec="milliseconds"), "event": event, **fields}
        try:
            stream = self._opened()
            stream.write(json.dumps(row, ensure_ascii=False) + "\n")
            stream.flush()
        except OSError as error:
            raise StorageError(f"cannot write the transcript {self.path}: {error.strerror}") from error

    def save(self) -> None:
        """See that what was written survives a power cut, and let go of the file. Raises StorageError."""
        stream, self._stream = self._stream, None
        if stream is None:
            return
        try:
            with stream:
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise StorageError(f"cannot write the transcript {self.path}: {error.strerror}") from error

    def _opened(self) -> TextIO:
        if self._stream is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            stream = os.fdopen(os.open(self.path, flags, 0o600), "w", encoding="utf-8", errors="backslashreplace")
            if not claimed(stream.fileno()):
                stream.close()
                raise StorageError(
                    f"another chat is writing the transcript {self.path}: wait for its answer, or begin anew"
                )
            self._stream = stream
            if is_torn(stream.fileno()):
                stream.write("\n")
        return self._stream


def claimed(descriptor: int) -> bool:
    """Whether nobody else writes until the file is closed: two turns in one another could not be told apart."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def is_torn(descriptor: int) -> bool:
    """Whether a file ends in half a line, as a power cut leaves it."""
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
