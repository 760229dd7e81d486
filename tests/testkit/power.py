"""What a disk that loses power would keep: the order of write, fsync, rename and commit, from a trace of system calls.

    strace -D -f -y -s 0 -e trace=CALLS -o TRACE command...

A call that sleeps is cut in two by strace; an fsync counts where it returns, all else where it begins.
"""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

WRITES = {"write", "pwrite64", "writev", "sendfile", "copy_file_range", "ftruncate"}
SYNCS = {"fsync", "fdatasync"}
RENAMES = {"rename", "renameat", "renameat2", "link", "linkat"}
REMOVALS = {"unlink", "unlinkat"}
CALLS = ",".join(sorted(WRITES | SYNCS | RENAMES | REMOVALS))
LINE = re.compile(r"(?P<thread>\d+) +(?P<name>\w+)\((?P<rest>.*)")
RESUMED = re.compile(r"(?P<thread>\d+) +<\.\.\. (?P<name>\w+) resumed>(?P<rest>.*)")
OPEN_FILE = re.compile(r"\d+<([^>]*)>")
NAME = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, slots=True)
class Call:
    """One call that succeeded: its thread, its name, and the files that it is about."""

    thread: int
    name: str
    files: tuple[str, ...]


def strace(trace: Path) -> list[str]:
    """What a command is put behind, to be traced with its children into a file. It keeps its process id."""
    return ["strace", "-D", "-f", "-y", "-s", "0", "-e", f"trace={CALLS}", "-e", "signal=none", "-o", str(trace)]


def why_not(folder: Path) -> str | None:
    """Why nothing can be traced here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed: apt-get install strace"
    trace = folder / "try"
    tried = subprocess.run([*strace(trace), sys.executable, "-c", ""], capture_output=True, text=True, check=False)
    return None if tried.returncode == 0 else f"ptrace is forbidden here: {tried.stderr.strip()}"


def calls(lines: Iterable[str]) -> Iterator[Call]:
    """The calls of a trace, in their order."""
    begun: dict[int, str] = {}
    for line in lines:
        if found := RESUMED.match(line):
            thread, rest = int(found["thread"]), begun.pop(int(found["thread"]), "") + found["rest"]
            if found["name"] in SYNCS:
                yield from call(thread, found["name"], rest)
        elif found := LINE.match(line):
            thread, rest = int(found["thread"]), found["rest"]
            if "<unfinished ...>" in rest:
                begun[thread] = rest.partition("<unfinished ...>")[0]
                if found["name"] not in SYNCS:
                    yield from call(thread, found["name"], f"{begun[thread]}) = 0")
            else:
                yield from call(thread, found["name"], rest)


def call(thread: int, name: str, rest: str) -> Iterator[Call]:
    """A call, if it succeeded."""
    arguments, _, result = rest.rpartition(" = ")
    if not result.startswith("-1"):
        named = NAME.findall(arguments) if name in RENAMES | REMOVALS else OPEN_FILE.findall(arguments)[:1]
        yield Call(thread, name, tuple(named))


@dataclass
class Disk:
    """Follows a trace and complains. Only files under `root` count."""

    root: str
    wet: set[str] = field(default_factory=set)  # written and not fsynced
    unnamed: dict[int, set[str]] = field(default_factory=dict)  # thread -> folders whose new names are not fsynced
    uncommitted: set[int] = field(default_factory=set)  # threads that wrote into the WAL and did not fsync it
    complaints: list[str] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)
    commits: int = 0

    def follow(self, trace: Iterable[Call]) -> "Disk":
        """Take all calls."""
        for each in trace:
            files = tuple(file for file in each.files if file.startswith(self.root))
            if files and not files[0].endswith("-shm"):
                self.take(Call(each.thread, each.name, files))
        self.complaints += [
            f"the name in {folder} is never fsynced" for left in self.unnamed.values() for folder in left
        ]
        return self

    def take(self, each: Call) -> None:
        """One call."""
        wal = each.files[0].endswith("-wal")
        if each.name in SYNCS:
            self.sync(each, wal=wal)
        elif each.name in WRITES and wal:
            if each.name != "ftruncate":  # a log that was carried over is emptied, which commits nothing
                self.expect_named(each, "a commit")
                self.uncommitted.add(each.thread)
        elif each.name in WRITES:
            self.expect_committed(each)
            self.wet.add(each.files[0])
        elif each.name in REMOVALS:
            self.expect_committed(each)
            self.wet.discard(each.files[0])
        else:
            self.rename(each)

    def sync(self, each: Call, *, wal: bool) -> None:
        """An fsync of a file, of a folder, or of the WAL."""
        self.wet.discard(each.files[0])
        self.unnamed.get(each.thread, set()).discard(each.files[0])
        if wal:
            self.uncommitted.discard(each.thread)
            self.commits += 1

    def rename(self, each: Call) -> None:
        """A new name: of a file that is fsynced, by a thread that has made its former names durable."""
        old, new = each.files
        self.expect_committed(each)
        self.expect_named(each, f"the rename to {new}")
        if old in self.wet:
            self.complaints.append(f"{new} got its name before its bytes were fsynced")
        self.wet.discard(old)
        self.unnamed.setdefault(each.thread, set()).add(str(Path(new).parent))
        self.renamed.append(new)

    def expect_named(self, each: Call, what: str) -> None:
        """No folder is left to fsync."""
        if left := self.unnamed.get(each.thread):
            self.complaints.append(f"{what} came before the fsync of {sorted(left)}")
            left.clear()

    def expect_committed(self, each: Call) -> None:
        """Nothing is said or done on the strength of a commit that is not fsynced."""
        if each.thread in self.uncommitted and not is_ledger(each.files[0]):
            self.complaints.append(f"{each.name} of {each.files[0]} came before the fsync of the commit before it")
            self.uncommitted.discard(each.thread)


def is_ledger(file: str) -> bool:
    """Whether SQLite writes it."""
    return Path(file).name.startswith("ledger.sqlite3")


def read_trace(path: Path) -> Sequence[Call]:
    """All calls of a trace."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return list(calls(lines))
