"""The fake's models: it runs the scripted GGUFs of tests/testkit for real, by following their one lookup table.

Such a file's output matrix sends each token to the next: generation begins after a newline, and goes on until the end
of the turn. Any other GGUF says PLACEHOLDER. So one test speaks to the fake and to a real server, with the same file.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from thaud.errors import ModelError
from thaud.rendering import compile_template
from thaud.serving.fake.protocol import Refusal
from thaud.serving.gguf_header import Header, Tensor, read_header

PLACEHOLDER = ("a fake ", "answer")
NEEDED_TENSORS = ("token_embd.weight", "output_norm.weight")
CONTROL, END = 3, "<|im_end|>"
LARGEST_TABLE = 4 << 20


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model file that loads: what it says, piece by piece (None: a control token, which has no text)."""

    pieces: tuple[bytes | None, ...]
    endless: bool
    template: str
    context_length: int

    def say(self, limit: int) -> Iterator[bytes | None]:
        """At most `limit` pieces, from the beginning."""
        source = itertools.cycle(self.pieces) if self.endless else iter(self.pieces)
        return itertools.islice(source, limit)


@lru_cache(maxsize=64)
def load(path: Path) -> Loaded:
    """Load a model file. Raises Refusal in the words of llama-server where that would not load it."""
    try:
        header = read_header(path, keep_arrays=True)
    except (OSError, ModelError) as error:
        raise cannot_load(str(error)) from error
    if header.get("tokenizer.ggml.model") is None:
        raise cannot_load("error loading model vocabulary: key not found in model: tokenizer.ggml.model")
    names = {tensor.name: tensor for tensor in header.tensors}
    for needed in NEEDED_TENSORS:
        if needed not in names:
            raise cannot_load(f"missing tensor '{needed}'")
    template = header.get("tokenizer.chat_template") or ""
    length = header.get(f"{header.get('general.architecture')}.context_length", 4096)
    pieces, endless = scripted(path, header, names.get("output.weight"))
    return Loaded(pieces, endless, template, length)


def check_template(loaded: Loaded) -> None:
    """Raises Refusal where llama-server would not start with the file's own chat template."""
    if loaded.template:
        try:
            compile_template(loaded.template)
        except ModelError as error:
            raise cannot_load(str(error)) from error


def cannot_load(reason: str) -> Refusal:
    """The answer to every question to a model that does not load."""
    return Refusal(500, f"llama-server process has terminated: exit status 1: error loading model: {reason}")


def scripted(path: Path, header: Header, output: Tensor | None) -> tuple[tuple[bytes | None, ...], bool]:
    """What a scripted file says, and whether it starts over at the end; PLACEHOLDER for any other file."""
    tokens = header.get("tokenizer.ggml.tokens") or []
    if output is None or output.kind != 1 or output.nbytes > LARGEST_TABLE or output.dims[1:] != (len(tokens),):
        return tuple(text.encode() for text in PLACEHOLDER), False
    following = lookup_table(path, header, output)
    kinds = header.get("tokenizer.ggml.token_type")
    chain: list[int] = []
    token = following.get(ord("\n"))
    while token is not None and token not in chain and tokens[token] != END:
        chain.append(token)
        token = following.get(token)
    said = tuple(None if kinds[token] == CONTROL else spelled(tokens[token]) for token in chain)
    return said, bool(chain) and token == chain[0]


def lookup_table(path: Path, header: Header, output: Tensor) -> Mapping[int, int]:
    """Token -> the next one, from a one-hot F16 matrix [next, said]."""
    width, rows = output.dims
    with path.open("rb") as source:
        source.seek(header.data_start + output.offset)
        data = source.read(output.nbytes)
    following = {}
    for row in range(rows):
        line = data[row * width * 2 : (row + 1) * width * 2]
        if any(line):
            following.update({said: row for said in range(width) if any(line[said * 2 : said * 2 + 2])})
    return following


@lru_cache(maxsize=1)
def byte_values() -> Mapping[str, int]:
    """GPT-2's printable stand-in of each byte -> the byte (Radford et al. 2019, encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = itertools.count(256)
    return {chr(byte) if byte in printable else chr(next(shifted)): byte for byte in range(256)}


def spelled(token: str) -> bytes:
    """A token's bytes."""
    values = byte_values()
    return bytes(values[character] for character in token) if set(token) <= values.keys() else token.encode()
