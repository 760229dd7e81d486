"""Chat templates of our own that behave as well-known ones do, and tokenizers that know their control tokens."""

import json
from typing import Any

from tests.testkit.tiny_models import TEMPLATE, tiny_tokenizer
from thaud.steps.tokenizer import BaseTokenizer

# As Qwen3's: thoughts of turns before the last question are dropped, the last turn always has some, if empty ones, and
# `enable_thinking` set to false puts them into the prompt.
THINKING = """\
{%- if messages and messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content }}
    {%- for tool in tools or [] %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- elif tools %}
    {{- '<|im_start|>system' }}
    {%- for tool in tools %}{{- '\\n' + (tool | tojson) }}{%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- endif %}
{%- set asked = namespace(at=messages | length - 1) %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{%- set asked.at = loop.index0 %}{%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set at = loop.index0 %}
    {%- if message.role == 'assistant' %}
        {%- set thought = namespace(text='') %}
        {%- set said = message.content.split('</think>')[-1].lstrip('\\n') %}
        {%- if '</think>' in message.content %}
            {%- set thought.text = message.content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if at > asked.at and (loop.last or thought.text) %}
            {{- '<think>\\n' + thought.text + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- said }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n' if said or not loop.first else '' }}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- (call.function.arguments | tojson) + '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if messages[at - 1].role != 'tool' %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or messages[at + 1].role != 'tool' %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- elif message.role == 'user' or at > 0 %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}
"""
# As Llama 3.x's: begins with BOS, tells the date, shows tools in the first question, allows one call a turn, whose
# result is `ipython`'s in JSON.
HEADERS = """\
{{- bos_token }}
{%- set opening = messages[0].content | trim if messages and messages[0].role == 'system' else '' %}
{{- '<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: ' + strftime_now('%d %b %Y') + '\\n\\n' + opening }}
{{- '<|eot_id|>' }}
{%- set asked = namespace(first=true) %}
{%- for message in messages %}
    {%- if message.role == 'assistant' and message.tool_calls %}
        {%- if message.tool_calls | length > 1 %}{{- raise_exception('one call at a time, please') }}{%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n{"name": "' + call.name + '", "parameters": ' }}
        {{- (call.arguments | tojson) + '}<|eot_id|>' }}
    {%- elif message.role == 'tool' %}
        {{- '<|start_header_id|>ipython<|end_header_id|>\\n\\n' + (message.content | tojson) + '<|eot_id|>' }}
    {%- elif message.role == 'user' and tools and asked.first %}
        {%- set asked.first = false %}
        {{- '<|start_header_id|>user<|end_header_id|>\\n\\nAnswer with a call of one of these.\\n\\n' }}
        {%- for tool in tools %}{{- (tool | tojson(indent=4)) + '\\n\\n' }}{%- endfor %}
        {{- (message.content | trim) + '<|eot_id|>' }}
    {%- elif message.role != 'system' or not loop.first %}
        {{- '<|start_header_id|>' + message.role + '<|end_header_id|>\\n\\n' + message.content | trim + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""
# As TinyLlama's and Zephyr's: headers are plain text, the end of a turn is EOS, and there are no tools.
PLAIN_HEADERS = """\
{% for message in messages %}
{% if message.role == 'tool' or message.tool_calls %}
{{ raise_exception('no tools here') }}
{% else %}
{{ '<|' + message.role + '|>
' + message.content + eos_token }}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
"""
TEMPLATES = {"qwen2": TEMPLATE, "qwen3": THINKING, "llama3": HEADERS, "zephyr": PLAIN_HEADERS}
CONTROL = {
    "llama3": ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    "zephyr": ("<s>", "</s>"),
}
ENDS = {"llama3": ("<|begin_of_text|>", "<|eot_id|>"), "zephyr": ("<s>", "</s>")}


def tokenizer_of(family: str) -> BaseTokenizer:
    """The tiny tokenizer with a family's template and control tokens."""
    definition: dict[str, Any] = json.loads(tiny_tokenizer().backend_tokenizer.to_str())
    first = 1 + max(token["id"] for token in definition["added_tokens"])
    like = definition["added_tokens"][0]
    for number, text in enumerate(CONTROL.get(family, ()), first):
        definition["added_tokens"].append({**like, "id": number, "content": text, "special": True})
    begin, end = ENDS.get(family, (None, "<|im_end|>"))
    settings = {"eos_token": end} | ({"bos_token": begin} if begin else {})
    return BaseTokenizer(definition, settings, {}, TEMPLATES[family])
