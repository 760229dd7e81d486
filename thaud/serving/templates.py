"""The Go template that an Ollama server older than 0.30 needs, made from the chat template inside the GGUF.

Such servers run no Jinja. A ChatML template with Hermes tools (Qwen2.5's, nano's) is recognised by what it renders,
and its own sentences are put into a skeleton that was checked on both generations of servers. Any other template is
refused: a wrong one would be served without a word.
"""

from dataclasses import dataclass
from pathlib import Path

from thaud.domain import Message, ToolCall
from thaud.errors import ModelError, ServerError, StorageError
from thaud.rendering import CHATML, Renderer
from thaud.serving.gguf_header import read_header

SKELETON = """\
{{- $prev := "" }}
{{- if or .System .Tools }}<|im_start|>system
{{ if .System }}{{ .System }}{{ else }}[default]{{ end }}
{{- if .Tools }}[before]
{{- range .Tools }}
{{ json . }}
{{- end }}[after]
{{- end }}<|im_end|>
{{ [otherwise]end }}
{{- range $i, $_ := .Messages }}
{{- $tail := slice $.Messages $i }}
{{- $next := "" }}{{ if gt (len $tail) 1 }}{{ $next = (index $tail 1).Role }}{{ end }}
{{- if eq .Role "tool" }}
{{- if ne $prev "tool" }}<|im_start|>user{{ end }}
<tool_response>
{{ .Content }}
</tool_response>
{{- if ne $next "tool" }}<|im_end|>
{{ end }}
{{- else if ne .Role "system" }}<|im_start|>{{ .Role }}
{{- if or .Content (not .ToolCalls) }}
{{ .Content }}
{{- end }}
{{- if .ToolCalls }}
{{- range .ToolCalls }}
<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ json .Function.Arguments }}}
</tool_call>
{{- end }}
{{- end }}<|im_end|>
{{ end }}
{{- $prev = .Role }}
{{- end }}<|im_start|>assistant
"""
OPEN, CLOSE = "<|im_start|>", "<|im_end|>\n"
TOOL = {"type": "function", "function": {"name": "probe", "parameters": {"type": "object", "properties": {}}}}
TOOL_TEXT = '{"type": "function", "function": {"name": "probe", "parameters": {"type": "object", "properties": {}}}}'
QUESTION = Message("user", "question")
TURNS = (
    QUESTION,
    Message("assistant", "", (ToolCall("probe", {"a": 1}),)),
    Message("tool", "one", tool_name="probe"),
    Message("tool", "two", tool_name="probe"),
    Message("assistant", "answer"),
)
TURNS_TEXT = (
    f"{OPEN}user\nquestion{CLOSE}"
    f'{OPEN}assistant\n<tool_call>\n{{"name": "probe", "arguments": {{"a": 1}}}}\n</tool_call>{CLOSE}'
    f"{OPEN}user\n<tool_response>\none\n</tool_response>\n<tool_response>\ntwo\n</tool_response>{CLOSE}"
    f"{OPEN}assistant\nanswer{CLOSE}{OPEN}assistant\n"
)
PLAIN_TURNS = (QUESTION, Message("assistant", "answer"), QUESTION)
PLAIN_TEXT = f"{OPEN}user\nquestion{CLOSE}{OPEN}assistant\nanswer{CLOSE}{OPEN}user\nquestion{CLOSE}{OPEN}assistant\n"


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """The sentences of a ChatML template.

    default_system is said where nobody gives a system message, None where nothing is. The tool list stands between
    `before_tools` (after a system message) or `before_tools_bare` (where there is none) and `after_tools`; None where
    the template knows no tools.
    """

    default_system: str | None
    before_tools: str | None = None
    before_tools_bare: str | None = None
    after_tools: str | None = None


def go_template_of(gguf: Path) -> str:
    """The Go template for a GGUF's own chat template. Raises ServerError where it is no ChatML that is known."""
    try:
        jinja = read_header(gguf).get("tokenizer.chat_template") or CHATML
    except OSError as error:
        raise StorageError(f"cannot read {gguf}: {error.strerror}") from error
    chat_format = recognise(jinja)
    if chat_format is None:
        raise ServerError(
            f"this Ollama is older than 0.30 and cannot run the chat template of {gguf.name}: update Ollama"
        )
    return go_template(chat_format)


def recognise(jinja: str) -> ChatFormat | None:
    """The sentences of a Jinja chat template, or None where it is not the ChatML of the skeleton."""
    renderer = Renderer(jinja, ())
    try:
        rendered = renderer.render(PLAIN_TURNS, add_generation_prompt=True)
        default = between(rendered, f"{OPEN}system\n", CLOSE + PLAIN_TEXT)
        if default is None and rendered != PLAIN_TEXT:
            return None
        with_system = renderer.render((Message("system", "rules"), *TURNS), (TOOL,), add_generation_prompt=True)
        bare = renderer.render(TURNS, (TOOL,), add_generation_prompt=True)
    except ModelError:
        return None
    said = split_tools(between(with_system, f"{OPEN}system\nrules", CLOSE + TURNS_TEXT))
    said_bare = split_tools(between(bare, f"{OPEN}system\n", CLOSE + TURNS_TEXT))
    if said is None or said_bare is None or said[1] != said_bare[1]:
        return None if TOOL_TEXT in with_system else ChatFormat(default)
    return ChatFormat(default, said[0], said_bare[0], said[1])


def between(text: str, opening: str, ending: str) -> str | None:
    """What stands between an opening and an ending, None where the text does not begin and end with them."""
    if not (text.startswith(opening) and text.endswith(ending)) or len(text) < len(opening) + len(ending):
        return None
    return text[len(opening) : -len(ending)]


def split_tools(text: str | None) -> tuple[str, str] | None:
    """What stands before and after the one tool of the probe."""
    before, tool, after = (text or "").partition(f"\n{TOOL_TEXT}")
    return (before, after) if tool else None


def go_template(chat_format: ChatFormat) -> str:
    """The skeleton with a format's sentences in it; without tools, its tool branches go."""
    default = chat_format.default_system
    otherwise = "" if default is None else f"else }}}}{OPEN}system\n{literal(default)}{CLOSE}{{{{ "
    if chat_format.before_tools is None:
        return without_tools(otherwise)
    bare, before = chat_format.before_tools_bare or "", chat_format.before_tools
    if bare == (default or "") + before:
        opening, stand_in = literal(before), literal(default or "")
    else:
        opening, stand_in = f"{{{{ if .System }}}}{literal(before)}{{{{ else }}}}{literal(bare)}{{{{ end }}}}", ""
    return (
        SKELETON.replace("[default]", stand_in)
        .replace("[before]", opening)
        .replace("[after]", literal(chat_format.after_tools or ""))
        .replace("[otherwise]", otherwise)
    )


def without_tools(otherwise: str) -> str:
    """The skeleton of a template that knows no tools, so that the server does not promise any."""
    system = "{{- if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ [otherwise]end }}"
    turns = (
        '{{- range .Messages }}{{ if ne .Role "system" }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}'
    )
    return f"{system}{turns}{{{{ end }}}}<|im_start|>assistant\n".replace("[otherwise]", otherwise)


def literal(text: str) -> str:
    """Text that Go's template engine leaves as it is."""
    return text.replace("{{", '{{ "{{" }}')
