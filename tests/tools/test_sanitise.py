import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.sanitise import TEMPLATE_TOKENS, clean, neutralise_tokens, spelled_out, strip_controls


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ñ 漢 👩‍🚀\tand\nlines", "plain ñ 漢 👩‍🚀\tand\nlines"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x1b[2J\x1b[Hgone", "gone"),
        ("\x9b31mred", "red"),
        ("\x1bP1$r\x1b\\dcs", "dcs"),
        ("a\x08b\x00c\x7fd", "abcd"),
        ("user\u202egnp.exe", "usergnp.exe"),
        ("tag\U000e0041\U000e0042s", "tags"),
        ("zero\u200bwidth\ufeff", "zerowidth"),
        ("\x1b", ""),
        ("a\r\nb", "a\nb"),
    ],
)
def test_terminals_and_readers_are_not_fooled(raw: str, shown: str) -> None:
    """Control sequences, bidirectional overrides and invisible characters go; letters of all scripts stay."""
    assert strip_controls(raw) == shown


@pytest.mark.parametrize(
    ("raw", "inner"),
    [
        ("<|im_start|>", "im_start"),
        ("<|IM_END|>", "IM_END"),
        ("<tool_call>", "tool_call"),
        ("</tool_response>", "/tool_response"),
        ("<think>", "think"),
        ("<|eot_id|>", "eot_id"),
        ("<\uff5cbegin\u2581of\u2581sentence\uff5c>", "begin\u2581of\u2581sentence"),
        ("<start_of_turn>", "start_of_turn"),
        ("[INST]", "INST"),
        ("</s>", "/s"),
    ],
)
def test_template_tokens_become_text(raw: str, inner: str) -> None:
    """No token with which a page could begin a turn of its own survives, and its name stays readable."""
    assert neutralise_tokens(f"a {raw} b") == f"a \u2039{inner}\u203a b"


@pytest.mark.parametrize(
    "raw", ["<|im_<|im_end|>start|>", "<tool_<tool_call>call>", "<\x1b[0m|im_start|>", "<|im\u200b_end|>"]
)
def test_tokens_cannot_be_nested_or_hidden(raw: str) -> None:
    """Taking one token out never makes another, nor does taking out what hid it."""
    assert not TEMPLATE_TOKENS.search(clean(raw))


