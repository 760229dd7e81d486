"""A GGUF in llama.cpp, or a GGUF LoRA on one: load it quietly, encode pieces, generate, take logits.

Shared by certificate, exam and embedded runtime, so that what is examined is what is served. Owns the native library's
handles and its log; refuses to know graders and tools. It speaks llama.cpp's C interface, because the Python class
above it prints to the process's own standard error and keeps a matrix of logits for the whole batch.
"""

import codecs
import ctypes
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from thaud.errors import ModelError, OverfullError
from thaud.rendering import CHATML, Piece, Renderer
from thaud.steps.contract import usable_cores
from thaud.steps.sampling import Sampler, Sampling, piece_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BATCH_TOKENS = 512
LOGITS_TOKENS = 64  # positions whose logits are kept at once: 39 MB of a vocabulary of 151,936
GREEDY = Sampling()
LOG_LEVEL_ERROR = 3
LONELY = "\U0010fffd"  # the last private character, spelled in bytes by every SentencePiece

Done = Literal["stop", "length"]
TokenKind = Literal["normal", "control", "user-defined", "unused", "unknown"]
_complaints: deque[str] = deque(maxlen=8)
_listeners: list[Any] = []  # native code calls them for as long as it lives, so they must too


@cache
def library() -> Any:
    """llama.cpp's C interface, silent: errors are kept for ModelError instead of printed."""
    from llama_cpp import _utils, llama_cpp  # noqa: PLC0415 - heavy, and only where a model is used

    for leak in ("outnull_file", "errnull_file"):  # opened on import for its Python class, and never closed
        if leaked := getattr(_utils, leak, None):
            leaked.close()
    listener = llama_cpp.llama_log_callback(_listen)
    _listeners.append(listener)
    llama_cpp.llama_log_set(listener, None)
    llama_cpp.llama_backend_init()
    return llama_cpp


def _listen(level: int, text: bytes, _data: object) -> None:
    if level == LOG_LEVEL_ERROR:
        _complaints.append(text.decode("utf-8", "replace").strip())


def open_version(gguf: Path, base_gguf: Path | None, context_tokens: int, threads: int = 0) -> "LlamaModel":
    """The model that a version's file is, or makes of `base_gguf` where it is an adapter. As LlamaModel otherwise."""
    if base_gguf is None:
        return LlamaModel(gguf, context_tokens, threads)
    return LlamaModel(base_gguf, context_tokens, threads, adapter=gguf)


