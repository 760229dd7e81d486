import os
import resource
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import pytest

from thaud.errors import ToolError
from tools.base import Context
from tools.workspace import MOST_WRITTEN_BYTES, Workspace
from tools.write_file import TOOL

Call = Callable[..., str]


def names(folder: Path | str) -> list[str]:
    return sorted(each.name for each in Path(folder).iterdir())


def preview(context: Context, **arguments: object) -> str:
    assert TOOL.preview
    return TOOL.preview(TOOL.accept(arguments), context)


def test_a_file_is_made_with_its_folders(folder: Path, call: Call) -> None:
    """A new file holds what was asked, blanks and all; missing folders are made; nothing else is left."""
    told = call(TOOL, path="notes/2026/plan.txt", content="  uno\ndos: ñandú\n\n")
    assert (folder / "notes/2026/plan.txt").read_text() == "  uno\ndos: ñandú\n\n"
    assert told == "made notes/2026/plan.txt: 3 lines, 20 bytes"
    assert names(folder / "notes/2026") == ["plan.txt"]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002], ids=oct)
def test_new_files_are_as_private_as_their_user_wants(folder: Path, call: Call, mask: int) -> None:
    """What is made has the mode that the user's umask gives everything else, folders too."""
    before = os.umask(mask)
    try:
        call(TOOL, path="notes/plan.txt", content="x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "notes/plan.txt").stat().st_mode) == 0o666 & ~mask
    assert stat.S_IMODE((folder / "notes").stat().st_mode) == 0o777 & ~mask


def test_no_tree_is_made_that_nobody_can_remove(folder: Path, call: Call) -> None:
    """A path of a thousand folders is refused before the first of them is made."""
    with pytest.raises(ToolError, match="deeper than"):
        call(TOOL, path="q/" * 1000 + "x", content="x")
    assert names(folder) == []


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(folder: Path, context: Context) -> None:
    """While a folder on the way is swapped for a link and back, nothing outside is read or written."""
    inside, link, aside = folder / "d", folder / "link", folder / "aside"
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / "f").write_text("secret")
    inside.mkdir()
    (inside / "f").write_text("fine")
    link.symlink_to(outside)
    done = Event()

    def swap() -> None:
        with suppress(OSError):  # a write may make the folder that is away just then, and ends the game
            while not done.is_set():
                for old, new in ((inside, aside), (link, inside), (inside, link), (aside, inside)):
                    old.rename(new)
                    done.wait(0.0002)  # each state is there for a moment

    met: set[str] = set()
    swapper = Thread(target=swap)
    swapper.start()
    try:
        end = monotonic() + 20
        while "link" not in met and monotonic() < end:
            try:
                with context.workspace.open("d/f") as stream:
                    met.add(stream.read().decode())
            except ToolError as error:
                met.add("link" if "link" in str(error) else str(error))
        for _ in range(50):
            with suppress(ToolError):
                context.workspace.write("d/f", b"new")
    finally:
        done.set()
        swapper.join()
    assert "secret" not in met
    assert "link" in met, "the swap was never met"
    assert names(outside) == ["f"]
    assert (outside / "f").read_text() == "secret"


@pytest.mark.parametrize("mode", [0o755, 0o600, 0o664])
def test_a_replaced_file_keeps_its_mode(folder: Path, call: Call, mode: int) -> None:
    """A program stays executable, a private file private; setuid does not come back."""
    path = folder / "run.sh"
    path.write_text("old")
    path.chmod(mode | stat.S_ISUID)
    assert call(TOOL, path="run.sh", content="new").startswith("replaced run.sh")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_text() == "new"


def test_a_hard_link_elsewhere_keeps_what_it_had(folder: Path, call: Call) -> None:
    """Writing makes another file: what else is called the same inode is not changed through the workspace."""
    outside = folder.parent / "ledger"
    outside.write_text("precious")
    os.link(outside, folder / "link.txt")
    call(TOOL, path="link.txt", content="new")
    assert outside.read_text() == "precious"
    assert (folder / "link.txt").read_text() == "new"


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/etc/x", "/", ".", "", "a\0b", "n" * 300])
def test_paths_that_lead_out_are_refused(folder: Path, call: Call, path: str) -> None:
    """Nothing is written outside, and nothing without a name."""
    with pytest.raises(ToolError):
        call(TOOL, path=path, content="x")
    assert names(folder) == []
    assert names(folder.parent) == ["workspace"]


def test_links_are_not_followed(folder: Path, call: Call) -> None:
    """Neither a link at the end nor one on the way, dangling or not, leads a write out; the real name is written."""
    (folder.parent / "outside").mkdir()
    (folder.parent / "secret").write_text("kept")
    (folder / "door").symlink_to("../outside", target_is_directory=True)
    (folder / "link").symlink_to("../secret")
    (folder / "dangling").symlink_to("../outside/made")
    for path in ("door/x", "door/deep/x", "link", "dangling"):
        with pytest.raises(ToolError, match="link"):
            call(TOOL, path=path, content="x")
    assert names(folder.parent / "outside") == []
    assert (folder.parent / "secret").read_text() == "kept"
    call(TOOL, path="real/x", content="x")


def test_only_files_that_may_change_are_replaced(folder: Path, call: Call) -> None:
    """A folder, a FIFO and a file that is read-only stay."""
    (folder / "sub").mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "fixed").write_text("kept")
    (folder / "fixed").chmod(0o444)
    for path, why in [("sub", "a folder"), ("pipe", "no regular file"), ("fixed", "permission"), ("fixed/x", "folder")]:
        with pytest.raises(ToolError, match=why):
            call(TOOL, path=path, content="x")
    assert (folder / "fixed").read_text() == "kept"


