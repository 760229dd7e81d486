"""Answers held to a schema (`format`): the file is run by llama.cpp, under a grammar, as the real server does it.

The grammar is THAU's own compiler's (steps/grammar.py), and the sampler that of the embedded runtime. So what the
double shows is that an action's schema survives the wire, and that what comes back by it is read and run as what it is;
nothing looks at the text on its way, and the limit breaks it off wherever it is. It does not show how tightly a real
server holds: llama.cpp's converter keeps no bounds of fractions and refuses other schemas than ours, and its sampler
lets a NUL inside of a token through. Hence calls are validated again, and the contract's tests run on real servers too.

A native server lets a model think first (THOUGHT); one with a Go template asks twice, which is answering.py's.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from thaud.errors import ModelError
from thaud.serving.fake.protocol import Refusal
from thaud.steps.grammar import schema_grammar
from thaud.steps.llama import LlamaModel
from thaud.steps.sampling import Sampling

ROOT = "root ::="
THOUGHT = r"""
root ::= thought? answer
thought ::= "<think>" ([^<] | "<" [^/])* "</think>" [\n]*
"""
TEMPERATURE, RANDOM_SEED = 0.8, 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Held:
    """What was said under a grammar: whole characters, a token each or more, and whether it came to an end."""

    texts: tuple[str, ...]
    ended: bool


@dataclass
class Presses:
    """The files that were run under a grammar, kept loaded; one speaks at a time. `close` frees them."""

    _loaded: dict[tuple[Path, int], LlamaModel] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _lock: Lock = field(default_factory=Lock)

    def say(
        self, path: Path, context: int, prompt: str, limit: int, shape: Any, options: Mapping[str, Any], *, thinks: bool
    ) -> Held:
        """What the file at `path` says to a prompt under a schema, or "json". `thinks`: a thought may come first.

        Raises Refusal where no grammar can be made of the schema, or the file does not load.
        """
        grammar = grammar_of(shape, thinks=thinks)
        seed = int(options.get("seed", RANDOM_SEED)) & RANDOM_SEED
        sampling = Sampling(float(options.get("temperature", TEMPERATURE)), seed)
        with self._lock:
            try:
                model = self._model(path, context)
                said = list(model.generate(model.encode_whole(prompt), limit, sampling, grammar))
            except ModelError as error:
                raise Refusal(500, str(error)) from error
        return Held(tuple(text for text, _ in said if text), said[-1][1] == "stop")

    def _model(self, path: Path, context: int) -> LlamaModel:
        if (path, context) not in self._loaded:
            self._loaded[path, context] = self._stack.enter_context(LlamaModel(path, context, threads=1))
        return self._loaded[path, context]

    def close(self) -> None:
        """Free the files."""
        with self._lock:
            self._loaded.clear()
            self._stack.close()


def grammar_of(shape: Any, *, thinks: bool) -> str:
    """GBNF of a schema, or of "json", which is any object. Raises Refusal."""
    try:
        grammar = schema_grammar({"type": "object"} if shape == "json" else shape)
    except ModelError as error:
        raise Refusal(400, f"failed to parse grammar: JSON schema conversion failed: {error}") from error
    return grammar.replace(ROOT, "answer ::=") + THOUGHT if thinks else grammar
