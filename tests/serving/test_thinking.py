"""Thoughts told from words in streams that are cut anywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaud.serving.thinking import Splitter


def split(pieces: list[str], *, inside: bool = False) -> tuple[str, str]:
    """What is said and what is thought."""
    splitter = Splitter(inside=inside)
    found = [*map(splitter.feed, pieces), splitter.finish()]
    return "".join(each.text for each in found), "".join(each.thinking for each in found)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("reply", "inside", "said", "thought"),
    [
        ("Son 42.", False, "Son 42.", ""),
        ("<think>\n6*7\n</think>\n\nSon 42.", False, "Son 42.", "6*7"),
        (" \n<think>6*7</think>Son 42.", False, "Son 42.", "6*7"),
        ("<think></think>Son 42.", False, "Son 42.", ""),
        ("<think>a </thin b </think>c", False, "c", "a </thin b"),
        ("<think>never ends", False, "", "never ends"),
        ("6*7\n</think>\n\nSon 42.", True, "Son 42.", "6*7"),
        ("Son 42. <think>no</think>", False, "Son 42. <think>no</think>", ""),
        ("a</think>b", False, "a</think>b", ""),
        ("<thin", False, "<thin", ""),
        ("<think>a</think>b <think>c</think>", False, "b <think>c</think>", "a"),
        ("<think>ñ🙂</think> <tool_call>", False, "<tool_call>", "ñ🙂"),
    ],
)
def test_thoughts_are_told_apart(reply: str, inside: bool, said: str, thought: str, size: int) -> None:  # noqa: FBT001
    """A thought stands at the beginning of a reply; the tags and the blanks around them are in neither part."""
    pieces = [reply[at : at + size] for at in range(0, len(reply), size)]
    assert split(pieces, inside=inside) == (said, thought)


@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<thi", "nk>", "</", " ", "\n", "a", "ñ"])).map("".join),
    st.lists(st.integers(1, 5), min_size=1),
    st.booleans(),
)
def test_the_pieces_make_no_difference(reply: str, sizes: list[int], inside: bool) -> None:  # noqa: FBT001
    """Wherever a stream is cut, the parts are the same."""
    pieces: list[str] = []
    rest = reply
    while rest:
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(rest[:size])
        rest = rest[size:]
    assert split(pieces, inside=inside) == split([reply], inside=inside)


def test_what_is_certain_is_told_at_once() -> None:
    """Thoughts and words are shown while they come."""
    splitter = Splitter()
    assert splitter.feed("<think>One").thinking == "One"
    assert splitter.thinking
    assert splitter.feed(" two").thinking == " two"
    assert splitter.feed("</think>\nSon").text == "Son"
    assert not splitter.thinking