GUARDED = [
    ".git", ".git/config", "sub/.git/hooks/pre-commit", ".GIT/config", ".Git", ".g\u200cit/config", ".git\u200d/x",
    "\uff0egit/config", ".git./config", ".git /config", "GIT~1/config", ".g\u0456t/config", ".git::$INDEX_ALLOCATION/x",
    "sub\\.git\\config", ".bashrc", ".BashRC", ".profile", ".zshrc", ".config/fish/config.fish", ".ssh/authorized_keys",
    ".SSH/config", ".env", ".env.production", ".env_old", ".env~", ".netrc", ".npmrc", ".vscode/tasks.json",
    ".mcp.json", "HEAD", "bare/HEAD", "sitecustomize.py", ".gitmodules",
    ".vim/plugin/x.vim", ".curlrc", ".Rprofile", "a\u202etxt", "line\nbreak.txt", "a\x1b[2Kb",
]  # fmt: skip


@pytest.mark.parametrize("path", GUARDED, ids=ascii)
def test_guarded_names_are_not_written(folder: Path, call: Call, path: str) -> None:
    """What other programs obey, what holds keys and what hides in a name is not written, however it is spelled."""
    with pytest.raises(ToolError, match="cannot write"):
        call(TOOL, path=path, content="x")
    assert names(folder) == []


@pytest.mark.parametrize(
    "path",
    [
        ".gitignore",
        "git/config",
        ".github/x.yml",
        "env",
        ".env.example",
        "profile",
        "head/x",
        ".config/app.toml",
        "ñ€漢",
    ],
)
def test_other_names_are_written(folder: Path, call: Call, path: str) -> None:
    """Names that are only like guarded ones are the user's own."""
    call(TOOL, path=path, content="x")
    assert (folder / path).read_text() == "x"


def test_a_file_has_a_most_size(folder: Path, call: Call) -> None:
    """A file of the most bytes is written, one more is refused."""
    call(TOOL, path="full", content="x" * MOST_WRITTEN_BYTES)
    with pytest.raises(ToolError, match="more than"):
        call(TOOL, path="more", content="x" * (MOST_WRITTEN_BYTES + 1))
    assert names(folder) == ["full"]


def test_the_home_is_protected_wherever_the_workspace_is(tmp_path: Path, context: Context) -> None:
    """THAU's thau.toml and data are neither written nor read from a workspace around them, by any name, there yet or
    not; its own workspace is.
    """
    home = tmp_path / "project"
    (home / "data/workspace").mkdir(parents=True)
    (home / "data/ledger").write_text("precious")
    (home / "other").symlink_to("data", target_is_directory=True)
    protected, spared = (home / "thau.toml", home / "data"), (home / "data/workspace",)
    around = Workspace(home, protected, spared)
    for path in ("thau.toml", "THAU.toml", "data/training_queue/x.jsonl", "data/ledger", "data/new/x"):
        with pytest.raises(ToolError, match="protected"):
            around.write(path, b"x")
    (home / "thau.toml").write_text("size = 'nano'")
    for path in ("thau.toml", "data/ledger"):
        with pytest.raises(ToolError, match="protected"), around.open(path):
            pass
    assert around.write("data/workspace/x", b"x")
    assert around.write("mine.txt", b"x")
    inside = Workspace(home / "data/workspace", protected, spared)
    assert inside.write("y", b"y")
    with pytest.raises(ToolError, match="protected"):
        Workspace(home / "data", protected, spared).write("x", b"x")
    assert (home / "data/ledger").read_text() == "precious"
    assert names(home / "data") == ["ledger", "workspace"]


def test_a_link_to_the_home_does_not_open_it(tmp_path: Path) -> None:
    """A workspace that is reached through a link is still in the home, and told by what it is."""
    (tmp_path / "home/data/queue").mkdir(parents=True)
    (tmp_path / "link").symlink_to("home/data/queue", target_is_directory=True)
    with pytest.raises(ToolError, match="protected"):
        Workspace(tmp_path / "link", (tmp_path / "home/data",)).write("x", b"x")


def test_a_write_that_fails_leaves_the_old_file(folder: Path, call: Call) -> None:
    """What cannot be written whole is not written at all, and leaves nothing behind."""
    (folder / "kept").write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(ToolError, match="too large"):
            call(TOOL, path="kept", content="x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(folder) == ["kept"]
    assert (folder / "kept").read_text() == "old"


def test_the_preview_is_a_diff(folder: Path, context: Context) -> None:
    """A person sees what goes and what comes, and of a new file that it is new."""
    (folder / "a.txt").write_text("one\ntwo\nthree\n")
    assert preview(context, path="a.txt", content="one\n2\nthree\n").splitlines() == [
        "--- a.txt", "+++ a.txt", "@@ -1,3 +1,3 @@", " one", "-two", "+2", " three",
    ]  # fmt: skip
    assert preview(context, path="b.txt", content="x").splitlines()[:2] == ["--- /dev/null", "+++ b.txt"]
    assert "already" in preview(context, path="a.txt", content="one\ntwo\nthree\n")
    (folder / "raw").write_bytes(b"\xff\xfe")
    assert "no text" in preview(context, path="raw", content="x")
    with pytest.raises(ToolError, match="obey"):
        preview(context, path=".bashrc", content="x")


def test_no_descriptor_is_left_open(folder: Path, call: Call) -> None:
    """Neither success nor refusal leaks a file descriptor."""
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("sub")
    before = len(names("/proc/self/fd"))
    for _ in range(10):
        call(TOOL, path="deep/deeper/file.txt", content="x")
        for path in ("link/x", "sub", ".git/x"):
            with pytest.raises(ToolError):
                call(TOOL, path=path, content="x")
    assert len(names("/proc/self/fd")) == before
