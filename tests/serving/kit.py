"""Models and versions for the tests of serving and of the Ollama contract."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import Score, Version

TOOL_CALL = ("<tool_call>", '\n{"name": "add", "arguments": {"a": 2, "b": 3}}\n', "</tool_call>")
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers",
        "parameters": {
            "type": "object",
            "required": ["a", "b"],
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
        },
    },
}
HERMES = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0]['role'] == 'system' %}
        {{- messages[0]['content'] }}
    {%- else %}
        {{- 'You are a helpful assistant.' }}
    {%- endif %}
    {{- "\\n\\n# Tools\\n\\nYou may call functions described within <tools></tools>:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nAnswer each call as\\n<tool_call>\\n{\\"name\\": <name>}\\n</tool_call><|im_end|>\\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == "user" or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>assistant' }}
        {%- if message.content %}
            {{- '\\n' + message.content }}
        {%- endif %}
        {%- for tool_call in message.tool_calls %}
            {{- '\\n<tool_call>\\n{"name": "' + tool_call.function.name + '", "arguments": ' }}
            {{- tool_call.function.arguments | tojson }}
            {{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != "tool" %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
THINKING = HERMES.replace(
    "{{- '<|im_start|>assistant\\n' }}\n{%- endif %}",
    "{{- '<|im_start|>assistant\\n' }}\n{%- if enable_thinking is defined and not enable_thinking %}"
    "{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}\n{%- endif %}",
)


@dataclass(frozen=True)
class Forge:
    """Writes scripted models into a folder and calls them versions of a family."""

    folder: Path
    family: str = "thau-nano"

    def version(self, n: int, script: Sequence[str], template: str | None = HERMES, *, repeat: bool = False) -> Version:
        """Version `n`, which answers everything with `script`."""
        path = self.folder / f"{self.family}-v{n}.gguf"
        write_scripted_gguf(path, script, chat_template=template, repeat=repeat)
        return self.of_file(n, path)

    def of_file(self, n: int, path: Path) -> Version:
        """Version `n`, whatever the file holds."""
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        return Version(self.family, n, f"run-{n}", 0, str(path), digest, len(data), Score(20, 18), 100, "")

    def without_tokenizer(self, n: int) -> Version:
        """A file that every server accepts and none can load."""
        path = self.folder / f"{self.family}-v{n}.gguf"
        writer = gguf.GGUFWriter(path, "qwen2")
        writer.add_context_length(64)
        writer.add_embedding_length(64)
        writer.add_block_count(1)
        writer.add_feed_forward_length(64)
        writer.add_head_count(4)
        writer.add_head_count_kv(4)
        writer.add_layer_norm_rms_eps(1e-6)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
        writer.add_tensor("token_embd.weight", np.zeros((64, 64), np.float16))
        writer.add_tensor("output_norm.weight", np.ones(64, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return self.of_file(n, path)
