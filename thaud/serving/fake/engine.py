"""The fake's models: it runs the scripted GGUFs of tests/testkit for real, by following their one lookup table.

Such a file's output matrix sends each token to the next: what is said begins after the prompt's last token, a newline
or one of the file's control tokens, and goes on until the end of the turn. Any other GGUF says PLACEHOLDER. So one test
speaks to the fake and to a real server, with the same file. An adapter is checked against its base and changes nothing.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from thaud.errors import ModelError
from thaud.rendering import compile_template
from thaud.serving.fake.prompts import Vocabulary
from thaud.serving.fake.protocol import Refusal
from thaud.serving.gguf_header import Header, Tensor, read_header, token_of

PLACEHOLDER = ("a fake ", "answer")
NEEDED_TENSORS = ("token_embd.weight", "output_norm.weight")
CONTROL, USER_DEFINED, END = 3, 4, "<|im_end|>"
LARGEST_TABLE = 4 << 20
Pieces = tuple[bytes | None, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model file that loads.

    scripts: ending of a prompt -> what is said then, piece by piece (None: a control token, which has no text), and
    whether it starts over.
    """

    scripts: Mapping[str, tuple[Pieces, bool]]
    template: str
    context_length: int
    words: Vocabulary
    path: Path

    def say(self, prompt: str, limit: int) -> Iterator[bytes | None]:
        """At most `limit` pieces. A scripted model says nothing to a prompt that ends as none of its scripts begins."""
        endings = [ending for ending in self.scripts if prompt.endswith(ending)]
        if not endings:
            return iter(())
        pieces, endless = self.scripts[max(endings, key=len)]
        return itertools.islice(itertools.cycle(pieces) if endless else iter(pieces), limit)


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
    return Loaded(scripted(path, header, names.get("output.weight")), template, length, vocabulary(header), path)


def vocabulary(header: Header) -> Vocabulary:
    """What templates and counting need of a file's tokens."""
    tokens = header.get("tokenizer.ggml.tokens") or []
    kinds = header.get("tokenizer.ggml.token_type") or []

    specials = (token for token, kind in zip(tokens, kinds, strict=False) if kind in {CONTROL, USER_DEFINED})
    return Vocabulary(
        token_of(header, "bos"),
        token_of(header, "eos"),
        bool(header.get("tokenizer.ggml.add_bos_token")),
        tuple(sorted(specials, key=len, reverse=True)),
        header.get("tokenizer.ggml.model") == "gpt2" and len(header.get("tokenizer.ggml.merges") or ()) <= 1,
    )


def check_template(loaded: Loaded) -> None:
    """Raises Refusal where llama-server would not start with the file's own chat template."""
    if loaded.template:
        try:
            compile_template(loaded.template)
        except ModelError as error:
            raise cannot_load(str(error)) from error


def check_adapter(base: Path, adapter: Path) -> None:
    """Raises Refusal where llama-server would not start with this adapter on this base."""
    try:
        ours, theirs = read_header(adapter), read_header(base)
    except (OSError, ModelError) as error:
        raise cannot_load(f"failed to load lora adapter: {error}") from error
    if ours.get("general.architecture") != theirs.get("general.architecture"):
        raise cannot_load("failed to load lora adapter: model arch and LoRA arch mismatch")
    known = {tensor.name for tensor in theirs.tensors}
    for tensor in ours.tensors:
        name = tensor.name.removesuffix(".lora_a").removesuffix(".lora_b")
        if name == tensor.name or name not in known:
            raise cannot_load(f"failed to load lora adapter: LoRA tensor '{tensor.name}' does not exist in base model")


def cannot_load(reason: str) -> Refusal:
    """The answer to every question to a model that does not load."""
    return Refusal(500, f"llama-server process has terminated: exit status 1: error loading model: {reason}")


def scripted(path: Path, header: Header, output: Tensor | None) -> Mapping[str, tuple[Pieces, bool]]:
    """Ending of the prompt -> what a scripted file says, and whether it starts over; PLACEHOLDER for any other file."""
    tokens = header.get("tokenizer.ggml.tokens") or []
    if output is None or output.kind != 1 or output.nbytes > LARGEST_TABLE or output.dims[1:] != (len(tokens),):
        return {"": (tuple(text.encode() for text in PLACEHOLDER), False)}
    following = lookup_table(path, header, output)
    if following is None:
        return {"": (tuple(text.encode() for text in PLACEHOLDER), False)}
    kinds = header.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    starts = {"\n": ord("\n"), **{tokens[at]: at for at in following if kinds[at] == CONTROL}}
    return {text: chain(at, following, tokens, kinds) for text, at in starts.items() if at in following}


def chain(start: int, following: Mapping[int, int], tokens: list[str], kinds: list[int]) -> tuple[Pieces, bool]:
    """What comes after a token, up to the end of the turn, and whether it comes again."""
    said: list[int] = []
    token = following.get(start)
    while token is not None and token not in said and tokens[token] != END:
        said.append(token)
        token = following.get(token)
    pieces = tuple(None if kinds[token] == CONTROL else spelled(tokens[token]) for token in said)
    return pieces, bool(said) and token == said[0]


def lookup_table(path: Path, header: Header, output: Tensor) -> Mapping[int, int] | None:
    """Token -> the next one, from a one-hot F16 matrix [next, said]; None where a token leads to several: no script."""
    width, rows = output.dims
    with path.open("rb") as source:
        source.seek(header.data_start + output.offset)
        data = source.read(output.nbytes)
    following: dict[int, int] = {}
    for row in range(rows):
        line = data[row * width * 2 : (row + 1) * width * 2]
        for said in (said for said in range(width if any(line) else 0) if any(line[said * 2 : said * 2 + 2])):
            if said in following:
                return None
            following[said] = row
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
