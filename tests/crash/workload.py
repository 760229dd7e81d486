"""Writers as they are: they drop, append, rename in, half-write, complete, truncate, replace and drop again.

A writer remembers what it finished; what it finished must be taken in, once, whatever dies meanwhile. It destroys
nothing that a scan may not have seen yet.
"""

import gzip
import json
import os
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from thaud.domain import Example
from thaud.dropbox import write_examples
from thaud.formats import parse_line

BAD = ("{oops", '{"instruction": "sin respuesta"}', "[1, 2", '"text"', '{"messages": []}')


@dataclass
class Writer:
    """One seeded writer on one drop-box. `finished` holds the ids of valid lines, `bad` the raw invalid ones.

    `files`: the lines of each line file; `rewritten`: those of them in which lines changed places; `contents`: what
    each file holds, byte for byte.
    """

    queue: Path
    random: random.Random
    finished: set[str] = field(default_factory=set)
    bad: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    files: dict[str, list[str]] = field(default_factory=dict)
    halves: dict[str, str] = field(default_factory=dict)
    rewritten: set[str] = field(default_factory=set)
    contents: dict[str, bytes] = field(default_factory=dict)
    count: int = 0

    # Lines

    def valid(self) -> str:
        """A line that nobody has written yet; every other one in a group of paraphrases."""
        self.count += 1
        row: dict[str, object] = {
            "instruction": f"¿Cuánto es {self.count} más {self.count}?",
            "output": f"{self.count * 2}",
        }
        if self.random.random() < 0.5:
            row["group"] = f"g{self.count // 4}"
        return json.dumps(row, ensure_ascii=False)

    def some(self, most: int = 6) -> list[str]:
        """Lines for a file: valid ones, repeated ones and bad ones."""
        lines = [self.valid() for _ in range(self.random.randint(1, most))]
        if self.lines and self.random.random() < 0.3:
            lines.append(self.random.choice(self.lines))
        if self.random.random() < 0.3:
            lines.append(f"{self.random.choice(BAD)[:-1]}{self.count}")
        self.random.shuffle(lines)
        return lines

    def finish(self, lines: Iterable[str]) -> None:
        """These lines are in the drop-box, whole."""
        for line in lines:
            parsed = parse_line(line.encode())
            if isinstance(parsed, Example):
                self.finished.add(parsed.id)
                self.lines.append(line)
            else:
                self.bad.add(line)

    # Files

    def name(self, suffix: str = ".jsonl") -> str:
        """A new file's name, with an age or without."""
        self.count += 1
        age = self.random.choice(("age_0_", "age_1_", ""))
        return f"{age}{self.count:05d}{suffix}"

    def there(self) -> list[str]:
        """Our line files that are still in the drop-box."""
        return [name for name in sorted(self.files) if (self.queue / name).exists()]

    def put(self, name: str, data: bytes) -> None:
        """A whole file, renamed in."""
        part = self.queue / f"{name}.part"
        part.write_bytes(data)
        part.rename(self.queue / name)
        self.contents[name] = data

    def drop(self, most: int = 6) -> None:
        """A new file, renamed in."""
        lines, name = self.some(most), self.name()
        self.put(name, text(lines))
        self.files[name] = lines
        self.finish(lines)

    def drop_taught(self, count: int) -> None:
        """A new file of plain valid lines: enough to train on."""
        lines, name = [self.valid() for _ in range(count)], f"age_0_{self.count:05d}-t.jsonl"
        self.put(name, text(lines))
        self.files[name] = lines
        self.finish(lines)

    def drop_bad(self) -> None:
        """A new file with bad lines in it."""
        self.count += 1
        lines, name = [self.valid(), f"{{bad {self.count}", self.valid()], self.name()
        self.put(name, text(lines))
        self.files[name] = lines
        self.finish(lines)

    def write_slowly(self) -> None:
        """A new file written under its final name, line by line."""
        lines, name = self.some(), self.name()
        with (self.queue / name).open("xb", buffering=0) as file:
            for line in lines:
                file.write(text([line]))
        self.files[name], self.contents[name] = lines, text(lines)
        self.finish(lines)

    def reuse(self) -> None:
        """A new file under the name of one that has left the drop-box; both are somebody's."""
        gone = [name for name in sorted(self.files) if not (self.queue / name).exists()]
        if not gone:
            self.drop()
            return
        name, lines = self.random.choice(gone), self.some()
        self.contents[f"{name} before {self.count}"] = self.contents[name]
        self.halves.pop(name, None)
        self.rewritten.add(name)
        self.put(name, text(lines))
        self.files[name] = lines
        self.finish(lines)

    def document(self) -> None:
        """A .json array, or a compressed file, renamed in: all or nothing."""
        lines = [self.valid() for _ in range(self.random.randint(1, 4))]
        if self.random.random() < 0.5:
            self.put(self.name(".json"), f"[{','.join(lines)}]".encode())
        else:
            self.put(self.name(".jsonl.gz"), gzip.compress(text(lines)))
        self.finish(lines)

    def add(self) -> None:
        """As `thau add` does."""
        lines = [self.valid() for _ in range(self.random.randint(1, 4))]
        write_examples(self.queue, lines, self.random.choice(("age_0_added", "age_1_added", "added")))
        self.finish(lines)

    def append(self) -> None:
        """Whole lines at the end of a file that is there."""
        whole = [name for name in self.there() if name not in self.halves]
        if not whole:
            self.drop()
            return
        name, lines = self.random.choice(whole), self.some(3)
        if self.extend(name, text(lines)):
            self.files[name] += lines
            self.finish(lines)

    def extend(self, name: str, data: bytes) -> bool:
        """Append to a file; False where it had left the drop-box by then, as a shell's `>>` could see for itself."""
        try:
            descriptor = os.open(self.queue / name, os.O_WRONLY | os.O_APPEND)
        except FileNotFoundError:
            return False
        try:
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
        self.contents[name] += data
        return True

    def gone_to(self, trained: Path) -> list[str]:
        """Our whole line files that were moved there as they are."""
        gone = [name for name in sorted(self.files) if name not in self.halves and not (self.queue / name).exists()]
        return [name for name in gone if holds(trained / name, self.contents[name])]

    def go_on(self, trained: Path) -> bool:
        """A line more by a program that holds a trained file open; False where there is none."""
        for name in self.gone_to(trained)[-1:]:
            line = self.valid()
            with (trained / name).open("ab") as file:
                file.write(text([line]))
            self.contents[name] += text([line])
            self.files[name].append(line)
            self.finish([line])
            return True
        return False

    def half(self) -> None:
        """The first half of a line, without its end."""
        whole = [name for name in self.there() if name not in self.halves]
        if not whole:
            self.drop()
            return
        name, line = self.random.choice(whole), self.valid()
        cut = len(line) // 2
        if self.extend(name, line[:cut].encode()):
            self.halves[name] = line[cut:]
            self.files[name].append(line)

    def complete(self) -> None:
        """The other half."""
        for name in [name for name in sorted(self.halves) if (self.queue / name).exists()]:
            if self.extend(name, text([self.halves.pop(name)])):
                self.finish(self.files[name][-1:])

    def replace(self) -> None:
        """A file renamed over another one, with its lines and more, in another order."""
        whole = [name for name in self.there() if name not in self.halves]
        if not whole:
            self.drop()
            return
        name = self.random.choice(whole)
        lines = [*self.files[name], *self.some(3)]
        self.random.shuffle(lines)
        self.rewritten.add(name)
        self.put(name, text(lines))
        self.files[name] = lines
        self.finish(lines)

    def truncate(self) -> None:
        """A file whose lines have all been taken in, cut short and written on."""
        seen = [name for name in self.there() if name not in self.halves and self.all_known(self.files[name])]
        if not seen:
            self.drop()
            return
        name, more = self.random.choice(seen), self.some(3)
        kept = self.files[name][: self.random.randint(0, 2)]
        try:
            with (self.queue / name).open("r+b") as file:
                file.truncate(len(text(kept)))
                file.seek(0, os.SEEK_END)
                file.write(text(more))
        except FileNotFoundError:
            return
        self.rewritten.add(name)
        self.files[name], self.contents[name] = [*kept, *more], text([*kept, *more])
        self.finish(more)

    def all_known(self, lines: Iterable[str]) -> bool:
        """Whether the oracle saw all the valid ones in the ledger."""
        parsed = (parse_line(line.encode()) for line in lines)
        return all(each.id in self.known if isinstance(each, Example) else False for each in parsed)

    def again(self) -> None:
        """A copy of what was there before."""
        if self.lines:
            lines = self.random.sample(self.lines, min(3, len(self.lines)))
            self.put(self.name(), text(lines))

    def act(self) -> None:
        """Something of all this."""
        acts: tuple[Callable[[], None], ...] = (
            self.drop,
            self.drop,
            self.write_slowly,
            self.document,
            self.add,
            self.append,
            self.append,
            self.half,
            self.complete,
            self.replace,
            self.reuse,
            self.truncate,
            self.again,
        )
        self.random.choice(acts)()


def holds(path: Path, data: bytes) -> bool:
    """Whether a file is there and holds this."""
    return path.is_file() and path.read_bytes() == data


def text(lines: Iterable[str]) -> bytes:
    """A file's bytes."""
    return "".join(f"{line}\n" for line in lines).encode()
