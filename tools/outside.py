"""What tools need of the outside world, as interfaces: programs behind walls, pages fetched and found, a memory.

Owns the shapes; refuses to know how. sandbox/ and web/ are the real ones; the memory is THAU's ledger and transcripts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one execution may use. Output beyond `output_bytes` is kept in a file, its head and tail are told."""

    wall_s: float = 60.0
    cpu_s: int = 60
    memory_bytes: int = 1 << 30
    processes: int = 64
    file_bytes: int = 64 << 20
    disk_bytes: int = 256 << 20
    output_bytes: int = 32 << 10


@dataclass(frozen=True, slots=True)
class Finished:
    """What came of a program: its exit code (negative: the signal that ended it), standard output and error together.

    `stopped`: which bound ended it, in a word ("time", "cpu", "memory", "processes", "disk", "output", "interrupt").
    `rest` is the file in the workspace that holds the whole output, where `output` is only its head and tail.
    """

    code: int
    output: str
    seconds: float
    stopped: str | None = None
    rest: Path | None = None


class Sandbox(Protocol):
    """Walls around a program: no network, reads of workspace and runtime alone, writes to the workspace alone."""

    @property
    def name(self) -> str:
        """Which walls: `bubblewrap`, `landlock`, `none`."""
        ...

    def run(self, argv: Sequence[str], *, folder: str = ".", stdin: str = "", bounds: Bounds | None = None) -> Finished:
        """Run a program in a folder of the workspace. Raises ToolError where it cannot be started."""
        ...


@dataclass(frozen=True, slots=True)
class Page:
    """An answer from the web. `url` is where it came from after redirects; `cut`: there was more."""

    url: str
    status: int
    content_type: str
    body: bytes
    cut: bool = False


class Web(Protocol):
    """The public web: http and https, public addresses alone, bounded in size and time."""

    def get(self, url: str, *, timeout_s: float | None = None) -> Page:
        """Fetch a page. Raises ToolError, naming the address and why it is refused or failed."""
        ...


@dataclass(frozen=True, slots=True)
class Remembered:
    """Something found: `where` names it (`example 3f2a91`, `chat 20260301T123000Z-ab12cd34`), `when` is ISO 8601."""

    where: str
    when: str
    text: str


class Memory(Protocol):
    """The user's own examples and past conversations."""

    def search(self, query: str, limit: int) -> Sequence[Remembered]:
        """The best matches first. Raises ToolError where the memory cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """A result of a search: plain text, not cleaned."""

    title: str
    url: str
    text: str


class Search(Protocol):
    """Search engines."""

    def find(self, query: str, limit: int) -> Sequence[Found]:
        """Results, none where the engines say so. Raises ToolError where no engine could be asked."""
        ...