class LlamaModel:
    """One loaded GGUF with one sequence. Not thread-safe: one generation at a time.

    `adapter`: a GGUF LoRA that is applied to the GGUF at `path`, whose tokenizer, template and metadata stay.
    context_tokens is capped to what the model was made for; threads 0 means all usable cores.
    Raises ModelError in one line where a file cannot be loaded, or the adapter does not fit.
    """

    def __init__(self, path: Path, context_tokens: int, threads: int = 0, adapter: Path | None = None) -> None:
        self._lib = library()
        self._model: Any = None
        self._context: Any = None
        self._lora: Any = None
        self._cached: list[int] = []
        self._threads = usable_cores(threads)
        self._outputs = 1
        self.path = path
        self.adapter = adapter
        try:
            self._load(context_tokens)
            self._make_context()
        except BaseException:
            self.close()
            raise

    def _load(self, context_tokens: int) -> None:
        lib = self._lib
        _complaints.clear()
        if not self.path.is_file():
            raise ModelError(f"{self.path}: no such file")
        self._model = lib.llama_model_load_from_file(os.fsencode(self.path), lib.llama_model_default_params())
        if not self._model:
            raise ModelError(f"llama.cpp cannot load {self.path}: {'; '.join(_complaints) or 'out of memory?'}")
        self._vocab = lib.llama_model_get_vocab(self._model)
        self.context_tokens = min(context_tokens, lib.llama_model_n_ctx_train(self._model))
        if self.adapter is not None:
            self._load_adapter(self.adapter)

    def _load_adapter(self, adapter: Path) -> None:
        if not adapter.is_file():
            raise ModelError(f"{adapter}: no such file")
        self._lora = self._lib.llama_adapter_lora_init(self._model, os.fsencode(adapter))
        if not self._lora:
            said = "; ".join(_complaints) or "out of memory?"
            raise ModelError(f"llama.cpp cannot apply the adapter {adapter} to {self.path}: {said}")

    def _make_context(self) -> None:
        """A context for `_outputs` positions' logits at once, in the place of the one there is."""
        lib = self._lib
        if self._context:
            lib.llama_free(self._context)
            self._context = None
        self._cached.clear()
        params = lib.llama_context_default_params()
        params.n_ctx = self.context_tokens
        params.n_batch = params.n_ubatch = min(BATCH_TOKENS, self.context_tokens)
        params.n_threads = params.n_threads_batch = self._threads
        params.n_outputs_max = self._outputs
        self._context = lib.llama_init_from_model(self._model, params)
        if not self._context:
            raise ModelError(
                f"{self.path}: no context of {self.context_tokens} tokens: {'; '.join(_complaints) or 'out of memory?'}"
            )
        self._memory = lib.llama_get_memory(self._context)
        if self._lora:
            lora, whole = (lib.llama_adapter_lora_p_ctypes * 1)(self._lora), (ctypes.c_float * 1)(1.0)
            if code := lib.llama_set_adapters_lora(self._context, lora, 1, whole):
                raise ModelError(f"llama.cpp cannot apply the adapter {self.adapter} to {self.path}: code {code}")

    def close(self) -> None:
        """Free the native memory; the model's goes with its adapter's. Safe to call twice."""
        if self._context:
            self._lib.llama_free(self._context)
        if self._model:
            self._lib.llama_model_free(self._model)
        self._context = self._model = self._lora = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def metadata(self, key: str) -> str | None:
        """A GGUF key's value as text (no arrays), None where it is absent. Of an adapter, the base's."""
        return _value(self._lib.llama_model_meta_val_str, self._model, key)

    @property
    def name(self) -> str:
        """general.name, the adapter's where there is one, else the file's stem."""
        if self.adapter is None:
            return self.metadata("general.name") or self.path.stem
        return _value(self._lib.llama_adapter_meta_val_str, self._lora, "general.name") or self.adapter.stem

    @property
    def template(self) -> str:
        """The GGUF's chat template; plain ChatML where it has none, as Ollama does."""
        return self.metadata("tokenizer.chat_template") or CHATML

    @cached_property
    def renderer(self) -> Renderer:
        """The renderer of this model's template and control tokens."""
        lib, vocab = self._lib, self._vocab
        count = lib.llama_vocab_n_tokens(vocab)
        control = (self._spelling(token) for token in range(count) if lib.llama_vocab_is_control(vocab, token))
        bos, eos = lib.llama_vocab_bos(vocab), lib.llama_vocab_eos(vocab)
        return Renderer(
            self.template,
            control,
            bos=self._spelling(bos) if bos >= 0 else "",
            eos=self._spelling(eos) if eos >= 0 else "",
        )

    def _spelling(self, token: int) -> str:
        text: bytes = self._lib.llama_vocab_get_text(self._vocab, token)
        return text.decode("utf-8", "replace")

    def encode(self, pieces: Iterable[Piece], *, continues: bool = False) -> list[int]:
        """Token ids; no BOS is added, and only the template's control tokens are recognised as such. `continues`:
        whether they go on after plain text. As steps/tokenizer.py encodes.
        """
        ids: list[int] = []
        for piece in pieces:
            inside = continues and not piece.control and self._space_prefix
            ids += self._inside(piece.text) if inside else self._tokenize(piece.text, special=piece.control)
            continues = not piece.control
        return ids

    @cached_property
    def _space_prefix(self) -> bool:
        """Whether llama.cpp puts a space before each text: SentencePiece's, where the file says nothing else."""
        spelled = self.metadata("tokenizer.ggml.model") == "llama"
        return spelled and self.metadata("tokenizer.ggml.add_space_prefix") != "false"

    def _inside(self, text: str) -> list[int]:
        """The tokens of a text that goes on after another: told after a character that nothing merges with."""
        before = self._tokenize(LONELY, special=False)
        ids = self._tokenize(LONELY + text, special=False)
        if ids[: len(before)] != before:
            raise ModelError(f"{self.path}: its vocabulary has a token with {LONELY!r}, which nobody uses")
        return ids[len(before) :]

    def _tokenize(self, text: str, *, special: bool) -> list[int]:
        data = text.encode()
        room = len(data) + 8
        buffer = (self._lib.llama_token * room)()
        count = self._lib.llama_tokenize(self._vocab, data, len(data), buffer, room, False, special)
        if count < 0:
            raise ModelError(f"{self.path}: llama.cpp cannot tokenise {text[:40]!r}")
        return list(buffer[:count])

    def encode_whole(self, text: str) -> list[int]:
        """Token ids of a rendered text at once, as servers take it: whatever is spelled like a control token is one."""
        return self._tokenize(text, special=True)

    def say(self, ids: Iterable[int]) -> str:
        """The text of tokens as an answer shows them: control tokens are silent. Raises ModelError for a token beyond
        the vocabulary, for which llama.cpp would end the process.
        """
        wanted = list(ids)
        if beyond := [token for token in wanted if not 0 <= token < self.vocabulary]:
            raise ModelError(f"{self.path} has no token {beyond[0]}: its vocabulary ends at {self.vocabulary}")
        return b"".join(map(self._piece, wanted)).decode("utf-8", "replace")

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        count: int = self._lib.llama_vocab_n_tokens(self._vocab)
        return count

    def is_end(self, token: int) -> bool:
        """Whether generation ends with this token."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def tokens(self) -> Iterator[tuple[str, TokenKind]]:
        """Every token's text as the file spells it, and its kind, by their numbers."""
        lib = self._lib
        kinds: dict[int, TokenKind] = {
            lib.LLAMA_TOKEN_ATTR_CONTROL: "control",
            lib.LLAMA_TOKEN_ATTR_USER_DEFINED: "user-defined",
            lib.LLAMA_TOKEN_ATTR_UNUSED: "unused",
            lib.LLAMA_TOKEN_ATTR_UNKNOWN: "unknown",
        }
        for token in range(self.vocabulary):
            attributes = lib.llama_vocab_get_attr(self._vocab, token)
            yield self._spelling(token), next((kind for bit, kind in kinds.items() if attributes & bit), "normal")

    def generate(
        self,
        prompt_ids: Sequence[int],
        max_new_tokens: int,
        sampling: Sampling = GREEDY,
        grammar: str | None = None,
    ) -> Generator[tuple[str, Done | None], None, None]:
        """Yield what each token says, "" where a character is not whole yet; one more pair at the end has what is left
        and alone a reason: "stop" at the model's end of turn, "length" at max_new_tokens or a full context. The
        longest prefix of the prompt that is still in the cache is not computed again. `grammar`: GBNF that the answer
        follows from its first token on.

        Raises OverfullError where the prompt leaves no room for an answer, ModelError for a grammar that is none.
        """
        if not 0 < len(prompt_ids) < self.context_tokens:
            raise OverfullError(
                f"a prompt of {len(prompt_ids)} tokens does not fit in the context of {self.context_tokens}: shorten it"
            )
        room = min(max_new_tokens, self.context_tokens - len(prompt_ids))
        sampler = Sampler(self._lib, self._vocab, self._context, sampling, grammar)
        try:
            yield from self._speak(prompt_ids, room, sampler)
        finally:
            sampler.close()

    def logits(self, ids: Sequence[int]) -> Iterator["NDArray[np.float32]"]:
        """What follows each of `ids`, as blocks [at most LOGITS_TOKENS positions, vocabulary], in their order.

        Computed from nothing at each call, as whatever is generated after it. The first call makes the context anew,
        with room for a block: until then a model takes no more memory than generating does. Raises ModelError where
        the ids do not fit in the context.
        """
        if not 0 < len(ids) <= self.context_tokens:
            raise ModelError(f"{len(ids)} tokens do not fit in the context of {self.context_tokens}: take fewer")
        if self._outputs < LOGITS_TOKENS:
            self._outputs = LOGITS_TOKENS
            self._make_context()
        self._lib.llama_memory_clear(self._memory, True)
        self._cached.clear()
        for at in range(0, len(ids), LOGITS_TOKENS):
            yield self._block(ids[at : at + LOGITS_TOKENS])

    def _block(self, ids: Sequence[int]) -> "NDArray[np.float32]":
        """Logits of the next positions, copied: llama.cpp's own are gone with the next block."""
        import numpy as np  # noqa: PLC0415 - serving does without it

        count, vocabulary = len(ids), self._lib.llama_vocab_n_tokens(self._vocab)
        tokens = (self._lib.llama_token * count)(*ids)
        wanted = (ctypes.c_int8 * count)(*([1] * count))
        batch = self._lib.llama_batch_get_one(tokens, count)
        batch.logits = ctypes.cast(wanted, type(batch.logits))
        self._decode(batch, ids)
        logits = self._lib.llama_get_logits(self._context)
        return np.ctypeslib.as_array(logits, shape=(count, vocabulary)).copy()

    def _speak(self, prompt_ids: Sequence[int], room: int, sampler: Sampler) -> Iterator[tuple[str, Done | None]]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._read(prompt_ids)
        for left in range(room, 0, -1):
            token = sampler.draw()
            if self._lib.llama_vocab_is_eog(self._vocab, token):
                yield decoder.decode(b"", final=True), "stop"
                return
            yield decoder.decode(self._piece(token)), None
            if left > 1:
                self._feed([token])
        yield decoder.decode(b"", final=True), "length"

    def _read(self, prompt_ids: Sequence[int]) -> None:
        """Bring the cache to exactly the prompt; its last token is always computed, for its logits."""
        kept = 0
        for cached, asked in zip(self._cached, prompt_ids[:-1], strict=False):
            if cached != asked:
                break
            kept += 1
        self._lib.llama_memory_seq_rm(self._memory, 0, kept, -1)
        del self._cached[kept:]
        step = min(BATCH_TOKENS, self.context_tokens)
        for at in range(kept, len(prompt_ids), step):
            self._feed(prompt_ids[at : at + step])

    def _feed(self, tokens: Sequence[int]) -> None:
        batch = (self._lib.llama_token * len(tokens))(*tokens)
        self._decode(self._lib.llama_batch_get_one(batch, len(tokens)), tokens)

    def _decode(self, batch: Any, tokens: Sequence[int]) -> None:
        code = self._lib.llama_decode(self._context, batch)
        if code != 0:
            self._lib.llama_memory_clear(self._memory, True)
            self._cached.clear()
            raise ModelError(f"{self.path}: llama.cpp stopped with code {code}: {'; '.join(_complaints)}")
        self._cached.extend(tokens)

    def _piece(self, token: int) -> bytes:
        return piece_of(self._lib, self._vocab, token)


def _value(read: Any, of: Any, key: str) -> str | None:
    """A GGUF key's value by one of llama.cpp's readers, None where it is absent."""
    size = read(of, key.encode(), None, 0)
    if size < 0:
        return None
    buffer = ctypes.create_string_buffer(size + 1)
    read(of, key.encode(), buffer, size + 1)
    return buffer.value.decode("utf-8", "replace")
