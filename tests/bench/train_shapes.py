"""The work of the trainer's benchmark: shapes, random bases, examples, and the arithmetic that training them takes.

usage: python -m tests.bench.train_shapes SHAPE EXAMPLES HELD_OUT FOLDER

Owns FOLDER/base, examples.jsonl, held_out.jsonl and facts.json. Weights are random: right for speed, memory and for
losses beside each other, not for answers. Words follow each other by fixed odds, so there is something to learn.
Importing it loads no torch: a child's peak memory is never less than what the process that starts it holds.
"""

import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

CONTEXT = 512
RANK, ALPHA, RATE, BATCH, WARM_UP = 32, 64, 2e-4, 16, 0.05
SYLLABLES = (
    "ba",
    "ce",
    "di",
    "fo",
    "gu",
    "la",
    "me",
    "ni",
    "po",
    "ru",
    "sa",
    "te",
    "vi",
    "zo",
    "cha",
    "lle",
    "ñi",
    "que",
)
WORDS, FOLLOWERS = 500, 6
TOKENS = 2048  # of the tokenizer, and its tags; the models' vocabularies are larger


class Shape(NamedTuple):
    """A model's shape, and how many examples it is trained and judged on."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int
    examples: int
    held_out: int

    def products(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of a layer's linear maps: query, key, value, output, gate, up, down."""
        width = self.hidden // self.heads * self.kv_heads
        into = [(self.hidden, self.hidden), (self.hidden, width), (self.hidden, width), (self.hidden, self.hidden)]
        return [*into, (self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden)]

    def config(self) -> dict[str, int]:
        """What transformers calls it."""
        return {
            "hidden_size": self.hidden,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
        }


SHAPES = {
    "tiny": Shape(64, 2, 4, 2, 96, 2100, examples=32, held_out=8),
    "nano": Shape(256, 4, 4, 2, 768, 4099, examples=1280, held_out=128),
    "mid": Shape(512, 8, 8, 2, 1536, 16384, examples=384, held_out=128),
    "0.5b": Shape(896, 24, 14, 2, 4864, 151936, examples=64, held_out=32),
}
COMPARED = ("nano", "mid", "0.5b")


class Facts(NamedTuple):
    """Of the examples: all tokens, those that are learned, and the sum of the squares of the lengths."""

    tokens: int
    supervised: int
    squares: int
    examples: int


def flops(shape: Shape, facts: Facts) -> float:
    """Floating-point operations that one epoch needs, whoever computes it; a product of [m, k] and [k, n] is 2 m k n.

    Each frozen weight: forward, and the gradient of its input, save for the first layer's query, key and value, whose
    input nobody needs. LoRA: forward, and the gradients of weights and inputs. Head: forward and back at the learned
    positions. Attention: the causal half of two products forward and four back. Nothing is counted for norms,
    softmax, activations or what a trainer computes twice.
    """
    linear, low = (sum(each) for each in zip(*((k * n, k + n) for k, n in shape.products()), strict=True))
    spared = sum(k * (n + RANK) for k, n in shape.products()[:3])
    layers = facts.tokens * (shape.layers * (4 * linear + 6 * RANK * low) - 2 * spared)
    head = facts.supervised * 4 * shape.hidden * shape.vocabulary
    return layers + head + 6 * facts.squares * shape.hidden * shape.layers


# Examples


def words() -> list[str]:
    """Words of two and three syllables, none twice."""
    dice = random.Random("words")
    made = dict.fromkeys("".join(dice.choices(SYLLABLES, k=dice.choice((2, 3)))) for _ in range(3 * WORDS))
    return list(made)[:WORDS]


def rows(count: int, seed: str) -> Iterator[dict[str, Any]]:
    """Questions and answers of log-normal lengths, as real instruction sets have; ids tell their number."""
    vocabulary, dice, habits = words(), random.Random(seed), random.Random("followers")
    follows = {word: habits.choices(vocabulary, k=FOLLOWERS) for word in vocabulary}
    odds = [1 / place for place in range(1, FOLLOWERS + 1)]

    def text(length: int) -> str:
        said = [dice.choice(vocabulary)]
        while len(said) < length:
            said.append(dice.choices(follows[said[-1]], odds)[0])
        return " ".join(said)

    for number in range(count):
        asked = min(int(dice.lognormvariate(2.6, 0.8)) + 2, 120)
        answered = min(int(dice.lognormvariate(3.0, 1.0)) + 1, 300)
        question = {"role": "user", "content": f"¿{number % 1000} {text(asked)}?"}
        yield {"id": str(number), "messages": [question, {"role": "assistant", "content": text(answered)}]}


def write_examples(path: Path, count: int, seed: str = "examples") -> Path:
    """The examples of a run, as JSONL."""
    with path.open("w", encoding="utf-8") as sink:
        sink.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows(count, seed))
    return path


def read_examples(path: Path) -> list[dict[str, Any]]:
    """What write_examples wrote."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def encode(tokenizer: Any, row: dict[str, Any]) -> tuple[list[int], range]:
    """Ids of an example, and the places of its answer with the end of turn: what is learned, and what is judged."""
    asked = tokenizer.apply_chat_template(row["messages"][:-1], tokenize=False, add_generation_prompt=True)
    answer = row["messages"][-1]["content"] + tokenizer.eos_token
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (asked, answer)]
    return ids[0] + ids[1], range(len(ids[0]), len(ids[0]) + len(ids[1]))


def facts_of(tokenizer: Any, examples: Sequence[dict[str, Any]]) -> Facts:
    """Count what is to be trained."""
    encoded = [encode(tokenizer, row) for row in examples]
    lengths = [len(ids) for ids, _ in encoded]
    assert max(lengths) < CONTEXT, "an example would be cut, by each side in its own way"
    return Facts(
        sum(lengths), sum(len(said) for _, said in encoded), sum(each * each for each in lengths), len(lengths)
    )


# Bases


def bench_tokenizer() -> Any:
    """A small one, of the words that the examples are made of."""
    from tests.testkit.tiny_models import make_tokenizer  # noqa: PLC0415 - in the child, for it loads torch

    said = [each["content"] for row in rows(500, "tokenizer") for each in row["messages"]]
    return make_tokenizer([*said, "system user assistant You are a helpful assistant."], TOKENS - 3)


def write_base(shape: Shape, tokenizer: Any, folder: Path) -> None:
    """Random weights, in bfloat16, as published models come."""
    import torch  # noqa: PLC0415
    from transformers import Qwen2Config, Qwen2ForCausalLM  # noqa: PLC0415
    from transformers.utils.logging import disable_progress_bar  # noqa: PLC0415

    disable_progress_bar()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = Qwen2Config(
        **shape.config(),
        max_position_embeddings=2048,
        rope_theta=1e6,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder, max_shard_size="2GB")


def main() -> None:
    """Write one shape's work."""
    name, count, held_out, folder = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])
    tokenizer = bench_tokenizer()
    write_base(SHAPES[name], tokenizer, folder / "base")
    write_examples(folder / "held_out.jsonl", held_out, "held out")
    examples = read_examples(write_examples(folder / "examples.jsonl", count))
    (folder / "facts.json").write_text(json.dumps(facts_of(tokenizer, examples)._asdict()), encoding="utf-8")


if __name__ == "__main__":
    main()
