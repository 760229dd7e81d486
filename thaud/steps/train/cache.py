"""Tokens of examples, kept from one run to the next.

Owns the table that a run fills and the file it is kept in: flat arrays behind a checksum, found by the digest of what
decides tokens (tokenizer, template, our own code) and, in it, by that of each example's content. What is damaged,
foreign or of other tokenizers is as good as absent. There are SLOTS files at most, each with the examples of the last
run that used it. Refuses to know models, masks and contexts.
"""

import hashlib
import json
import struct
import sys
from array import array
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from thaud.durable import make_folder, write_durably
from thaud.steps.tokenizer import BaseTokenizer

VERSION = 1  # of what rendering.py, tokenizer.py and data.py make of an example: raise it where that changes
SLOTS = 4
MAGIC = b"THAUTOK1"
HEAD = struct.Struct("<8s32s32s3Q")  # magic, SHA-256 of what follows it, tokenizer's digest, examples, turns, ids
KEY_BYTES = 16
TURN = 4


class Tokens(NamedTuple):
    """One example, tokenised. `ids`, int32: its lessons, one after the other. `turns`, int32 [turns, 4]: where in `ids`
    a turn's lesson begins; where in that lesson what the turn says begins and ends; how many messages there are up to
    it.

    `limit`: a turn that ends beyond so many tokens has no ids, and turns after it may be missing; 0: all are there.
    """

    ids: Sequence[int] | NDArray[np.int32]
    turns: Sequence[Sequence[int]]
    limit: int


class Table:
    """The tokens of many examples in flat arrays, in the order in which they were added."""

    def __init__(self) -> None:
        self.keys = bytearray()
        self.limits = array("i")
        self.ids, self.id_ends = array("i"), array("q", [0])
        self.turns, self.turn_ends = array("i"), array("q", [0])

    def __len__(self) -> int:
        return len(self.limits)

    def add(self, key: bytes, tokens: Tokens) -> None:
        """Add one example's."""
        self.keys += key
        self.limits.append(tokens.limit)
        if isinstance(tokens.ids, np.ndarray):
            self.ids.frombytes(tokens.ids.tobytes())
        else:
            self.ids.extend(tokens.ids)
        for turn in tokens.turns:
            self.turns.extend(turn)
        self.id_ends.append(len(self.ids))
        self.turn_ends.append(len(self.turns) // TURN)


class Shelf:
    """What an earlier run kept: tokens by key."""

    def __init__(self, table: Mapping[str, NDArray[Any]]) -> None:
        self.limits, self.ids, self.turns = table["limits"], table["ids"], table["turns"].reshape(-1, TURN)
        self.id_ends, self.turn_ends = table["id_ends"], table["turn_ends"]
        keys = table["keys"].view(np.uint64).reshape(-1, 2)
        self.order = np.argsort(keys[:, 0], kind="stable")
        self.firsts, self.seconds = keys[self.order, 0], keys[self.order, 1]

    def __len__(self) -> int:
        return len(self.limits)

    def find(self, key: bytes, context_tokens: int) -> Tokens | None:
        """An example's tokens, where they are here and go as far as this context."""
        first, second = np.frombuffer(key, np.uint64)
        place = int(np.searchsorted(self.firsts, first))
        if place == len(self.firsts) or self.firsts[place] != first or self.seconds[place] != second:
            return None
        number = int(self.order[place])
        limit = int(self.limits[number])
        if limit and context_tokens > limit:
            return None
        ids = self.ids[self.id_ends[number] : self.id_ends[number + 1]]
        turns = self.turns[self.turn_ends[number] : self.turn_ends[number + 1]]
        return Tokens(ids, turns.tolist(), limit)


NOTHING = Tokens((), (), 0)


def key_of(content: Mapping[str, Any]) -> bytes:
    """What an example's tokens are found by. Its fields' order counts, because templates show it."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


def digest_of(tokenizer: BaseTokenizer) -> bytes:
    """SHA-256 of what decides the tokens of every example."""
    roles = [tokenizer.special("bos"), tokenizer.special("eos"), sorted(tokenizer.control)]
    tools = [VERSION, sys.byteorder, version("tokenizers"), version("jinja2")]
    said = json.dumps([tools, tokenizer.template, roles, tokenizer.definition], ensure_ascii=False)
    return hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()


def file_in(folder: Path, digest: bytes) -> Path:
    """The file for a tokenizer; another one may have the same, and then takes its place."""
    return folder / f"tokens-{digest[0] % SLOTS}.bin"


def load(folder: Path, digest: bytes) -> Shelf | None:
    """What was kept for a tokenizer; None where there is nothing sound."""
    path = file_in(folder, digest)
    try:
        data = path.read_bytes() if path.is_file() else b""
    except OSError:
        return None
    if len(data) < HEAD.size:
        return None
    magic, checksum, found, examples, turns, ids = HEAD.unpack_from(data)
    if (magic, found) != (MAGIC, digest) or checksum != hashlib.sha256(memoryview(data)[40:]).digest():
        return None
    return shelf_of(data, examples, turns, ids)


def shelf_of(data: bytes, examples: int, turns: int, ids: int) -> Shelf | None:
    """The arrays behind a sound header; None where they do not fit each other."""
    layout = {
        "keys": (np.uint8, KEY_BYTES * examples),
        "limits": (np.int32, examples),
        "id_ends": (np.int64, examples + 1),
        "turn_ends": (np.int64, examples + 1),
        "turns": (np.int32, TURN * turns),
        "ids": (np.int32, ids),
    }
    sizes = [np.dtype(kind).itemsize * count for kind, count in layout.values()]
    if len(data) != HEAD.size + sum(sizes):
        return None
    starts = [HEAD.size + sum(sizes[:number]) for number in range(len(sizes))]
    return Shelf(
        {
            name: np.frombuffer(data, kind, count, start)
            for (name, (kind, count)), start in zip(layout.items(), starts, strict=True)
        }
    )


def keep(folder: Path, digest: bytes, table: Table) -> str | None:
    """Put a run's table in the place of what was kept. Why that cannot be, where it cannot: a run does not need it."""
    arrays = (table.keys, table.limits, table.id_ends, table.turn_ends, table.turns, table.ids)
    body = b"".join(memoryview(each).cast("B") for each in arrays)
    counts = struct.pack("<3Q", len(table), len(table.turns) // TURN, len(table.ids))
    checksum = hashlib.sha256(digest + counts + body).digest()
    try:
        make_folder(folder)
        write_durably(file_in(folder, digest), MAGIC + checksum + digest + counts + body, "tokens")
    except OSError as error:
        return f"{error.strerror}: {folder}"
    return None