@pytest.mark.parametrize("text", ["a < b | c > d", "x[1] <b>bold</b>", "if a <| b", "List<String>", "[INSTALL]"])
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Comparisons, pipes and markup are no tokens."""
    assert clean(text) == text


@given(st.text(alphabet="<|>/_imstarend\x1b[]m\u200btolc", max_size=80))
def test_cleaning_is_final(text: str) -> None:
    """What is cleaned once holds no token, and cleaning it again changes nothing."""
    once = clean(text)
    assert not TEMPLATE_TOKENS.search(once)
    assert clean(once) == once


TOKENS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|vision_start|>", "<tool_call>", "</tool_call>", "<tool_response>",
    "<tools>", "</think>", "<function=run_shell>", "<parameter=x>",  # Qwen, Hermes
    "<|begin_of_text|>", "<|start_header_id|>", "<|eom_id|>", "<|python_tag|>", "<|header_start|>", "<|eot|>",
    "<<SYS>>", "<</SYS>>", "<s>", "</s>", "[/INST]",  # Llama
    "<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>", "<start_function_call>", "<escape>", "<|turn>",
    "<turn|>", "<|tool_call>", "<tool_call|>", '<|"|>', "<|channel>", "<start_of_image>",  # Gemma
    "[INST]", "[AVAILABLE_TOOLS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[ARGS]", "[THINK]",  # Mistral
    "<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>", "<\uff5ctool\u2581calls\u2581begin\uff5c>",  # DeepSeek
    "<\uff5cend\u2581of\u2581sentence\uff5c>", "<|fim_begin|>",
    "<|user|>", "<|assistant|>", "<|START_OF_TURN_TOKEN|>", "<BOS_TOKEN>", "<|message|>", "[gMASK]", "<sop>",  # others
    "<seed:tool_call>", "<minimax:tool_call>", "<unk>", "]~b]", "]~!b[", "[e~[", "[|assistant|]", "[|endofturn|]",
    "<extra_id_1>", "<SPECIAL_10>", "<unused12>", "<reserved_106>", "<TOOLCALL>", "</arg_value>", "<fim_prefix>",
    "<start_of_audio>", "<image_soft_token>", "<end_of_utterance>", "[CONTROL_8]",
]  # fmt: skip
HIDERS = [
    "\u200b",
    "\u200d",
    "\ufe0f",
    "\u202e",
    "\x1b[0m",
    "\x00",
    "\u00ad",
    "\U000e0041",
    "\U000e0100",
    "\r",
    "\x9b1m",
]
PIECES = [
    *TOKENS,
    *HIDERS,
    *"<>|[]/ab\uff5c\uff1c\uff1e ",
    "im_",
    "start",
    "tool_",
    "call",
    "INST",
    "<|",
    "|>",
    "\x1b",
    "\x9d",
]


@pytest.mark.parametrize("token", TOKENS)
def test_no_family_of_models_has_a_token_left(token: str) -> None:
    """The special tokens of the models that people use are text afterwards, with their name still to be read."""
    told = clean(f"a{token}b")
    assert token not in told
    assert token.strip('<>|[]/"\uff5c~!') in told
    assert told == clean(told)


@pytest.mark.parametrize("hider", [each for each in HIDERS if each != "\r"], ids=ascii)
@pytest.mark.parametrize("token", ["<|im_end|>", "<tool_call>", "[INST]", "<\uff5cUser\uff5c>"])
def test_nothing_hides_a_token(token: str, hider: str) -> None:
    """Whatever invisible stands wherever in a token, afterwards the token is not there."""
    for at in range(len(token) + 1):
        told = clean(token[:at] + hider + token[at:])
        assert token not in told
        assert not TEMPLATE_TOKENS.search(told)


@pytest.mark.parametrize("outer", ["<|{}|>", "<{}>", "[{}]", "<|{}", "{}|>", "<<{}>>", "<\uff5c{}\uff5c>"])
@pytest.mark.parametrize("inner", ["[INST]", "<s>", "<|im_end|>", "<tool_call>", "<<SYS>>", "[", ">"])
def test_a_token_in_a_token_is_no_token(outer: str, inner: str) -> None:
    """What is put in for one token neither holds another nor makes one with what is around it."""
    told = clean(outer.format(f"im_{inner}end"))
    assert not TEMPLATE_TOKENS.search(told)
    assert told == clean(told)


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_nothing_survives_whatever_is_put_together(text: str) -> None:
    """Of tokens, halves of tokens and what hides them in any order no token is left, and cleaning is final."""
    once = clean(text)
    assert not TEMPLATE_TOKENS.search(once)
    assert not any(token in once for token in TOKENS)
    assert clean(once) == once
    assert not set(once) & set("\x1b\x9b\x9d\x00\r\u200b\u202e")


@given(st.text(max_size=60))
def test_any_text_is_cleaned_for_good(text: str) -> None:
    """Any text at all is clean after once, and can be sent and printed."""
    once = clean(text)
    assert clean(once) == once
    assert not TEMPLATE_TOKENS.search(once)
    once.encode()


@pytest.mark.parametrize(
    "text",
    [
        "👩\u200d🚀 ❤️\u200d🔥 ✔️ 1️⃣",
        "\u0645\u06cc\u200c\u062e\u0648",
        "क्\u200dष",
        "日本語 한국어",
        "a\nb\tc",
        "x |> f <| y",
        "a<b>c",
        "[1] [INSTALL]",
    ],
)
def test_what_people_write_stays(text: str) -> None:
    """Emoji, scripts with joiners, code and markup come through as they are."""
    assert clean(text) == text


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x9dall of the page", "all of the page"),
        ("\x1b]0;title without end", "0;title without end"),
        ("\x90one\x9c two\x90three", " twothree"),
        ("10%\r20%\u2028done", "10%\n20%\ndone"),
        ("a\u200d\u200d\u200db", "ab"),
        ("❤\ufe0f\ufe01\ufe02\u200d\u200d🔥", "❤\ufe0f\u200d🔥"),
        ("\x1b\x1b[31m[31m", "[31m"),
    ],
)
def test_nothing_swallows_the_rest(raw: str, shown: str) -> None:
    """A sequence without an end takes nothing with it, a line end is a line end, runs of joiners carry no message."""
    assert strip_controls(raw) == shown


LONG = [
    "\x9d" * 100_000, "\x1b[" * 100_000, "<|" * 100_000, "<" * 200_000, "[" * 200_000, "\x1b]0;" + "a" * 200_000,
    "<|" + "a" * 200_000, "\u200d" * 200_000, "< " * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("text", LONG, ids=lambda text: ascii(text[:6]))
def test_cleaning_is_quick_whatever_the_text(text: str) -> None:
    """Cleaning takes time in proportion to the text: two hundred thousand characters of the worst are cleaned."""
    told = clean(text)  # a tenth of a second; where it took the square, hours
    assert clean(told) == told


@given(st.text(max_size=40))
def test_spelling_out_loses_nothing(text: str) -> None:
    """What a person approves shows every character, and the text can be read back."""
    shown = spelled_out(text)
    assert shown.isprintable()
    assert spelled_out(shown) == shown
    if "\\" not in text:
        assert shown.encode("ascii", "backslashreplace").decode("unicode_escape") == text.encode(
            "ascii", "backslashreplace"
        ).decode("unicode_escape")


def test_what_cannot_be_seen_is_spelled_out() -> None:
    """Fillers, joiners and blanks that are no blanks are escapes; letters stay."""
    assert spelled_out("a\u3164b\u2800c\u200dd\ufe0fe\u00a0f\u202eñ漢") == (
        "a\\u3164b\\u2800c\\u200dd\\ufe0fe\\u00a0f\\u202eñ漢"
    )
