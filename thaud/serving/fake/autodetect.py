"""Which of the server's stored templates a GGUF's Jinja text is nearly, and the Go template and stops that come of it.

The real server compares with 37 texts; here are the ones of bases that THAU may be given. The Jinja texts are the model
makers' own, from their tokenizer_config.json: HuggingFaceH4/zephyr-7b-beta (TinyLlama's is the same),
Qwen/Qwen1.5-0.5B, meta-llama/Meta-Llama-3-8B-Instruct, and plain ChatML. The Go templates are written from the formats.
"""

from dataclasses import dataclass
from functools import lru_cache

from thaud.rendering import CHATML

NEAR = 100
ZEPHYR_JINJA = (
    "{% for message in messages %}\n{% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + "
    "eos_token }}\n{% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
    "{% elif message['role'] == 'assistant' %}\n{{ '<|assistant|>\n'  + message['content'] + eos_token }}\n{% endif %}"
    "\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"
)
QWEN_1_5_JINJA = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_3_JINJA = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored template: its name, what stands before and after a turn, the assistant's header, the stops."""

    name: str
    before: str
    after: str
    header: str
    stop: tuple[str, ...]

    @property
    def go(self) -> str:
        """The Go template."""
        return f"{{{{- range .Messages }}}}{self.before}{{{{ .Content }}}}{self.after}{{{{ end }}}}{self.header}\n"


ZEPHYR = Stored(
    "zephyr", "<|{{ .Role }}|>\n", "</s>\n", "<|assistant|>", ("<|system|>", "</s>", "<|user|>", "<|assistant|>")
)
CHATML_STORED = Stored(
    "chatml",
    "<|im_start|>{{ .Role }}\n",
    "<|im_end|>\n",
    "<|im_start|>assistant",
    ("<|im_start|>", "<|im_end|>"),
)
LLAMA_3 = Stored(
    "llama3-instruct",
    "<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n",
    "<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n",
    ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)
KNOWN = ((ZEPHYR_JINJA, ZEPHYR), (CHATML, CHATML_STORED), (QWEN_1_5_JINJA, CHATML_STORED), (LLAMA_3_JINJA, LLAMA_3))


@lru_cache(maxsize=64)
def autodetected(jinja: str) -> Stored | None:
    """The nearest stored template, None where all are NEAR edits away or more."""
    scores = [(distance(jinja, text), at) for at, (text, _) in enumerate(KNOWN)] if jinja else []
    best, at = min(scores, default=(NEAR, 0))
    return KNOWN[at][1] if best < NEAR else None


def distance(one: str, other: str) -> int:
    """Levenshtein's distance, counted up to NEAR: only a band around the diagonal can hold less."""
    if abs(len(one) - len(other)) >= NEAR:
        return NEAR
    row = {at: at for at in range(min(NEAR, len(other)) + 1)}
    for i, character in enumerate(one, 1):
        following: dict[int, int] = {}
        for j in range(max(0, i - NEAR), min(len(other), i + NEAR) + 1):
            changed = row.get(j - 1, NEAR) + (j > 0 and other[j - 1] != character)
            following[j] = i if j == 0 else min(changed, row.get(j, NEAR) + 1, following.get(j - 1, NEAR) + 1)
        row = following
    return min(NEAR, row.get(len(other), NEAR))
