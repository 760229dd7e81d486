"""A program's output: head and tail in memory, the whole in a file of the workspace once it is too much.

Owns the file's making: through descriptors, no link followed, since the program may write in the workspace while this
does. Refuses to hold more than it was told to.
"""

import os
import secrets
from contextlib import ExitStack, closing, suppress
from pathlib import Path

from tools.sandbox.survey import OWN
from tools.workspace import Descriptor

OUTPUTS = "outputs"
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Output:
    """What a program writes, as it comes. `rest` is the file that holds all of it, where it did not fit."""

    def __init__(self, root: Path, most_bytes: int) -> None:
        self.root = root
        self.half = most_bytes // 2
        self.head = bytearray()
        self.tail = bytearray()
        self.size = 0
        self.rest: Path | None = None
        self._opened = ExitStack()
        self._file: int | None = None

    def add(self, chunk: bytes) -> None:
        """Take more; what does not fit goes to the file, and where that cannot be made, it is gone but counted."""
        if self.rest is None and self.size + len(chunk) > 2 * self.half:
            self._begin()
        self.size += len(chunk)
        if self._file is not None:
            with suppress(OSError):
                os.write(self._file, chunk)
        room = max(0, self.half - len(self.head))
        self.head += chunk[:room]
        self.tail += chunk[room:]
        if len(self.tail) > 2 * self.half:
            del self.tail[: -self.half]

    def _begin(self) -> None:
        """Open the file and put in what came so far."""
        name = f"{secrets.token_hex(6)}.txt"
        try:
            at = self._enter(os.open(self.root, FOLDER_FLAGS))
            for folder in (OWN, OUTPUTS):
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o700, dir_fd=at)
                at = self._enter(os.open(folder, FOLDER_FLAGS, dir_fd=at))
            self._file = self._enter(os.open(name, NEW_FILE_FLAGS, 0o600, dir_fd=at))
            os.write(self._file, bytes(self.head + self.tail))
        except OSError:
            self._file = None
            return
        self.rest = Path(OWN, OUTPUTS, name)

    def _enter(self, descriptor: int) -> int:
        """Have a descriptor closed at the end."""
        return self._opened.enter_context(closing(Descriptor(descriptor)))

    def close(self) -> None:
        """Close the file."""
        self._opened.close()

    def text(self) -> str:
        """Head and tail, with a word about what is between; not cleaned of anything."""
        tail = self.tail[-self.half :]
        left_out = self.size - len(self.head) - len(tail)
        if not left_out:
            return decoded(bytes(self.head + tail))
        where = f"; all of it is in {self.rest}" if self.rest else ""
        between = f"\n[{left_out:,} bytes of output left out here{where}]\n"
        return decoded(bytes(self.head)) + between + decoded(bytes(tail))


def decoded(data: bytes) -> str:
    """Bytes as text, what is no UTF-8 replaced."""
    return data.decode("utf-8", errors="replace")
