"""Which token comes next: llama.cpp's samplers, and a grammar that holds a reply.

Owns the native samplers of one generation. As llama.cpp's own programs do, it draws a token first and asks the grammar
about that one alone; only where it is refused is the grammar asked about others, the likeliest first, because asking
about a whole vocabulary takes as long as computing a token.

The grammar sees bytes less strictly than readers of the text will: overlong UTF-8, a NUL within a token, and control
tokens, which it takes for the text that they are spelled with. Those are refused here, wherever a grammar holds.
"""

import codecs
import ctypes
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from thaud.errors import ModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TOP_K, TOP_P = 40, 0.9  # Ollama's defaults, used where temperature is above 0
SURROGATE = re.compile(rb"\xed[\xa0-\xbf]")  # the beginning of half a character, which decoders wait for in vain
LIKELIEST = 1024  # tokens that the grammar is asked about before it is asked about all


class Sampling(NamedTuple):
    """How a token is drawn. Temperature 0 is greedy; top_k 0 and top_p 1 leave nothing out."""

    temperature: float = 0.0
    seed: int = 0
    top_k: int = TOP_K
    top_p: float = TOP_P


class Sampler:
    """Draws the tokens of one generation from `context`. Raises ModelError for a grammar that llama.cpp refuses.

    `grammar`: GBNF that what is drawn must follow from its first token on; None for none. Close it: its memory is
    native.
    """

    def __init__(self, lib: Any, vocab: Any, context: Any, sampling: Sampling, grammar: str | None = None) -> None:
        self._lib, self._vocab, self._context = lib, vocab, context
        self._grammar = self._chain = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._size = lib.llama_vocab_n_tokens(vocab)
        self._chain = make_chain(lib, sampling)
        if grammar is not None:
            self._grammar = lib.llama_sampler_init_grammar(vocab, grammar.encode(), b"root")
            if not self._grammar:
                self.close()
                raise ModelError("llama.cpp refuses the grammar of these tools: make their schemas smaller")

    def close(self) -> None:
        """Free the samplers. Safe to call twice."""
        for sampler in (self._chain, self._grammar):
            if sampler:
                self._lib.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def draw(self) -> int:
        """The next token. Raises ModelError where the grammar leaves none."""
        token = int(self._lib.llama_sampler_sample(self._chain, self._context, -1))
        if self._grammar is None:
            return token
        if not self._permitted(token):
            token = self._again(token)
        self._accept(token)
        return token

    def _accept(self, token: int) -> None:
        self._lib.llama_sampler_accept(self._grammar, token)
        if not self._ends(token):
            self._decoder.decode(piece_of(self._lib, self._vocab, token))

    def _ends(self, token: int) -> bool:
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def _permitted(self, token: int) -> bool:
        """Whether readers can read it, and the grammar lets it through."""
        if not self._readable(token):
            return False
        data = (self._lib.llama_token_data * 1)((token, 0.0, 0.0))
        array = self._lib.llama_token_data_array(data=data, size=1, selected=-1, sorted=False)
        self._lib.llama_sampler_apply(self._grammar, ctypes.byref(array))
        return bool(data[0].logit == 0.0)

    def _readable(self, token: int) -> bool:
        """Whether its bytes go on as UTF-8 from what stands before, and it is not a control token, which is silent."""
        if self._ends(token):
            return not self._decoder.getstate()[0]
        piece = piece_of(self._lib, self._vocab, token)
        if not piece or b"\0" in piece:
            return False
        state = self._decoder.getstate()
        try:
            self._decoder.decode(piece)
            return not SURROGATE.match(self._decoder.getstate()[0])
        except UnicodeDecodeError:
            return False
        finally:
            self._decoder.setstate(state)

    def _again(self, refused: int) -> int:
        """Draw another one than a token that was refused, of those that the grammar lets through."""
        import numpy as np  # noqa: PLC0415 - llama_cpp has loaded it by now

        address = self._lib.llama_get_logits_ith(self._context, -1)
        logits = np.ctypeslib.as_array(address, shape=(self._size,)).copy()
        logits[refused] = -np.inf
        asked = [np.argpartition(logits, -LIKELIEST)[-LIKELIEST:]] if self._size > LIKELIEST else []
        for ids in (*asked, np.arange(self._size)):
            left = self._let_through(ids, logits)
            while len(left):
                token = self._choose(left, logits)
                if self._readable(token):
                    return token
                left = left[left != token]
        raise ModelError("the grammar leaves no token to go on with: the vocabulary lacks some bytes")

    def _let_through(self, ids: "NDArray[np.int64]", logits: "NDArray[np.float32]") -> "NDArray[np.int64]":
        """Of some tokens, those that the grammar lets through."""
        import numpy as np  # noqa: PLC0415 - llama_cpp has loaded it by now

        rows, candidates = self._candidates(ids, logits)
        self._lib.llama_sampler_apply(self._grammar, ctypes.byref(candidates))
        left: NDArray[np.int64] = ids[rows["logit"] > -np.inf]
        return left

    def _choose(self, ids: "NDArray[np.int64]", logits: "NDArray[np.float32]") -> int:
        _, candidates = self._candidates(ids, logits)
        self._lib.llama_sampler_apply(self._chain, ctypes.byref(candidates))
        return int(candidates.data[candidates.selected].id)

    def _candidates(self, ids: "NDArray[np.int64]", logits: "NDArray[np.float32]") -> "tuple[NDArray[Any], Any]":
        """llama.cpp's array of some tokens, and the rows that it lies on."""
        import numpy as np  # noqa: PLC0415

        rows = np.zeros(len(ids), dtype=[("id", np.int32), ("logit", np.float32), ("p", np.float32)])
        rows["id"], rows["logit"] = ids, logits[ids]
        data = (self._lib.llama_token_data * len(ids)).from_buffer(rows)
        return rows, self._lib.llama_token_data_array(data=data, size=len(ids), selected=-1, sorted=False)


def make_chain(lib: Any, sampling: Sampling) -> Any:
    """llama.cpp's samplers in a chain: greedy, or top-k, top-p, temperature and chance."""
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    parts = [lib.llama_sampler_init_greedy()]
    if sampling.temperature > 0:
        lib.llama_sampler_free(parts.pop())
        parts = [
            lib.llama_sampler_init_top_k(sampling.top_k),
            lib.llama_sampler_init_top_p(sampling.top_p, 1),
            lib.llama_sampler_init_temp(sampling.temperature),
            lib.llama_sampler_init_dist(sampling.seed),
        ]
    for part in parts:
        lib.llama_sampler_chain_add(chain, part)
    return chain


def piece_of(lib: Any, vocab: Any, token: int) -> bytes:
    """A token's bytes; control tokens have none, visible tags are text."""
    room = 64
    while True:
        buffer = ctypes.create_string_buffer(room)
        size: int = lib.llama_token_to_piece(vocab, token, buffer, room, 0, False)
        if size >= 0:
            return buffer.raw[:size]
        room = -size
