"""Write a tiny GGUF of random weights that loves to call tools: what it says is nonsense, at any temperature.

Its tokens are the bytes, the tags, control tokens, and pieces that cut JSON where it hurts: several brackets and quotes
in one, halves of characters, escapes. After a newline, which chat templates end with, it says `<tool_call>` more often
than not; all else is as likely as anything. Kilobytes; loads in milliseconds.
"""

from pathlib import Path
from random import Random

import gguf
import numpy as np

from tests.testkit.scripted_gguf import CONTROL, Vocabulary, add_tokens, build_vocabulary, byte_alphabet

WIDTH = 64
LAYERS = 2
HEADS = 4
FEED_FORWARD = 96
SPREAD = 1.5  # standard deviation of the logits
CONTEXT = 16384
BAR = 50.0
EAGERNESS = 9.0  # by how much the tag is likelier after a newline, in logits
AWKWARD = (
    *(b'{"', b'"}', b'":', b'": ', b'", "', b'"}}', b'"]', b"[[", b"}}", b"}\n", b'{"name": "', b'", "arguments": {'),
    *(b"\\u", b'\\"', b"\\\\", b"\\ud83d", b"\\u00", b"\\n", b"00", b"-0", b"0.", b".0", b"1e", b"E+9", b"123"),
    *(
        b"9999",
        b"true",
        b"false",
        b"null",
        b"tr",
        b"nul",
        b"</tool",
        b"_call>",
        b"<tool",
        b"<think",
        b"</think",
        b"```json\n",
    ),
    *("ñ".encode(), "日本".encode(), "🙂".encode(), "🙂".encode()[:2], "🙂".encode()[2:], b"\xc0\xaf", b"\xed\xa0\x80"),
    *(b"a\0b", b"\r\n", b"\t\t", b"  ", b" \n", b"<|im_end|", b"tool_0", b"tool_1", b"kind"),
)


def write_random_gguf(
    path: Path, chat_template: str, *, seed: int = 0, vocabulary: int = 0, endless: bool = False
) -> None:
    """Write `path`: a qwen2 GGUF of two layers and a context of CONTEXT.

    vocabulary: tokens at least; those that it needs not are words of letters. endless: it never ends, nor does it call.
    """
    words = build_vocabulary(["un"], {}, repeat=False)
    alphabet = byte_alphabet()
    for piece in AWKWARD:
        words.add("".join(alphabet[byte] for byte in piece), gguf.TokenType.NORMAL)
    for number in range(len(words.tokens), vocabulary):
        words.add(made_up(number), gguf.TokenType.NORMAL)
    writer = gguf.GGUFWriter(path, "qwen2")
    add_tokens(writer, words)
    add_sizes(writer)
    writer.add_chat_template(chat_template)
    add_weights(writer, words, np.random.default_rng(seed), endless=endless)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def made_up(number: int) -> str:
    """A word that no other number has."""
    return "".join(Random(number).choices("abcdeghijlmnopqrsuvz", k=3)) + np.base_repr(number, 36)


def add_sizes(writer: gguf.GGUFWriter) -> None:
    """The architecture."""
    writer.add_name("random")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS // 2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def add_weights(writer: gguf.GGUFWriter, words: Vocabulary, chance: np.random.Generator, *, endless: bool) -> None:
    """Normal noise everywhere but in one dimension, which is the same for all tokens and tells which ones are barred.

    The layers add little, so that the last token decides most.
    """

    def noise(rows: int, columns: int, std: float) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        return chance.normal(0, std, (rows, columns)).astype(np.float32)

    count, half = len(words.tokens), WIDTH // 2
    embedding = noise(count, WIDTH, 1.0)
    output = noise(count, WIDTH, SPREAD / WIDTH**0.5)
    embedding[:, 0], output[:, 0] = 1, 0
    newline = embedding[ord("\n")]
    output[words.ids["<tool_call>"]] += EAGERNESS * newline / (newline @ newline)
    if endless:
        for barred in ("<tool_call>", *CONTROL):
            output[words.ids[barred]] = -BAR * np.eye(1, WIDTH)[0]
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output.weight", output)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    for layer in range(LAYERS):
        at = f"blk.{layer}"
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"{at}.{name}.weight", np.ones(WIDTH, np.float32))
        for name, rows in (("attn_q", WIDTH), ("attn_k", half), ("attn_v", half)):
            writer.add_tensor(f"{at}.{name}.weight", noise(rows, WIDTH, 0.05))
            writer.add_tensor(f"{at}.{name}.bias", np.zeros(rows, np.float32))
        writer.add_tensor(f"{at}.attn_output.weight", noise(WIDTH, WIDTH, 0.02))
        writer.add_tensor(f"{at}.ffn_gate.weight", noise(FEED_FORWARD, WIDTH, 0.1))
        writer.add_tensor(f"{at}.ffn_up.weight", noise(FEED_FORWARD, WIDTH, 0.1))
        writer.add_tensor(f"{at}.ffn_down.weight", noise(WIDTH, FEED_FORWARD, 0.02))
