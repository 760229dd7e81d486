"""Text from outside, made harmless before it meets a model or a terminal. Owns what is taken out; refuses to judge
the meaning.

Two dangers: control sequences that drive a terminal or hide text from its reader, and template tokens, with which a
web page could end its own turn and begin the user's. The first are removed; the second stay readable, in brackets
that no template knows.
"""

import re

# ECMA-48: CSI sequences, then the string sequences (OSC, DCS, SOS, PM, APC) up to their end, then two-byte escapes.
SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]"
)
# C0 but tab and newline, DEL, C1, bidirectional overrides, invisible spaces, tag characters, interlinear annotation.
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
TEMPLATE_TOKENS = re.compile(
    r"<[|\uff5c]([^<>\n\u2039\u203a]{1,64}?)[|\uff5c]>"
    r"|<(/?(?:tool_call|tool_response|tools|think|start_of_turn|end_of_turn|bos|eos|s))>"
    r"|\[(/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS))\]",
    re.IGNORECASE,
)


def strip_controls(text: str) -> str:
    """Text that a terminal shows and does not obey."""
    return CONTROLS.sub("", SEQUENCES.sub("", text.replace("\r\n", "\n")))


def neutralise_tokens(text: str) -> str:
    """Text in which no template token is left: `<|im_end|>` becomes `im_end` in angle quotation marks.

    One pass suffices: what is put in holds brackets that are in no token, so nothing around it can become one.
    """
    return TEMPLATE_TOKENS.sub(lambda found: f"\u2039{next(filter(None, found.groups()))}\u203a", text)


def clean(text: str) -> str:
    """Both: what a tool's result goes through before anyone reads it."""
    return neutralise_tokens(strip_controls(text))
