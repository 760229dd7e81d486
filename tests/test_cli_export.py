"""`thau export`: what lies in the folder, whole or not there, and what is refused."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.seeded import make_home, open_ledger
from tests.test_disk_full import tmpfs
from tests.testkit.accepted import CERTIFICATE, FAMILY, accepted, sha256
from tests.testkit.daemon import wait_until
from thaud.config import load_settings
from thaud.control import only_daemon
from thaud.domain import Message, Version
from thaud.errors import ServerError
from thaud.home import Home
from thaud.ledger import LedgerReader
from thaud.registrar import as_served
from thaud.serving.modelfile import modelfile
from thaud.serving.reconcile import recipe_for
from thaud.steps.llama import LlamaModel

Invoke = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def parse_modelfile(text: str) -> list[tuple[str, str]]:
    """(instruction, value) by the rules of Ollama's parser/parser.go: an instruction a line; a value that begins with a
    quote, or three, goes on to the first line that ends with as many.
    """
    found, lines = [], iter(text.splitlines(keepends=True))
    for line in lines:
        if not line.strip() or line.startswith("#"):
            continue
        name, _, value = line.partition(" ")
        if name == "PARAMETER":
            parameter, _, value = value.partition(" ")
            name = f"PARAMETER {parameter}"
        while (end := closed(value.strip())) is None:
            value += next(lines)
        found.append((name, end))
    return found


def closed(value: str) -> str | None:
    """A value without its quotes, None while they are open."""
    for quotes in ('"""', '"'):
        if value.startswith(quotes):
            whole = len(value) >= 2 * len(quotes) and value.endswith(quotes)
            return value[len(quotes) : -len(quotes)] if whole else None
    return value


# What is written


