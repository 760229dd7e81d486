"""Every case of names, kinds of files and the folder itself, through the real intake into the real ledger."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.testkit.box import Box, line, lines
from thaud.errors import StorageError

NOBODY = 65534


# Names


def test_dropped_again_and_renamed(box: Box, file: Path) -> None:
    """The same content under another name, or dropped again, adds nothing to the ledger's examples."""
    file.write_text(lines(1, 2))
    box.look()
    file.rename(box.queue / "b.jsonl")
    shutil.copy(box.queue / "b.jsonl", file)
    box.look()
    assert box.answers == ["1", "2"]


def test_a_hard_link_under_a_second_name(box: Box, file: Path) -> None:
    """One file under two names is read under both and stored once; the link changes nothing of the first."""
    file.write_text(lines(1, 2) + "{bad\n")
    box.look()
    (box.queue / "b.jsonl").hardlink_to(file)
    box.look()
    box.look()
    assert box.answers == ["1", "2"]
    assert sorted(box.rejected) == sorted(box.quarantined) == [("a.jsonl", 3, "{bad"), ("b.jsonl", 3, "{bad")]


@pytest.mark.parametrize(
    "unfinished",
    [
        ".a.jsonl.swp",
        ".a.jsonl.swx",
        "a.jsonl~",
        "#a.jsonl#",
        ".#a.jsonl",
        "~$a.jsonl",
        ".a.jsonl.AbC123",
        ".a.jsonl",
        "a.jsonl.tmp",
        "a.jsonl.part",
        "a.jsonl.filepart",
        "a.jsonl.crdownload",
        "4913~",
    ],
)
def test_what_others_are_still_writing(box: Box, unfinished: str) -> None:
    """Names of editors, browsers and copying programs (vim, emacs, Office, rsync's .x.jsonl.AbC123) are passed over
    in silence; renamed to a finished name, the file counts.
    """
    (box.queue / unfinished).write_text(line(1))
    box.look()
    assert (box.answers, box.not_read) == ([], {})
    (box.queue / unfinished).rename(box.queue / "done.jsonl")
    box.look()
    assert box.answers == ["1"]


@pytest.mark.parametrize("editor", ["vim", "emacs", "nano"])
def test_saved_by_an_editor(box: Box, file: Path, editor: str) -> None:
    """A file edited and saved as vim (backup by rename, new file), emacs (temporary name, rename over) or nano
    (truncate and write) do it: the edited line counts, the others are not doubled, the backup is not read.
    """
    file.write_text(lines(1, 2, 3))
    box.look()
    edited = lines(1, 22, 3)
    if editor == "vim":
        file.rename(box.queue / "a.jsonl~")
        file.write_text(edited)
        (box.queue / "a.jsonl~").unlink()
    elif editor == "emacs":
        shutil.copy(file, box.queue / "a.jsonl~")
        (box.queue / "#a.jsonl#").write_text(edited)
        (box.queue / "#a.jsonl#").rename(file)
    else:
        file.write_text(edited)
    box.look()
    assert (box.answers, box.not_read) == (["1", "2", "3", "22"], {})


def test_rsync_in_place(box: Box, file: Path) -> None:
    """`rsync --inplace` writes its pieces over the old content: until it is done, a line may be half new and half old,
    and a good example by accident. Such a file is read again when it is quiet: no line that nobody wrote counts.
    """
    file.write_text(lines(*range(100, 150)))
    box.look()
    new = lines(*range(150, 250)).encode()
    for at in range(0, len(new), 333):
        with file.open("r+b") as handle:
            handle.seek(at)
            handle.write(new[at : at + 333])
        box.look(settled=False)
    box.look()
    assert box.answers == [str(n) for n in range(100, 250)]


@pytest.mark.parametrize(
    "name",
    ["a b.jsonl", "new\nline.jsonl", 'it\'s "quoted".jsonl', "UPPER.JSONL", "ñ" * 124 + ".jsonl", "x" * 250 + ".json"],
)
def test_odd_names(box: Box, name: str) -> None:
    """Spaces, newlines, quotes, capitals and 255 bytes: each is read, its bad line is in quarantine under its name."""
    (box.queue / name).write_text("[" + line(1, "") + ", 5]" if name.endswith(".json") else line(1) + "5\n")
    box.look()
    box.look()
    assert (box.answers, box.rejected) == (["1"], [(name, 2, "5")])
    assert box.quarantined == box.rejected


