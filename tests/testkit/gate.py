"""Asks llama.cpp whether a grammar lets a text through: byte by byte, and at its end whether it may end there."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.steps.llama import LlamaModel
from thaud.steps.sampling import Sampler, Sampling


@dataclass(frozen=True, slots=True)
class Gate:
    """A model whose tokens are the bytes, and some tags."""

    model: LlamaModel

    @contextmanager
    def sampler(self, grammar: str) -> Iterator[Sampler]:
        """llama.cpp's own samplers under a grammar. Raises ModelError where it refuses that."""
        model = self.model
        made = Sampler(model._lib, model._vocab, model._context, Sampling(), grammar)
        try:
            yield made
        finally:
            made.close()

    def lets(self, grammar: str, text: str | bytes) -> bool:
        """Whether all of a text may be said, and then nothing more need be."""
        return self.reach(grammar, text) == (len(text.encode() if isinstance(text, str) else text), True)

    def reach(self, grammar: str, text: str | bytes) -> tuple[int, bool]:
        """How many bytes of a text may be said, and whether the end may follow them."""
        data = text.encode() if isinstance(text, str) else text
        with self.sampler(grammar) as sampler:
            for at, byte in enumerate(data):
                if not sampler._permitted(byte):
                    return at, False
                sampler._accept(byte)
            return len(data), sampler._permitted(self.end)

    def permits(self, grammar: str, before: str, token: str) -> bool:
        """Whether one token may follow a text."""
        (wanted,) = self.model.encode_whole(token)
        with self.sampler(grammar) as sampler:
            for byte in before.encode():
                sampler._accept(byte)
            return sampler._permitted(wanted)

    @property
    def end(self) -> int:
        """The token that ends a turn."""
        (end,) = self.model.encode_whole("<|im_end|>")
        return end


@contextmanager
def open_gate(folder: Path) -> Iterator[Gate]:
    """A gate, whose file is written into a folder."""
    write_scripted_gguf(folder / "gate.gguf", ["unused"])
    with LlamaModel(folder / "gate.gguf", 128, threads=1) as model:
        yield Gate(model)
