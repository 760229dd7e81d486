"""Builds nano, the base model: one stage of pretraining on the generated corpus, by one command.

usage: python -m thaud.nano.pretrain --out thaud/nano/base [--tokens N] [--seed N] [--threads N]

Owns the model's shape, the schedule and the files of the base folder (the weights are written last). Refuses to read
the datasets: what nano knows comes from the corpus. The only module of the package that imports torch and
transformers; no other imports it. Same seed, same thread count, same machine: same weights.
"""

import argparse
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import torch
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import Qwen2Config, Qwen2ForCausalLM

from thaud.nano.corpus import END_OF_TEXT, TURN_END, Document, documents
from thaud.nano.tokenizer import MAX_POSITIONS, write_tokenizer

TOKENIZER_DOCUMENTS: Final = 30_000
BUCKET_BATCHES: Final = 40
REPORT_STEPS: Final = 50


@dataclass(frozen=True)
class Shape:
    """The sizes of a Qwen2 model; widths are multiples of 256, so that K-quants fit."""

    hidden: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 2
    intermediate: int = 768
    rope_theta: float = 10_000.0


@dataclass(frozen=True)
class Schedule:
    """How long and how fast: `tokens` in all, about `batch_tokens` a step, learning rate flat and then linear."""

    tokens: int = 4_500_000
    batch_tokens: int = 2_048
    peak_rate: float = 2e-3
    final_share: float = 0.01
    warmup_steps: int = 60
    flat_share: float = 0.3
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    seed: int = 7


@dataclass(frozen=True)
class Encoded:
    """A document as token ids and the loss weight of each."""

    ids: list[int]
    weights: list[float]


def rate_share(done: float, step: int, schedule: Schedule) -> float:
    """Return the share of the peak rate at a step, `done` being the share of the tokens already seen."""
    warmup = min(1.0, (step + 1) / schedule.warmup_steps)
    falling = max(0.0, done - schedule.flat_share) / (1.0 - schedule.flat_share)
    return warmup * max(schedule.final_share, 1.0 - falling * (1.0 - schedule.final_share))


def encode(bpe: Any, document: Document) -> Encoded:
    """Turn a document's pieces into ids; pieces end where no token crosses."""
    ids: list[int] = []
    weights: list[float] = []
    for piece in document:
        piece_ids = bpe.encode(piece.text, add_special_tokens=False).ids
        ids += piece_ids
        weights += [piece.weight] * len(piece_ids)
    return Encoded(ids, weights)


def batches(bpe: Any, schedule: Schedule) -> Iterator[list[Encoded]]:
    """Yield batches of documents of like length, about `batch_tokens` each, until the tokens are spent."""
    stream = documents(schedule.seed)
    rng = random.Random(schedule.seed)
    spent = 0
    while spent < schedule.tokens:
        bucket = list(_gather(bpe, stream, min(schedule.batch_tokens * BUCKET_BATCHES, schedule.tokens - spent)))
        spent += sum(len(document.ids) for document in bucket)
        alike = list(_by_length(bucket, schedule.batch_tokens))
        rng.shuffle(alike)
        yield from alike


def _gather(bpe: Any, stream: Iterator[Document], tokens: int) -> Iterator[Encoded]:
    gathered = 0
    while gathered < tokens:
        encoded = encode(bpe, next(stream))
        gathered += len(encoded.ids)
        yield encoded


def _by_length(bucket: list[Encoded], batch_tokens: int) -> Iterator[list[Encoded]]:
    batch: list[Encoded] = []
    held = 0
    for encoded in sorted(bucket, key=lambda each: len(each.ids)):
        batch.append(encoded)
        held += len(encoded.ids)
        if held >= batch_tokens:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


def new_model(shape: Shape, bpe: Any) -> Any:
    """Return a freshly initialised fp32 model of a shape, its embeddings tied."""
    config = Qwen2Config(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate,
        vocab_size=bpe.get_vocab_size(),
        tie_word_embeddings=True,
        max_position_embeddings=MAX_POSITIONS,
        rope_theta=shape.rope_theta,
        bos_token_id=None,
        eos_token_id=bpe.token_to_id(TURN_END),
        pad_token_id=bpe.token_to_id(END_OF_TEXT),
    )
    return Qwen2ForCausalLM(config)


def batch_loss(model: Any, batch: list[Encoded], pad: int) -> torch.Tensor:
    """Return the mean next-token loss of a batch, each token counted by its weight (a scalar)."""
    longest = max(len(document.ids) for document in batch)
    ids = torch.tensor([d.ids + [pad] * (longest - len(d.ids)) for d in batch])
    weights = torch.tensor([d.weights + [0.0] * (longest - len(d.ids)) for d in batch])[:, 1:]
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits
    counted = weights > 0
    losses = cross_entropy(logits[counted].float(), ids[:, 1:][counted], reduction="none")
    return (losses * weights[counted]).sum() / weights.sum()


def pretrain(model: Any, bpe: Any, schedule: Schedule) -> None:
    """Train a model in place through the whole schedule, printing a line every `REPORT_STEPS` steps."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=schedule.peak_rate, betas=(0.9, 0.98), weight_decay=schedule.weight_decay, fused=True
    )
    pad, seen, mean_loss = bpe.token_to_id(END_OF_TEXT), 0, 0.0
    model.train()
    for step, batch in enumerate(batches(bpe, schedule)):
        for group in optimizer.param_groups:
            group["lr"] = schedule.peak_rate * rate_share(seen / schedule.tokens, step, schedule)
        loss = batch_loss(model, batch, pad)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += sum(len(document.ids) for document in batch)
        mean_loss += loss.item() / REPORT_STEPS
        if (step + 1) % REPORT_STEPS == 0:
            print(f"step {step + 1}  tokens {seen}  loss {mean_loss:.3f}  cpu {time.process_time():.0f} s", flush=True)
            mean_loss = 0.0


def build(out: Path, shape: Shape, schedule: Schedule, threads: int) -> None:
    """Write the whole base folder but its card: tokenizer and template, config, weights last (bf16)."""
    torch.set_num_threads(threads)
    torch.manual_seed(schedule.seed)
    texts = ("".join(piece.text for piece in document) for document in documents(schedule.seed + 1))
    write_tokenizer(out, islice(texts, TOKENIZER_DOCUMENTS))
    bpe = Tokenizer.from_file(str(out / "tokenizer.json"))
    model = new_model(shape, bpe)
    print(f"{sum(each.numel() for each in model.parameters())} parameters, {bpe.get_vocab_size()} tokens", flush=True)
    pretrain(model, bpe, schedule)
    model.generation_config.update(do_sample=False, max_new_tokens=64)
    model.to(torch.bfloat16).save_pretrained(out)
    print(f"written to {out} after {time.process_time():.0f} core-seconds", flush=True)


def main() -> None:
    """Read the options and build."""
    defaults = Schedule()
    parser = argparse.ArgumentParser(description="Pretrain nano on its generated corpus.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=defaults.tokens)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    build(options.out, Shape(), Schedule(tokens=options.tokens, seed=options.seed), options.threads)


if __name__ == "__main__":
    main()
