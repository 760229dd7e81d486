import os
from pathlib import Path

import pytest

from thaud.errors import ToolError
from tools.base import Context
from tools.read_file import MAX_BYTES, TOOL
from tools.workspace import Workspace


def read(context: Context, **arguments: object) -> str:
    return TOOL.perform(TOOL.accept(arguments), context)


def test_a_file_is_read_whole(folder: Path, context: Context) -> None:
    """A text file comes back as it is, from any depth, also by its absolute path inside the workspace."""
    (folder / "notes" / "2026").mkdir(parents=True)
    (folder / "notes" / "2026" / "plan.txt").write_text("uno\ndos: ñandú\n", encoding="utf-8")
    assert read(context, path="notes/2026/plan.txt") == "uno\ndos: ñandú"
    assert read(context, path=str(folder / "notes" / "2026" / "plan.txt")) == "uno\ndos: ñandú"
    assert read(context, path="./notes/2026/plan.txt") == "uno\ndos: ñandú"


def test_lines_are_chosen_and_counted(folder: Path, context: Context) -> None:
    """A range gives its lines and says how many there are; a range beyond the end says so."""
    (folder / "ten.txt").write_text("".join(f"line {number}\n" for number in range(1, 11)))
    assert read(context, path="ten.txt", first_line=3, last_line=4) == "line 3\nline 4\n[lines 3-4 of 10]"
    assert read(context, path="ten.txt", first_line=10).startswith("line 10\n")
    assert read(context, path="ten.txt", first_line=11) == "[no such lines: the file has 10]"


def test_large_files_are_cut_and_bad_bytes_replaced(folder: Path, context: Context) -> None:
    """No file fills the memory, and no byte makes the tool fail."""
    (folder / "large.txt").write_bytes(b"\xff" + b"a" * (MAX_BYTES + 10))
    text = read(context, path="large.txt")
    assert text.startswith("\N{REPLACEMENT CHARACTER}aaa")
    assert text.endswith("[the file is longer: only its first 256 KiB were read]")
    assert text.count("a") < MAX_BYTES + 30


@pytest.mark.parametrize(
    "path",
    [
        "../secret.txt",
        "sub/../../secret.txt",
        "..",
        "sub/..",
        "/etc/passwd",
        "/proc/self/environ",
        "/",
        "//etc/passwd",
        "/dev/zero",
        ".",
        "a\0b",
    ],
)
def test_paths_that_lead_out_are_refused(folder: Path, context: Context, path: str) -> None:
    """Parent folders and absolute paths never reach the file system."""
    (folder / "sub").mkdir()
    (folder.parent / "secret.txt").write_text("secret")
    with pytest.raises(ToolError, match=r"outside the workspace|names no file"):
        read(context, path=path)


def test_an_absolute_path_cannot_climb_out_of_the_root(folder: Path, context: Context) -> None:
    """A path that begins with the root and goes up again is refused."""
    (folder.parent / "secret.txt").write_text("secret")
    with pytest.raises(ToolError, match="outside the workspace"):
        read(context, path=f"{folder}/../secret.txt")


@pytest.mark.parametrize("target", ["../secret.txt", "/proc/self/environ", "inside.txt"])
def test_symbolic_links_are_not_followed(folder: Path, context: Context, target: str) -> None:
    """A link is refused wherever it leads; the file beside it can be read, so it is the link that is refused."""
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "inside.txt").write_text("inside")
    (folder / "link.txt").symlink_to(target)
    with pytest.raises(ToolError, match="symbolic link"):
        read(context, path="link.txt")
    assert read(context, path="inside.txt") == "inside"


@pytest.mark.parametrize("target", ["..", "/", "/proc/self", "real"])
def test_linked_folders_are_not_entered(folder: Path, context: Context, target: str) -> None:
    """A link on the way is refused like one at the end."""
    (folder / "real").mkdir()
    (folder / "real" / "secret.txt").write_text("inside")
    (folder.parent / "secret.txt").write_text("secret")
    (folder / "door").symlink_to(target, target_is_directory=True)
    with pytest.raises(ToolError, match="symbolic link"):
        read(context, path="door/secret.txt")
    assert read(context, path="real/secret.txt") == "inside"


def test_only_regular_files_are_read(folder: Path, context: Context) -> None:
    """A FIFO without a writer does not block; folders are refused."""
    os.mkfifo(folder / "pipe")
    (folder / "sub").mkdir()
    for name, why in [("pipe", "no regular file"), ("sub", "a folder")]:
        with pytest.raises(ToolError, match=why):
            read(context, path=name)


def test_what_cannot_be_read_says_why(folder: Path, context: Context) -> None:
    """A missing file, a file used as a folder, a name that is too long, a workspace that is not there."""
    (folder / "file").write_text("x")
    for path, why in [("none.txt", "no such file"), ("file/x", "no folder"), ("n" * 300, "too long")]:
        with pytest.raises(ToolError, match=why):
            read(context, path=path)
    elsewhere = Context(Workspace(folder / "none"), context.clock)
    with pytest.raises(ToolError, match="no such file"):
        read(elsewhere, path="file")


def test_no_descriptor_is_left_open(folder: Path, context: Context) -> None:
    """Neither success nor refusal leaks a file descriptor."""
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "deeper" / "file.txt").write_text("x")
    (folder / "deep" / "link").symlink_to("deeper")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        read(context, path="deep/deeper/file.txt")
        with pytest.raises(ToolError):
            read(context, path="deep/link/file.txt")
    assert len(list(Path("/proc/self/fd").iterdir())) == before