# What is no readable file


def test_links_fifos_sockets_devices_and_folders(box: Box, tmp_path: Path) -> None:
    """None of them is opened or followed, none blocks, each is named with a reason; files beside them count."""
    (tmp_path / "secret.jsonl").write_text(line("secret"))
    (box.queue / "link.jsonl").symlink_to(tmp_path / "secret.jsonl")
    os.mkfifo(box.queue / "pipe.jsonl")
    (box.queue / "folder.jsonl").mkdir()
    bind(box.queue / "socket.jsonl")
    kinds = {"link.jsonl", "pipe.jsonl", "folder.jsonl", "socket.jsonl"}
    if os.geteuid() == 0:  # nobody else may make one
        os.mknod(box.queue / "null.jsonl", 0o20666, os.makedev(1, 3))
        kinds.add("null.jsonl")
    (box.queue / "z.jsonl").write_text(line(1))
    box.look()
    assert (box.answers, set(box.not_read)) == (["1"], kinds)


def bind(path: Path) -> None:
    """Make a socket file; its short relative name stays below the limit of socket names."""
    with socket.socket(socket.AF_UNIX) as endpoint:
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            endpoint.bind(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)


def test_mode_000_and_then_chmod() -> None:
    """A file that may not be read is named with the reason, holds up nothing, and counts as soon as it may be read."""
    with tempfile.TemporaryDirectory() as folder, Box(Path(folder)) as box:
        for name, mode in (("closed.jsonl", 0), ("open.jsonl", 0o644)):
            (box.queue / name).write_text(line(name))
            (box.queue / name).chmod(mode)
        give_all(Path(folder))
        with unprivileged():
            box.reopen()
            box.look()
            assert box.answers == ["open.jsonl"]
            assert "Permission denied" in box.not_read["closed.jsonl"]
        (box.queue / "closed.jsonl").chmod(0o644)
        with unprivileged():
            box.look()
            assert box.answers == ["open.jsonl", "closed.jsonl"]
        box.ledger.close()


def give_all(folder: Path) -> None:
    """Hand a tree to the user whom root becomes; a closed file stays root's."""
    if os.geteuid() == 0:
        for path in (folder, *folder.rglob("*")):
            if path.name != "closed.jsonl":
                os.chown(path, NOBODY, -1)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Give up root's eyes, where the tests run as root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_sparse_file_of_three_gibibytes(box: Box, file: Path) -> None:
    """A file over the limit is refused as a whole, once, without being read; cut to a sane size, it counts."""
    with file.open("wb") as handle:
        handle.truncate(3 << 30)
    box.look()
    box.look()
    assert [(number, len(raw)) for _, number, raw in box.rejected] == [(0, 1024)]
    assert box.reasons == ["the file is over the limit of 2147483648 bytes: split it"]
    file.write_text(line(1))
    box.look()
    assert box.answers == ["1"]


# The folder


def test_twenty_thousand_files_at_once(box: Box) -> None:
    """20,000 files of one line each are all taken in by one look, and the next look opens none of them."""
    for number in range(20_000):
        (box.queue / f"{number}.jsonl").write_text(line(number))
    box.look()
    assert box.ledger.one("SELECT count(*) FROM examples") == 20_000
    box.look()
    assert len(box.intake.done) == len(list(box.queue.iterdir()))


def test_the_folder_deleted_and_made_again(box: Box, file: Path) -> None:
    """A drop-box that is gone is one clear error; made again, what is dropped there counts; what was known stays."""
    file.write_text(line(1))
    box.look()
    shutil.rmtree(box.queue)
    with pytest.raises(StorageError, match="make the folder again"):
        box.look()
    box.queue.mkdir()
    file.write_text(line(2))
    box.look()
    assert box.answers == ["1", "2"]
