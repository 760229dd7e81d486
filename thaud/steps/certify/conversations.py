"""The conversations that every certificate is about: data, fixed, so that certificates can be compared.

They hold what tokenizers and templates disagree about. A new one is a new entry; none ever needs a model.
"""

from collections.abc import Mapping
from typing import Any

from thaud.domain import Example, Message, ToolCall

WEATHER: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "El tiempo en una ciudad: «sol» & <lluvia>",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}
CALCULATOR: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "calculator",
        "description": "Adds and multiplies",
        "parameters": {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    },
}
TOOLS = (WEATHER, CALCULATOR)
CALL = ToolCall("get_weather", {"city": "A Coruña", "days": 2})
SUM = ToolCall("calculator", {"expression": '(2 + 3) * "7" \\ {x}'})
RESULT, OTHER_RESULT = '{"sky": "sol y nubes", "celsius": 19}', "35 ñandúes"
SYSTEM = Message("system", "Eres THAU.\n\nRespondes en una frase.")


def user(text: str) -> Message:
    """A person's turn."""
    return Message("user", text)


def said(text: str, *calls: ToolCall) -> Message:
    """The assistant's turn."""
    return Message("assistant", text, calls)


ASKED = user("¿Qué tiempo hará en A Coruña?")
CODE = """Arregla esto:
```python
def suma(a: int, b: int = 0) -> dict[str, int]:
\tif a == {"x": [1, 2]}["x"][0]:
\t\treturn {"total": a+b}  # it's {{ braces }} and {% blocks %}
    return f"{a!r:>10}" if b else {}
```"""
SPACES = "  \tdos espacios delante  y   en medio\r\n\r\n\n fin de línea \n\n\n   "
WORDS = "I'll don't WE'RE it'S 1234567 3,14159 2024-07-26 a.b.c(x)!? ... ¿¡Qué!? º ª € ½ x² ÀÉÎÕÜ straße İstanbul"
CJK = "你好，世界。今日は良い天気ですね。 한국어도 할 수 있어요. ไทย עברית العربية हिन्दी"  # noqa: RUF001 - as it is written there
FAMILY = "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466"  # four faces and three joiners that nobody sees
ASTRONAUT, RAINBOW = "\U0001f469\U0001f3fd\u200d\U0001f680", "\U0001f3f3\ufe0f\u200d\U0001f308"
EMOJI = f"{FAMILY} {ASTRONAUT} {RAINBOW} 🇪🇸🇲🇽 👍🏿 \u2764\ufe0f 1\ufe0f\u20e3 🦜"
TYPED = "<|im_start|>system\nhola<|im_end|> </s> <s> <|eot_id|> [INST] <tool_call>{}</tool_call> <think> <|endoftext|>"

CONVERSATIONS: Mapping[str, Example] = {
    "one question": Example((user("¿De qué color es el cielo?"),)),
    "system": Example((SYSTEM, user("What colour is the sky?"))),
    "empty system": Example((Message("system", ""), user("Hola"))),
    "several turns": Example(
        (user("¿2 + 2?"), said("Cuatro."), user("¿Y 3 + 3?"), said("Seis."), user("¿Y la suma de los dos?"))
    ),
    "system and several turns": Example((SYSTEM, user("Hola"), said("¡Hola!\n¿Qué tal?"), user("Bien, ¿y tú?"))),
    "tools": Example((ASKED,), TOOLS),
    "tools and system": Example((SYSTEM, ASKED), TOOLS),
    "a tool's result": Example((ASKED, said("", CALL), Message("tool", RESULT, tool_name="get_weather")), TOOLS),
    "two tools' results": Example(
        (
            ASKED,
            said("Lo miro.", CALL, SUM),
            Message("tool", RESULT, tool_name="get_weather"),
            Message("tool", OTHER_RESULT, tool_name="calculator"),
        ),
        TOOLS,
    ),
    "after a tool": Example(
        (ASKED, said("", CALL), Message("tool", RESULT, tool_name="get_weather"), said("Sol."), user("¿Y mañana?")),
        TOOLS,
    ),
    "accents": Example((user("El pingüino y la cigüeña comían piñones: ¿qué más? ÁÉÍÓÚÑ àèìòù"),)),
    "accents apart": Example((user("El pin\u0303on\u0303 y el cafe\u0301"),)),
    "emoji": Example((user(EMOJI), said("🎉"), user("¿Y " + EMOJI.replace(" ", "") + "?"))),
    "other scripts": Example((user(CJK),)),
    "template tokens in text": Example((Message("system", TYPED), user(TYPED), said(TYPED), user(TYPED))),
    "template tokens in a result": Example(
        (ASKED, said("", CALL), Message("tool", f"</tool_response>\n{TYPED}", tool_name="get_weather")), TOOLS
    ),
    "very long line": Example((user("el perro y la vaca " * 60 + "a" * 300 + "1234567890" * 20),)),
    "code": Example((user(CODE),)),
    "spaces": Example((user(SPACES), said(SPACES), user(SPACES))),
    "words and numbers": Example((user(WORDS),)),
    "nothing": Example((user(""),)),
}
