"""Where a training stands, kept on disk, so that one that was killed goes on and ends with the bytes it would have had.

    WORKDIR/checkpoints/00000120/tensors.safetensors, state.json, manifest.json

Owns these folders: the order in which one is written (the manifest, with the digests of the others, last), which one
counts, and which go. A checkpoint is insurance: what the disk refuses is said, and the training goes on without it.
Refuses to know torch, and what the parts of a training keep in their states.
"""

import hashlib
import json
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from thaud.durable import fsync_folder, make_folder, put_in_place, remove
from thaud.failpoints import reach
from thaud.steps.contract import CHECKPOINTS, Emit

TENSORS, STATE, MANIFEST = "tensors.safetensors", "state.json", "manifest.json"
FORMAT = 1
KEPT = 2
KINDS = {"float32": "F32", "float64": "F64", "int64": "I64", "uint32": "U32", "uint8": "U8"}  # safetensors' names


class Part(Protocol):
    """What has a state that a training needs to go on."""

    def state(self) -> Mapping[str, Any]:
        """Flat: JSON values, and arrays of numpy or torch, which are not copied."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Stand where a state was taken. Its arrays are numpy's, read from disk each time they are looked up."""
        ...


class Kept(Mapping[str, Any]):
    """A part's state as it lies on disk."""

    def __init__(self, values: Mapping[str, Any], tensors: Any, prefix: str) -> None:
        self.values_, self.tensors, self.prefix = values, tensors, prefix
        self.names = [name.removeprefix(prefix) for name in list(tensors.keys()) if name.startswith(prefix)]

    def __getitem__(self, key: str) -> Any:
        return self.tensors.get_tensor(self.prefix + key) if key in self.names else self.values_[key]

    def __iter__(self) -> Iterator[str]:
        return iter([*self.values_, *self.names])

    def __len__(self) -> int:
        return len(self.values_) + len(self.names)


class Sink:
    """A file that is being written durably, with the digest taken on the way. Use it as a context manager."""

    def __init__(self, path: Path) -> None:
        self.file, self.hash, self.size = path.open("wb"), hashlib.sha256(), 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, data: Any) -> None:
        """Add bytes, or whatever shows itself as such. Raises OSError."""
        self.file.write(data)
        self.hash.update(data)
        self.size += len(data)

    def finish(self) -> dict[str, Any]:
        """What the manifest says of the file, once the disk has it. Raises OSError."""
        self.file.flush()
        os.fsync(self.file.fileno())
        return {"sha256": self.hash.hexdigest(), "bytes": self.size}


@dataclass
class Checkpoints:
    """One training's checkpoints, in `folder`. `mark` says what must be the same for one to count, and is asked only
    when the first is looked at or written; `every_s` is the least time between two. Where `writes` is False another
    process of the same training keeps them. `good` are those that count, oldest first.
    """

    folder: Path
    parts: Mapping[str, Part]
    mark: Callable[[], Mapping[str, Any]]
    every_s: float
    tell: Emit
    writes: bool = True
    good: list[Path] = field(default_factory=list)
    _mark: Mapping[str, Any] | None = None
    _last: float = field(default_factory=time.monotonic)

    def resume(self) -> int:
        """Stand at the newest sound checkpoint; the steps that it spares, 0 where there is none.

        Those that are passed over are named, each with why, and removed.
        """
        found = sorted((each for each in listed(self.folder) if is_checkpoint(each)), reverse=True)
        for place, each in enumerate(found):
            if wrong := complaint(each, self.marked()):
                self.tell("checkpoint_passed_over", checkpoint=each.name, reason=wrong)
                continue
            self.load(each)
            self.good = found[place:][::-1]
            self.sweep()
            self.tell("resumed", checkpoint=each.name, steps=int(each.name))
            return int(each.name)
        self.sweep()
        return 0

    def marked(self) -> Mapping[str, Any]:
        """What must be the same, asked for once; as JSON gives it back."""
        if self._mark is None:
            self._mark = json.loads(json.dumps({"format": FORMAT, **self.mark()}))
        return self._mark

    def load(self, folder: Path) -> None:
        """Have every part stand where a sound checkpoint was taken."""
        from safetensors import safe_open  # noqa: PLC0415 - only for a training that was interrupted

        values = json.loads((folder / STATE).read_bytes())
        with safe_open(folder / TENSORS, framework="np") as tensors:
            for name, part in self.parts.items():
                part.restore(Kept(values[name], tensors, f"{name}/"))

    def keep_where_due(self, step: int) -> None:
        """Write one if the last is old enough, or was never."""
        if time.monotonic() - self._last >= self.every_s:
            self.keep(step)

    def keep(self, step: int) -> bool:
        """Write a checkpoint of so many steps, then let go of all but the last two. False where the disk refused: what
        was written of it is gone again, and the ones before stay.
        """
        began, folder = time.monotonic(), self.folder / f"{step:08}"
        if not self.writes or folder in self.good:
            return self.writes
        try:
            size = self.write(folder, step)
        except OSError as error:
            with suppress(OSError):
                remove(folder)
            self.tell("checkpoint_failed", steps=step, reason=error.strerror or str(error))
            return False
        finally:
            self._last = time.monotonic()
        self.good.append(folder)
        self.sweep()
        self.tell("checkpoint", steps=step, bytes=size, seconds=round(time.monotonic() - began, 3))
        return True

    def write(self, folder: Path, step: int) -> int:
        """Write a checkpoint; its size in bytes. Raises OSError."""
        reach("file.checkpoint.before")
        remove(folder)  # one that was passed over, and that the disk would not let go
        make_folder(folder)
        values, tensors = self.taken()
        files = {TENSORS: write_tensors(folder / TENSORS, tensors), STATE: write_json(folder / STATE, values)}
        fsync_folder(folder)
        temporary = folder / f".{MANIFEST}.tmp"
        written = write_json(temporary, {"steps": step, "mark": self.marked(), "files": files})
        put_in_place(temporary, folder / MANIFEST, "checkpoint")
        return sum(each["bytes"] for each in (*files.values(), written))

    def taken(self) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """The states of all parts: JSON values by part, arrays by the name that they have on disk."""
        values: dict[str, dict[str, Any]] = {}
        tensors: dict[str, Any] = {}
        for name, part in self.parts.items():
            values[name] = {}
            for key, value in part.state().items():
                if hasattr(value, "dtype"):
                    tensors[f"{name}/{key}"] = value
                else:
                    values[name][key] = value
        return values, tensors

    def sweep(self) -> None:
        """Remove all but the last sound ones, whatever it is. What the disk will not let go is tried again the next
        time.
        """
        del self.good[:-KEPT]
        for each in listed(self.folder) if self.writes else ():
            if each not in self.good:
                with suppress(OSError):
                    reach("remove.checkpoint.before")
                    remove(each)
                    reach("remove.checkpoint.after")


