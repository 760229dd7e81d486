import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.sanitise import TEMPLATE_TOKENS, clean, neutralise_tokens, strip_controls


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
        ("a\x08b\x00c\x7fd\re", "abcde"),
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