def test_the_copy_is_the_version(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """The GGUF is the version's, byte for byte, llama.cpp runs it and it says the same; the rest is there."""
    version, out = accepted(home), tmp_path / "out"
    assert thau("export", "1", "--to", out)[0] == 0
    copy = out / "thau-nano-v1.gguf"
    assert sha256(copy) == version.gguf_sha256
    assert names(out) == [
        "Modelfile",
        "Modelfile.ollama-0.24",
        "README.md",
        "certificate.json",
        "thau-nano-v1.gguf",
    ]
    assert json.loads((out / "certificate.json").read_text()) == CERTIFICATE
    said = []
    for path in (Path(version.gguf), copy):
        with LlamaModel(path, 256) as model:
            prompt = model.encode(model.renderer.prompt([Message("user", "Who are you?")]))
            said.append("".join(text for text, _ in model.generate(prompt, 32)))
    assert said == ["I am number 1."] * 2


def test_a_copy_that_is_edited_leaves_the_version_as_it_is(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """No hard link: what people do to the exported file is no matter of the home's."""
    version, out = accepted(home), tmp_path / "out"
    thau("export", "1", "--to", out)
    copy = out / "thau-nano-v1.gguf"
    assert copy.stat().st_nlink == 1
    with copy.open("r+b") as file:
        file.write(b"edited")
    assert sha256(Path(version.gguf)) == version.gguf_sha256


def test_the_champion_is_what_is_exported_where_none_is_named(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Without N it is the version that answers; --json says what was written."""
    accepted(home)
    version = accepted(home)
    code, out, _ = thau("export", "--to", tmp_path / "out", "--json")
    report = json.loads(out)
    assert (code, report["version"], report["left_out"]) == (0, "thau-nano-v2", [])
    assert report["files"][0] == {
        "name": "thau-nano-v2.gguf",
        "size_bytes": version.size_bytes,
        "sha256": version.gguf_sha256,
    }
    assert {each["name"]: each["size_bytes"] for each in report["files"]} == {
        path.name: path.stat().st_size for path in (tmp_path / "out").iterdir()
    }


@pytest.mark.parametrize(("name", "native"), [("Modelfile", True), ("Modelfile.ollama-0.24", False)])
@pytest.mark.parametrize("adapted", [False, True])
def test_a_modelfile_says_what_the_reconciler_sends(
    thau: Invoke, home: Home, tmp_path: Path, name: str, *, native: bool, adapted: bool
) -> None:
    """Parameters and template are those of serving/reconcile.recipe_for, for both generations of servers, so that who
    runs `ollama create` has what THAU registers; read by the rules of Ollama's own parser.
    """
    version = accepted(home)
    if adapted:
        version = as_adapter(home, version)
    assert thau("export", "1", "--to", tmp_path / "out")[0] == 0
    recipe = recipe_for(as_served(load_settings(home), version), native=native)
    found = parse_modelfile((tmp_path / "out" / name).read_text())
    files = [("FROM", "./base.gguf"), ("ADAPTER", "./adapter.gguf")] if adapted else [("FROM", "./thau-nano-v1.gguf")]
    parameters = [("PARAMETER num_ctx", "128"), ("PARAMETER stop", "<|im_end|>")]
    assert recipe.parameters == {"num_ctx": 128, "stop": ["<|im_end|>"]}
    template = [] if native else [("TEMPLATE", recipe.template)]
    assert found == [*files, *parameters, *template]
    assert recipe.system is None


def as_adapter(home: Home, version: Version) -> Version:
    """The same, as an adapter on a base; the files are stand-ins."""
    base = home.bases / "d-f16" / "model.gguf"
    base.parent.mkdir(parents=True)
    Path(version.gguf).rename(base)
    Path(version.gguf).write_bytes(b"a LoRA")
    digest = sha256(Path(version.gguf))
    with open_ledger(home) as ledger, ledger.transaction("note") as sql:
        sql.execute(
            "UPDATE versions SET kind = 'adapter', gguf_sha256 = ?, size_bytes = 6, base_gguf = ?, base_sha256 = ?",
            (digest, str(base), version.gguf_sha256),
        )
    with LedgerReader.open(home.ledger) as reader:
        return reader.versions(FAMILY)[0]


def test_an_adapter_goes_with_its_base(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Both files are copied, each with its own digest, and the card names both."""
    version, out = as_adapter(home, accepted(home)), tmp_path / "out"
    assert thau("export", "1", "--to", out)[0] == 0
    assert (sha256(out / "adapter.gguf"), sha256(out / "base.gguf")) == (version.gguf_sha256, version.base_sha256)
    card = (out / "README.md").read_text()
    assert "llama-cli -m base.gguf --lora adapter.gguf" in card
    assert version.base_sha256 is not None
    assert version.base_sha256 in card


def test_what_cannot_be_written_is_said(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """A chat template that Go's cannot say, and a version from before certificates: left out, with a word."""
    accepted(home, template="{% for m in messages %}[{{ m.content }}]{% endfor %}\n", certificate=None)
    code, said, _ = thau("export", "1", "--to", tmp_path / "out")
    assert code == 0
    assert "without Modelfile.ollama-0.24: its chat template cannot be written" in said
    assert "without certificate.json: the version is older than certificates" in said
    assert names(tmp_path / "out") == ["Modelfile", "README.md", "thau-nano-v1.gguf"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "nobody compared the file with what was trained" in card
    assert "ollama-0.24" not in card


@pytest.mark.parametrize("value", ["<|im_end|>", 'say "so"', "two\nlines", 128, 0.5, True])
def test_values_survive_a_modelfile(value: Any) -> None:
    """Numbers as they are, text in quotes that it does not hold itself."""
    found = parse_modelfile(modelfile("a head\nof two lines", "./a.gguf", {"stop": value}))
    assert found == [("FROM", "./a.gguf"), ("PARAMETER stop", str(value).lower() if value is True else str(value))]


def test_three_quotes_do_not_end_a_template() -> None:
    """In a template they become an action of Go's that prints them; in a parameter they are refused."""
    template = 'Say """\nor """so""", then\n{{ .Content }}\n"'
    ((_, _), (name, found)) = parse_modelfile(modelfile("", "./a.gguf", {}, template))
    assert (name, found.replace('{{ "\\"\\"\\"" }}', '"""')) == ("TEMPLATE", template)
    with pytest.raises(ServerError, match="three quotes"):
        modelfile("", "./a.gguf", {"stop": '"""'})


# The folder


def test_a_folder_that_holds_something_is_left_alone(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Without --force nothing is written there; with it our own names are replaced, what no longer holds goes, and
    nothing else is touched.
    """
    accepted(home)
    accepted(home, certificate=None)
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    code, _, err = thau("export", "1", "--to", out)
    assert code == 2
    assert "notes.txt" in err
    assert "--force" in err
    assert names(out) == ["notes.txt"]
    assert thau("export", "1", "--to", out, "--force")[0] == 0
    assert thau("export", "2", "--to", out, "--force")[0] == 0
    assert (out / "notes.txt").read_text() == "mine"
    assert "number 2" in (out / "README.md").read_text()
    assert not (out / "certificate.json").exists()  # it was of version 1
    assert (out / "thau-nano-v1.gguf").exists()


@pytest.mark.parametrize("name", ["README.md", "Modelfile", "certificate.json", "thau-nano-v1.gguf"])
@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_force_replaces_nothing_of_somebody_elses(
    thau: Invoke, home: Home, tmp_path: Path, name: str, kind: str
) -> None:
    """A file of one of our names that no export wrote stays as it is, also with --force, before anything is copied."""
    accepted(home)
    out, mine = tmp_path / "out", tmp_path / "mine"
    out.mkdir()
    mine.write_text("mine")
    if kind == "folder":
        (out / name).mkdir()
    elif kind == "link":
        (out / name).symlink_to(mine)
    else:
        (out / name).write_text("mine")
    code, _, err = thau("export", "1", "--to", out, "--force")
    assert (code, str(out / name) in err, "move it away" in err) == (2, True, True)
    assert names(out) == [name]
    assert kind == "folder" or (out / name).read_text() == "mine"


def test_the_homes_own_data_is_no_place_for_it(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Nor is a file; both are said, and nothing is written."""
    accepted(home)
    assert thau("export", "1", "--to", home.queue / "out")[0] == 2
    (tmp_path / "file").write_text("")
    assert thau("export", "1", "--to", tmp_path / "file")[0] == 8
    assert not (home.queue / "out").exists()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "No such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"!"), "is damaged"),
        (lambda path: path.write_bytes(path.read_bytes()[:100]), "is damaged"),
    ],
)
def test_a_lost_or_damaged_version_is_not_handed_out(
    thau: Invoke, home: Home, tmp_path: Path, damage: Callable[[Path], Any], said: str
) -> None:
    """The digest is taken while copying: what is not the file that was examined leaves nothing, not even the folder."""
    version = accepted(home)
    damage(Path(version.gguf))
    code, _, err = thau("export", "1", "--to", tmp_path / "new" / "out")
    assert code == 8
    assert said in err
    assert "restore it from a backup" in err
    assert not (tmp_path / "new").exists()


def test_a_version_that_was_given_up_says_so(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """What `thau prune` took is named, with the day and what to do."""
    with_file = accepted(home)
    accepted(home)
    with open_ledger(home) as ledger:
        ledger.give_up([with_file])
    code, _, err = thau("export", "1", "--to", tmp_path / "out")
    assert code == 8
    assert "thau-nano-v1 was given up on 2026-01-02" in err
    assert not (tmp_path / "out").exists()


def test_versions_that_are_not_there(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """None at all has an exit code of its own; a wrong number names those that there are."""
    assert thau("export", "--to", tmp_path / "out")[0] == 11
    accepted(home)
    code, _, err = thau("export", "9", "--to", tmp_path / "out")
    assert code == 2
    assert "choose one of 1" in err


def test_room_is_looked_for_before_the_first_byte(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Where the disk has too little, it is said in figures, and nothing is left there."""
    version = accepted(home)
    with tmpfs(tmp_path / "disk", "size=64k") as disk:
        assert version.size_bytes > 64 << 10
        code, _, err = thau("export", "1", "--to", disk / "out")
        assert (code, names(disk)) == (8, [])
    assert "0 MB left" in err
    assert "make room" in err


def test_it_works_beside_the_daemon(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """The ledger is read and not written; the lock is somebody else's."""
    accepted(home)
    with only_daemon(home):
        before = {path.name: path.read_bytes() for path in home.data.glob("ledger.sqlite3*") if path.suffix != "-shm"}
        assert thau("export", "1", "--to", tmp_path / "out")[0] == 0
        assert before["ledger.sqlite3"] == home.ledger.read_bytes()


# Dying


@contextmanager
def exporting(home: Home, out: Path, points: str) -> Iterator[subprocess.Popen[bytes]]:
    """`thau export 1` as a process of its own, with a point armed."""
    words = [sys.executable, "-m", "thaud.cli", "--home", str(home.root), "export", "1", "--to", str(out)]
    with subprocess.Popen(words, env={**os.environ, "THAU_FAILPOINTS": points}, stderr=subprocess.PIPE) as child:
        try:
            yield child
        finally:
            child.kill()


@pytest.mark.parametrize(("nth", "whole"), [(1, []), (2, ["thau-nano-v1.gguf"]), (5, None)])
def test_a_kill_leaves_no_half_file(
    thau: Invoke, home: Home, tmp_path: Path, nth: int, whole: list[str] | None
) -> None:
    """SIGKILL between a file's last byte and its name: whatever has a name is whole, and doing it again mends it."""
    version, out = accepted(home), tmp_path / "out"
    with exporting(home, out, f"file.export.between=crash@{nth}") as child:
        assert child.wait(60) == -signal.SIGKILL
    named = [each for each in names(out) if not each.startswith(".")]
    if whole is not None:
        assert named == whole
    assert "README.md" not in named  # the last: who finds it finds all of it
    assert all(sha256(out / each) == version.gguf_sha256 for each in named if each.endswith(".gguf"))
    assert thau("export", "1", "--to", out, *(["--force"] if named else []))[0] == 0
    assert not [each for each in names(out) if each.startswith(".")]


def test_ctrl_c_leaves_nothing(home: Home, tmp_path: Path) -> None:
    """Who thinks better of it while it copies has neither file nor folder, and the exit code of Ctrl-C."""
    accepted(home)
    gate, out = tmp_path / "gate", tmp_path / "out"
    with exporting(home, out, f"file.export.between=wait:{gate}") as child:
        wait_until(lambda: gate.with_name("gate.reached").exists(), 60, "the copy")
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 130
    assert not out.exists()


def test_a_full_disk_is_said_and_leaves_nothing(home: Home, tmp_path: Path) -> None:
    """ENOSPC in the middle of the copy is exit code 8 and no file."""
    accepted(home)
    with exporting(home, tmp_path / "out", "file.export.between=enospc") as child:
        assert child.wait(60) == 8
        assert child.stderr is not None
        assert b"No space left" in child.stderr.read()
    assert not (tmp_path / "out").exists()
