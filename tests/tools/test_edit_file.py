import random
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaud.errors import ToolError
from tools.base import Context
from tools.diffs import lines_of, unified
from tools.edit_file import TOOL, replaced

Call = Callable[..., str]
PROGRAM = "def f():\n    return 1\n\n\ndef g():\n    return 1\n"


def test_a_passage_is_replaced_exactly(folder: Path, call: Call) -> None:
    """What was named is replaced, blanks and all; everything else stays as it was."""
    (folder / "p.py").write_text(PROGRAM)
    assert call(TOOL, path="p.py", old_text="def g():\n    return 1", new_text="def g():\n    return 2") == (
        "edited p.py at line 5"
    )
    assert (folder / "p.py").read_text() == PROGRAM[: PROGRAM.rindex("1")] + "2\n"
    call(TOOL, path="p.py", old_text="\n\n\ndef g():\n    return 2", new_text="")
    assert (folder / "p.py").read_text() == "def f():\n    return 1\n"


@pytest.mark.parametrize(
    ("old", "told"),
    [
        ("    return 1", "more than once, at lines 2, 6"),
        ("return 1", "more than once"),
        ("def g():\n  return 1", "other blanks it is at line 5; copy these lines exactly:\ndef g():\n    return 1"),
        ("def gg():", "the nearest is line"),
        ("ünïcode", "nothing in it is like that"),
        ("\n\n\n\n", "nothing in it is like that"),
        ("    return 1\n", "more than once"),
    ],
)
def test_a_passage_that_is_not_there_once_is_explained(folder: Path, call: Call, old: str, told: str) -> None:
    """The model reads where something like it is, or at which lines it is; the file stays as it was."""
    (folder / "p.py").write_text(PROGRAM)
    with pytest.raises(ToolError) as refused:
        call(TOOL, path="p.py", old_text=old, new_text="x")
    assert told in str(refused.value)
    assert (folder / "p.py").read_text() == PROGRAM


def test_overlapping_passages_are_more_than_one(folder: Path, call: Call) -> None:
    """Of `aa` in `aaa` nobody knows which is meant."""
    (folder / "a").write_text("aaa")
    with pytest.raises(ToolError, match="more than once"):
        call(TOOL, path="a", old_text="aa", new_text="b")


def test_line_ends_and_marks_stay(folder: Path, call: Call) -> None:
    """A file with CRLF and a byte order mark is edited with the LF that models write, and keeps both."""
    (folder / "dos.txt").write_bytes(b"\xef\xbb\xbfuno\r\ndos\r\ntres\r\n")
    call(TOOL, path="dos.txt", old_text="dos\ntres", new_text="2\n3")
    assert (folder / "dos.txt").read_bytes() == b"\xef\xbb\xbfuno\r\n2\r\n3\r\n"


def test_a_file_with_both_line_ends_is_edited(folder: Path, call: Call) -> None:
    """A passage is found with the line ends that it has, LF or CRLF, and the other lines keep theirs."""
    (folder / "both.txt").write_bytes(b"uno\r\ndos\ntres\ncuatro\r\ncinco\r\n")
    call(TOOL, path="both.txt", old_text="dos\ntres", new_text="2\n3")
    call(TOOL, path="both.txt", old_text="cuatro\ncinco", new_text="4\n5")
    assert (folder / "both.txt").read_bytes() == b"uno\r\n2\n3\n4\r\n5\r\n"


def test_looking_for_what_is_alike_ends(folder: Path, call: Call) -> None:
    """Lines that are all a little like the passage do not hold the chat up."""
    letters = random.Random(1)
    (folder / "a").write_text("".join("".join(letters.choices("abcdef", k=200)) + "\n" for _ in range(5000)))
    began = monotonic()
    with pytest.raises(ToolError, match="is not in"):
        call(TOOL, path="a", old_text="abcdef" * 33, new_text="")
    assert monotonic() - began < 8


def test_what_is_no_text_is_left_alone(folder: Path, call: Call) -> None:
    """Bytes that are no UTF-8 would be damaged by an edit; a missing file has nothing to edit."""
    (folder / "raw").write_bytes(b"a\xff")
    with pytest.raises(ToolError, match="no text in UTF-8"):
        call(TOOL, path="raw", old_text="a", new_text="b")
    with pytest.raises(ToolError, match="no such file"):
        call(TOOL, path="none", old_text="a", new_text="b")
    (folder / "t").write_text("a")
    with pytest.raises(ToolError, match="the same"):
        call(TOOL, path="t", old_text="a", new_text="a")


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "link", ".git/config", ".env"])
def test_the_jail_holds_for_edits(folder: Path, call: Call, path: str) -> None:
    """What may not be written may not be edited."""
    (folder.parent / "x").write_text("a")
    (folder / "link").symlink_to("../x")
    (folder / ".git").mkdir()
    (folder / ".git/config").write_text("a")
    with pytest.raises(ToolError):
        call(TOOL, path=path, old_text="a", new_text="b")
    assert (folder.parent / "x").read_text() == (folder / ".git/config").read_text() == "a"


def test_the_preview_is_the_edit(folder: Path, context: Context) -> None:
    """A person sees the change in its place; an edit that will fail says so before it is approved."""
    (folder / "p.py").write_text(PROGRAM)
    assert TOOL.preview
    shown = TOOL.preview({"path": "p.py", "old_text": "def g", "new_text": "def h"}, context)
    assert shown.splitlines()[2:] == [
        "@@ -2,5 +2,5 @@",
        "     return 1",
        " ",
        " ",
        "-def g():",
        "+def h():",
        "     return 1",
    ]
    with pytest.raises(ToolError, match="more than once"):
        TOOL.preview({"path": "p.py", "old_text": "return", "new_text": "x"}, context)


LINES = st.lists(st.sampled_from(["a", "b", "", "  a", "ñ"]), max_size=8).map("\n".join)


def patched(old: str, shown: str) -> list[str]:
    """The lines that a diff makes of an old text, its own old lines checked."""
    *_, header = shown.split("\n")[:3]
    first, count = map(int, header.split()[1][1:].split(","))
    body = [line.replace("\0", "\n") for line in shown.replace("\n\\", "\0\\").split("\n")[3:]]
    at = first - 1 if count else first
    lines = lines_of(old)
    assert lines[at : at + count] == [line[1:] for line in body if line[0] in " -"]
    return lines[:at] + [line[1:] for line in body if line[0] in " +"] + lines[at + count :]


@given(LINES, LINES)
def test_a_diff_tells_all_of_a_change(old: str, new: str) -> None:
    """What a diff shows, done to the old text, gives the new one: nothing of a change is hidden."""
    shown = unified("f", old, new)
    if old == new:
        assert shown == ""
    else:
        assert patched(old, shown) == lines_of(new)


@given(LINES, st.text("ab\n ", min_size=1, max_size=4), st.text("ab\n ", max_size=4))
def test_an_edit_changes_one_place_or_nothing(text: str, old: str, new: str) -> None:
    """Either the passage was there just once and is replaced, or the edit is refused."""
    places = [at for at in range(len(text)) if text.startswith(old, at)]
    try:
        edited, _ = replaced("f", text, old, new)
    except ToolError:
        assert len(places) != 1 or old == new
        return
    assert len(places) == 1
    assert edited == text[: places[0]] + new + text[places[0] + len(old) :]
