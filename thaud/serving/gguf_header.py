"""A GGUF file's header, read with the standard library alone: metadata, tensors, and whether they fit the file.

Format: docs/gguf.md in ggml-org/ggml, version 3, little-endian. For places that may not load numpy: the daemon, which
needs a chat template, and the fake server, which refuses what the real one refuses. Refuses to read weights.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from io import BufferedReader
from math import prod
from pathlib import Path
from typing import Any

from thaud.errors import ModelError

MAGIC = b"GGUF"
ALIGNMENT = 32
LONGEST_STRING, LONGEST_ARRAY = 16 << 20, 64 << 20
STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
UINT32, FLOAT32 = 4, 6
# Tensor type -> (values in a block, bytes of a block): F32, F16, Q4_0 ... Q8_0, the K-quants, BF16.
BLOCKS = {
    0: (1, 4),
    1: (1, 2),
    2: (32, 18),
    3: (32, 20),
    6: (32, 22),
    7: (32, 24),
    8: (32, 34),
    10: (256, 84),
    11: (256, 110),
    12: (256, 144),
    13: (256, 176),
    14: (256, 210),
    30: (1, 2),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the metadata: its GGUF type, its value, and where its bytes lie in the file."""

    kind: int
    value: Any
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: dimensions fastest first, the type's number, and its first byte counted from `Header.data_start`."""

    name: str
    dims: tuple[int, ...]
    kind: int
    offset: int

    @property
    def nbytes(self) -> int:
        """Its size in the file. Raises ModelError on a type that is not known."""
        if self.kind not in BLOCKS:
            raise ModelError(f'tensor "{self.name}" has the unknown type {self.kind}')
        values, size = BLOCKS[self.kind]
        return prod(self.dims) // values * size


@dataclass(frozen=True, slots=True)
class Header:
    """All of a file but the weights. `info_start` and `info_end` enclose the tensors' descriptions."""

    entries: Mapping[str, Entry]
    tensors: tuple[Tensor, ...]
    info_start: int
    info_end: int
    alignment: int
    file_size: int

    @property
    def data_start(self) -> int:
        """Where the weights begin."""
        return -(-self.info_end // self.alignment) * self.alignment

    def get(self, key: str, default: Any = None) -> Any:
        """A key's value, or `default`."""
        entry = self.entries.get(key)
        return default if entry is None else entry.value


class _Reader:
    """Little-endian values from a file, with the server's words where it ends too early."""

    def __init__(self, source: BufferedReader, *, keep_arrays: bool) -> None:
        self.source, self.keep_arrays = source, keep_arrays

    def bytes(self, size: int) -> bytes:
        data = self.source.read(size)
        if len(data) < size:
            raise ModelError("unexpected EOF")
        return data

    def scalar(self, layout: str) -> Any:
        return struct.unpack(layout, self.bytes(struct.calcsize(layout)))[0]

    def string(self) -> str:
        size = self.scalar("<Q")
        if size > LONGEST_STRING:
            raise ModelError(f"a string of {size} bytes in the header")
        return self.bytes(size).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind == STRING:
            return self.string()
        if kind == ARRAY:
            return self.array()
        if kind not in SCALARS:
            raise ModelError(f"a value of the unknown type {kind} in the header")
        return self.scalar(SCALARS[kind])

    def array(self) -> list[Any] | None:
        kind, count = self.scalar("<I"), self.scalar("<Q")
        if count > LONGEST_ARRAY:
            raise ModelError(f"an array of {count} values in the header")
        if kind in SCALARS:
            layout = f"<{count}{SCALARS[kind][1]}"
            data = self.bytes(struct.calcsize(layout))
            return list(struct.unpack(layout, data)) if self.keep_arrays else None
        kept = [item for _ in range(count) if (item := self.value(kind)) is not None and self.keep_arrays]
        return kept if self.keep_arrays else None

    def tensor(self) -> Tensor:
        name = self.string()
        dims = tuple(self.scalar("<Q") for _ in range(min(self.scalar("<I"), 5)))
        return Tensor(name, dims, self.scalar("<I"), self.scalar("<Q"))


def is_gguf(path: Path) -> bool:
    """Whether the file begins as a GGUF does."""
    with path.open("rb") as source:
        return source.read(4) == MAGIC


def read_header(path: Path, *, keep_arrays: bool = False) -> Header:
    """Read everything before the weights; arrays (the vocabulary) only where they are asked for.

    Raises ModelError on a file that is no GGUF v3, is cut short, or describes more than it holds.
    """
    with path.open("rb") as source:
        reader = _Reader(source, keep_arrays=keep_arrays)
        if source.read(4) != MAGIC:
            raise ModelError("supplied file was not in GGUF format")
        if (version := reader.scalar("<I")) != 3:
            raise ModelError(f"GGUF version {version} is not supported")
        tensor_count, entry_count = reader.scalar("<Q"), reader.scalar("<Q")
        entries = {}
        for _ in range(entry_count):
            start, key = source.tell(), reader.string()
            kind = reader.scalar("<I")
            entries[key] = Entry(kind, reader.value(kind), start, source.tell())
        info_start = source.tell()
        tensors = tuple(reader.tensor() for _ in range(tensor_count))
        alignment = entries["general.alignment"].value if "general.alignment" in entries else ALIGNMENT
        header = Header(entries, tensors, info_start, source.tell(), alignment, path.stat().st_size)
    check_bounds(header)
    return header


def token_of(header: Header, role: str) -> str:
    """The text of the token with a role (bos, eos, eot), empty where the file names none. Needs the arrays."""
    number = header.get(f"tokenizer.ggml.{role}_token_id")
    tokens = header.get("tokenizer.ggml.tokens") or []
    return tokens[number] if number is not None and number < len(tokens) else ""


def ends_of_turn(header: Header) -> tuple[str, ...]:
    """The texts of the tokens that end the model's turn, as its file says. Needs the arrays."""
    return tuple(dict.fromkeys(filter(None, (token_of(header, role) for role in ("eos", "eot")))))


def check_bounds(header: Header) -> None:
    """Raises ModelError where a tensor ends behind the end of the file."""
    for tensor in header.tensors:
        if (end := header.data_start + tensor.offset + tensor.nbytes) > header.file_size:
            raise ModelError(f'tensor "{tensor.name}" offset+size ({end}) exceeds file size ({header.file_size})')
