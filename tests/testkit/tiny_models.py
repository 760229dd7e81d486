"""Tiny random checkpoints with a real tokenizer, and adapters for them: right for equality, not for answers.

`init_std` spreads the logits: with the usual 0.02 a random model's best two tokens are nearly tied, and rounding would
decide between them.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen3Config

from thaud.steps.train.model import old_names_tolerated

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
TAGS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
TEXT = """¿De qué color es el cielo? El cielo es azul. ¿Cuántas patas tiene un perro? Un perro tiene cuatro patas.
What colour is the sun? The sun is yellow. How many legs does a cat have? A cat has four legs. dos más dos son cuatro.
¿Qué hace la vaca? La vaca hace muu. {"name": "calculator", "arguments": {"expression": "2 + 2"}} system user assistant
Eres THAU, una unidad de inteligencia que aprende. You are a helpful assistant. ¿Es el fuego caliente? Sí. No.
"""
# ChatML with tools in Hermes' dialect: the shape of Qwen2.5-Instruct's template.
TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nCall one or more of these functions.\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first)
        or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {%- if tool_call.function is defined %}
                {%- set tool_call = tool_call.function %}
            {%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}
            {{- tool_call.name }}
            {{- '", "arguments": ' }}
            {{- tool_call.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- message.content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
DRAWN_ROPE = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0}
# What each kind of base has of its own; TinyLlama is the plain llama.
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "qwen2": (Qwen2Config, {}),
    "qwen3": (Qwen3Config, {"head_dim": 32}),
    "qwen3 with biases": (Qwen3Config, {"head_dim": 32, "attention_bias": True}),
    "llama": (LlamaConfig, {}),
    "llama of as many keys": (LlamaConfig, {"num_key_value_heads": 4}),
    "llama of wide heads": (LlamaConfig, {"head_dim": 32}),
    "llama, drawn together": (LlamaConfig, {"rope_parameters": DRAWN_ROPE}),
    "llama 3": (LlamaConfig, {"rope_parameters": LLAMA3_ROPE}),
    "llama with biases": (LlamaConfig, {"attention_bias": True, "mlp_bias": True}),
}


@cache
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Some hundred tokens, from TEXT."""
    return make_tokenizer([TEXT], 400)


def make_tokenizer(texts: Iterable[str], size: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `size` tokens with Qwen2's split, its special tokens and TAGS, and ChatML."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    bpe.add_tokens([AddedToken(tag, normalized=False) for tag in TAGS])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_tiny_base(
    folder: Path,
    *,
    kind: str = "qwen2",
    words: str = "qwen2",
    tied: bool = True,
    init_std: float = 0.02,
    shard: str = "2GB",
    seed: int = 0,
    **changes: Any,
) -> Path:
    """A base of two layers and 64 dimensions in `folder`, of one of KINDS, with biases that are not zero, and one of
    tiny_tokenizers' (`words`). `changes` go into its config.
    """
    from tests.testkit.tiny_tokenizers import write_tokenizer  # noqa: PLC0415 - it stands on this module

    tokenizer = write_tokenizer(folder, words)
    config = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 96,
        "vocab_size": len(tokenizer) + 7,
        "max_position_embeddings": 512,
        "rope_theta": 10000.0,
        "tie_word_embeddings": tied,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": init_std,
    }
    torch.manual_seed(seed)
    architecture, own = KINDS[kind]
    model = AutoModelForCausalLM.from_config(architecture(**{**config, **own, **changes}), dtype=torch.float32)
    for name, weight in model.named_parameters():
        if name.endswith("bias") or "norm" in name:
            torch.nn.init.normal_(weight, mean=float("norm" in name), std=0.1)
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size=shard)
    return folder


def write_tiny_adapter(folder: Path, base: Path, *, std: float = 0.1, seed: int = 1, **changes: Any) -> Path:
    """A LoRA adapter for `base` whose both halves are random, so that it changes every answer."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    settings = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    torch.manual_seed(seed)
    with old_names_tolerated():
        adapted = get_peft_model(model, LoraConfig(**{**settings, **changes}))
    for name, weight in adapted.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weight, std=std)
    adapted.save_pretrained(folder)
    return folder
