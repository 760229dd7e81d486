"""The merged model in transformers, the reference for what an exported GGUF says."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from thaud.domain import Message
from thaud.steps.llama import LlamaModel
from thaud.steps.tokenizer import one_day, read_tokenizer
from thaud.steps.train.model import old_names_tolerated

ENDS = (
    "<|im_end|>",
    "<|endoftext|>",
    "</s>",
    "<|eot_id|>",
    "<|end_of_text|>",
)  # where llama.cpp stops, by their spelling


def merged_model(base: Path, adapter: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    with old_names_tolerated():
        return PeftModel.from_pretrained(model, adapter).merge_and_unload()


def greedy(model: Any, prompt: list[int], max_new_tokens: int, ends: set[int]) -> list[int]:
    said: list[int] = []
    with torch.no_grad():
        while len(said) < max_new_tokens:
            token = int(model(torch.tensor([prompt + said])).logits[0, -1].argmax())
            if token in ends:
                break
            said.append(token)
    return said


def check_same_answers(served: LlamaModel, base: Path, adapter: Path, questions: Sequence[str]) -> int:
    """Assert that both tokenise every question alike and answer it alike, greedily; how many answers differ in all."""
    tokenizer = read_tokenizer(base)
    ends = {tokenizer.ids[text] for text in ENDS if text in tokenizer.ids}
    merged = merged_model(base, adapter)
    torch.set_num_threads(1)
    answers = set()
    for question in questions:
        prompt = tokenizer.encode_all(tokenizer.renderer.prompt([Message("user", question)]))
        assert served.encode(served.renderer.at(one_day).prompt([Message("user", question)])) == prompt
        said = "".join(text for text, _ in served.generate(prompt, 16))
        wanted = greedy(merged, prompt, 16, ends)
        shown = "".join(served._piece(token).decode("latin-1") for token in wanted)
        assert said == shown.encode("latin-1").decode("utf-8", "replace")
        answers.add(said)
    return len(answers)
