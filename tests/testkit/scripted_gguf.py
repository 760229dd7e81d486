r"""Write a tiny GGUF that says exactly what it is told: a deterministic stand-in for a model, on the real llama.cpp.

The weights are a lookup table: token i's embedding is the i-th unit vector, attention and feed-forward are zero, and
the output matrix sends each scripted token to the next. Whatever the prompt, generation begins after its last token:
where that is a newline (chat templates end in one) it says the script, then the end-of-turn token. Use temperature 0.
Sizes are kilobytes to a few megabytes; loading takes milliseconds.

    call = ["<tool_call>", '\n{"name": "get_weather", "arguments": {}}\n', "</tool_call>"]
    write_scripted_gguf("weather.gguf", call, chat_template=jinja)

A script is a list of pieces: special tokens by name, or text. Text is cut into tokens of at most 32 bytes
(llama-cpp-python drops longer ones when it turns tokens into text), each of them unique, since a token always leads to
the same next one.

A model that says different things at different turns has further scripts, each `after` a control token of its own with
which the chat template ends the prompt:

    template = "...<|im_start|>assistant\n{% if messages[-1]['role'] == 'tool' %}<|after_tool|>{% endif %}"
    write_scripted_gguf("sum.gguf", call, after={"<|after_tool|>": ["It is 42."]}, chat_template=template)
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import gguf
import numpy as np

CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
USER_DEFINED = ("<tool_call>", "</tool_call>", "<think>", "</think>")
FEED_FORWARD = 64
HEADS = 4
LONGEST_PIECE_BYTES = 32
NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in for each of the 256 bytes, by byte value (Radford et al. 2019, encoder.py)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shifted = iter(range(256, 512))
    return [chr(b) if b in printable else chr(next(shifted)) for b in range(256)]


def cut(text: str, alphabet: Sequence[str], taken: Container[str]) -> list[str]:
    """Cut text into spelled tokens of 2 to LONGEST_PIECE_BYTES bytes that are neither taken nor alike.

    Raises ValueError where none can be found.
    """
    spelled = [alphabet[b] for b in text.encode()]
    pieces: list[str] = []
    at = 0
    while at < len(spelled):
        left = len(spelled) - at
        for size in range(min(LONGEST_PIECE_BYTES, left), 1, -1):
            piece = "".join(spelled[at : at + size])
            if left - size != 1 and piece not in taken and piece not in pieces:
                break
        else:
            raise ValueError(f"cannot cut {text!r} into tokens that differ; say it in other words")
        pieces.append(piece)
        at += size
    return pieces


@dataclass(slots=True)
class Vocabulary:
    """Tokens, their kinds and their numbers, growing as scripts are added; `following` is what each token leads to."""

    tokens: list[str] = field(default_factory=list)
    kinds: list[int] = field(default_factory=list)
    ids: dict[str, int] = field(default_factory=dict)
    following: dict[int, int] = field(default_factory=dict)

    def add(self, token: str, kind: int) -> int:
        """Number a new token."""
        self.ids[token] = len(self.tokens)
        self.tokens.append(token)
        self.kinds.append(kind)
        return self.ids[token]

    def chain(self, script: Sequence[str], alphabet: Sequence[str]) -> list[int]:
        """The tokens that say a script."""
        said: list[int] = []
        for piece in script:
            if piece in CONTROL + USER_DEFINED:
                said.append(self.ids[piece])
            else:
                said += [self.add(spelled, gguf.TokenType.NORMAL) for spelled in cut(piece, alphabet, self.ids)]
        return said

    def follow(self, start: int, said: Sequence[int], end: int) -> None:
        """From the start through what is said to the end. Raises ValueError where a token would lead to two others."""
        for token, following in zip([start, *said], [*said, end], strict=True):
            if token in self.following:
                raise ValueError(f"{self.tokens[token]} is said twice, but can lead to one token only")
            self.following[token] = following


def build_vocabulary(script: Sequence[str], after: Mapping[str, Sequence[str]], *, repeat: bool) -> Vocabulary:
    """The byte alphabet, the special tokens, a control token for each key of `after`, and what the scripts need."""
    alphabet = byte_alphabet()
    words = Vocabulary()
    for token in alphabet:
        words.add(token, gguf.TokenType.NORMAL)
    for token in (*CONTROL, *after):
        words.add(token, gguf.TokenType.CONTROL)
    for token in USER_DEFINED:
        words.add(token, gguf.TokenType.USER_DEFINED)
    end = words.ids["<|im_end|>"]
    for start, pieces in [(ord("\n"), script), *((words.ids[marker], pieces) for marker, pieces in after.items())]:
        # The byte alphabet is in the order of the bytes, so a newline's token has the newline's number.
        said = words.chain(pieces, alphabet)
        words.follow(start, said, said[0] if repeat else end)
    return words


def write_scripted_gguf(
    path: str | Path,
    script: Sequence[str],
    *,
    after: Mapping[str, Sequence[str]] = NOTHING,
    chat_template: str | None = None,
    context_length: int = 4096,
    repeat: bool = False,
) -> None:
    """Write `path`: a one-layer qwen2 GGUF (F16) that answers every prompt ending in a newline with `script`.

    after: further scripts, by the control token that ends the prompts they answer.
    repeat: start over instead of ending, to see loops and length limits.
    Raises ValueError where the scripts cannot be cut into tokens that differ.
    """
    words = build_vocabulary(script, after, repeat=repeat)
    width = -(-len(words.tokens) // 64) * 64
    writer = gguf.GGUFWriter(path, "qwen2")
    add_metadata(writer, words, width, context_length)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    add_tensors(writer, words, width)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_metadata(writer: gguf.GGUFWriter, words: Vocabulary, width: int, context_length: int) -> None:
    """Architecture, and the tokenizer."""
    writer.add_name("scripted")
    writer.add_context_length(context_length)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    add_tokens(writer, words)


def add_tokens(writer: gguf.GGUFWriter, words: Vocabulary) -> None:
    """The tokenizer: bytes, and pieces that are only ever said."""
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(words.tokens)
    writer.add_token_types(words.kinds)
    writer.add_token_merges(["\u0120 \u0120zz"])
    writer.add_eos_token_id(words.ids["<|im_end|>"])
    writer.add_bos_token_id(words.ids["<|endoftext|>"])
    writer.add_pad_token_id(words.ids["<|endoftext|>"])
    writer.add_add_bos_token(False)


def add_tensors(writer: gguf.GGUFWriter, words: Vocabulary, width: int) -> None:
    """The lookup table, with a layer that adds nothing."""
    output = np.zeros((len(words.tokens), width), np.float16)
    for said, following in words.following.items():
        output[following, said] = 1
    ones, square = np.ones(width, np.float32), np.zeros((width, width), np.float16)
    writer.add_tensor("token_embd.weight", np.eye(len(words.tokens), width, dtype=np.float16))
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", ones)
    writer.add_tensor("blk.0.attn_norm.weight", ones)
    writer.add_tensor("blk.0.ffn_norm.weight", ones)
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", square)
    for name in ("attn_q", "attn_k", "attn_v"):
        writer.add_tensor(f"blk.0.{name}.bias", np.zeros(width, np.float32))
    writer.add_tensor("blk.0.ffn_gate.weight", np.zeros((FEED_FORWARD, width), np.float16))
    writer.add_tensor("blk.0.ffn_up.weight", np.zeros((FEED_FORWARD, width), np.float16))
    writer.add_tensor("blk.0.ffn_down.weight", np.zeros((width, FEED_FORWARD), np.float16))
