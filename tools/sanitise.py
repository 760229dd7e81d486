"""Text from outside, made harmless before it meets a model or a terminal. Owns what is taken out; refuses to judge
the meaning.

Two dangers: control sequences that drive a terminal or hide text from its reader, and template tokens, with which a
web page could end its own turn and begin the user's. The first are removed; the second stay readable, in brackets
that no template knows. What a person approves is not cleaned but spelled out: there nothing may be missing.
"""

import re

# Introducers and ends of ECMA-48's string sequences (OSC, DCS, SOS, PM, APC) end a search for one, so that looking
# stays linear; a sequence without an end loses its introducer alone, so that nothing can swallow the rest of a page.
SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
LINE_ENDS = re.compile("\r\n?|[\x0b\x0c\x85\u2028\u2029]")
# C0 but tab and newline, DEL, C1, soft hyphens, fillers that show nothing, bidirectional overrides, invisible spaces,
# halves of characters, interlinear annotation, tag characters and the variation selectors beside them. Emoji and
# several scripts need joiners and the other variation selectors: JOINERS.
INVISIBLE = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff"
)
CONTROLS = re.compile(f"[{INVISIBLE}]")
JOINERS = re.compile("[\u200c\u200d\ufe00-\ufe0f]+")
KEYCAP = re.compile("[0-9#*]\ufe0f\u20e3")
HIDDEN = re.compile(f"[{INVISIBLE}\u200c\u200d\u2800\ufe00-\ufe0f]")

OPEN, CLOSE = "<\uff1c\ufe64", ">\uff1e\ufe65"
BARS = "|\uff5c\uffe8\u2758\u2223\u01c0\u2502"
WORDS = (
    "tool_calls?|tool_responses?|tool_results?|tool_code|tool_outputs?|tools|function_calls?|function_response|think"
    "|start_of_turn|end_of_turn|start_of_image|end_of_image|start_function_(?:call|response|declaration)"
    "|end_function_(?:call|response|declaration)|escape|bos|eos|pad|unk|mask|sop|eop|s|bos_token|eos_token"
    "|toolcall|available_tools|arg_key|arg_value|fim_\\w{1,16}|(?:start|end)_of_audio|(?:image|audio)_soft_token"
    "|end_of_utterance|(?:extra_id|special|unused|reserved)_?\\d{1,5}|(?:seed|minimax):\\w{1,32}|(?:function|parameter)=\\w{1,64}|function|parameter"
)
BRACKETED = (
    "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|ARGS|CALL_ID|THINK|IMG|IMG_BREAK|IMG_END"
    "|AUDIO|BEGIN_AUDIO|PREFIX|MIDDLE|SUFFIX|[gs]?MASK|CLS|SEP|MODEL_SETTINGS|CONTROL_\\d{1,5}"
)
# In turn: <|im_end|> of Qwen, Llama 3, Phi and DeepSeek (whose bars are wide), <|turn> and <turn|> of Gemma 4,
# <tool_call> and <start_of_turn> of Hermes, Gemma and others, <<SYS>> of Llama 2, [INST] of Mistral, [|user|] of
# EXAONE, ]~b] of MiniMax. What is between the bars holds no bracket, so that a token within a token is found first.
TEMPLATE_TOKENS = re.compile(
    rf"[{OPEN}][{BARS}]([^{OPEN}{CLOSE}\[\]\n\u2039\u203a]{{1,64}}?)[{BARS}][{CLOSE}]"
    rf"|[{OPEN}][{BARS}](/?[\w\"]{{1,32}})[{CLOSE}]"
    rf"|[{OPEN}](/?[\w\"]{{1,32}})[{BARS}][{CLOSE}]"
    rf"|[{OPEN}][ \t]{{0,4}}(/?[ \t]{{0,4}}(?:{WORDS}))[ \t]{{0,4}}/?[{CLOSE}]"
    rf"|[{OPEN}]{{2}}(/?SYS)[{CLOSE}]{{2}}"
    rf"|\[(/?(?:{BRACKETED}))\]|\[[{BARS}](\w{{1,32}})[{BARS}]\]|\](~!?b)[\[\]]|\[(e~)\[",
    re.IGNORECASE,
)


def strip_controls(text: str) -> str:
    """Text that a terminal shows and does not obey. Every kind of line end is a newline."""
    shown = CONTROLS.sub("", LINE_ENDS.sub("\n", SEQUENCES.sub("", text)))
    return JOINERS.sub(join, shown)


def join(found: re.Match[str]) -> str:
    """Of a run of joiners what makes sense: none after ASCII but in a keycap, else one selector and one joiner."""
    text, at = found.string, found.start()
    before = text[at - 1 : at]
    if before and (before.isascii() or before in OPEN + CLOSE + BARS):
        return "\ufe0f" if KEYCAP.match(text, at - 1) else ""
    run = found.group()
    selector = run[0] if run[0] >= "\ufe00" else ""
    joiner = next((each for each in run if each < "\ufe00"), "")
    return selector + joiner


def neutralise_tokens(text: str) -> str:
    """Text in which no template token is left: `<|im_end|>` becomes `im_end` in angle quotation marks.

    One pass suffices: what is put in holds brackets that are in no token, so nothing around it can become one.
    """
    return TEMPLATE_TOKENS.sub(lambda found: f"\u2039{next(filter(None, found.groups()))}\u203a", text)


def clean(text: str) -> str:
    """Both: what a tool's result goes through before anyone reads it."""
    return neutralise_tokens(strip_controls(text))


def spelled_out(text: str, kept: str = "") -> str:
    """A text with whatever cannot be seen as escapes, but for the characters to be kept: nothing is left out."""
    return "".join(each if is_seen(each) or each in kept else escape(each) for each in text)


def is_seen(character: str) -> bool:
    """Whether a reader can see that the character is there."""
    return character.isprintable() and not HIDDEN.match(character)


def escape(character: str) -> str:
    """A character as JSON would escape it, so that the line stays readable."""
    code = ord(character)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