def discard(workdir: Path) -> None:
    """Remove all checkpoints of a workdir whose step has its result. What stays is swept up at the daemon's start."""
    if os.path.lexists(workdir / CHECKPOINTS):
        with suppress(OSError):
            reach("remove.checkpoint.before")
            remove(workdir / CHECKPOINTS)
            reach("remove.checkpoint.after")


def listed(folder: Path) -> list[Path]:
    """What is in a folder, which need not be there; where it is no folder, it alone. Nothing where it is refused."""
    try:
        return list(folder.iterdir())
    except NotADirectoryError:
        return [folder]
    except OSError:
        return []


def is_checkpoint(path: Path) -> bool:
    """Whether it may be one: a folder of its own, with a number for a name."""
    return path.name.isdecimal() and path.is_dir() and not path.is_symlink()


def complaint(folder: Path, mark: Mapping[str, Any]) -> str | None:
    """Why a checkpoint does not count, None where it does."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        other = [key for key, value in mark.items() if manifest["mark"].get(key) != value]
        if other:
            return f"it is of another {', '.join(other)}"
        wrong = [name for name, said in manifest["files"].items() if not is_sound(folder / name, said)]
        sound = manifest["files"].keys() >= {TENSORS, STATE} and manifest["steps"] == int(folder.name)
    except FileNotFoundError:
        return "it was not written to its end"
    except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return "its manifest is damaged"
    if wrong:
        return f"{wrong[0]} is damaged"
    return None if sound else "its manifest is damaged"


def is_sound(path: Path, said: Mapping[str, Any]) -> bool:
    """Whether a file is there and is what its manifest says."""
    try:
        if path.stat().st_size != said["bytes"]:
            return False
        with path.open("rb") as file:
            return bool(hashlib.file_digest(file, "sha256").hexdigest() == said["sha256"])
    except OSError:
        return False


def write_json(path: Path, values: Any) -> dict[str, Any]:
    """Numbers come back as they were: Python writes the shortest digits that give the same float. Raises OSError."""
    with Sink(path) as sink:
        sink.write(json.dumps(values).encode())
        return sink.finish()


def write_tensors(path: Path, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """A safetensors file, each array straight from its memory: the library's own writer copies all of them first.

    Format: https://huggingface.co/docs/safetensors, 8 bytes of length, a JSON header, the data. Raises OSError.
    """
    header: dict[str, Any] = {}
    at = 0
    for name, tensor in tensors.items():
        kind = KINDS[str(tensor.dtype).removeprefix("torch.")]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with Sink(path) as sink:
        sink.write(struct.pack("<Q", len(head)) + head)
        for tensor in tensors.values():
            sink.write(bytes_of(tensor))
        return sink.finish()


def bytes_of(tensor: Any) -> memoryview:
    """What an array of numpy or torch holds, without a copy where it lies in this machine's memory in order."""
    array = tensor.detach().cpu().numpy() if hasattr(tensor, "detach") else tensor
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
