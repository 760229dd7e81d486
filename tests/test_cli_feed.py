import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.seeded import make_home, open_ledger
from thaud.cli.feed import shorten
from thaud.cli.toml_edit import change
from thaud.control import only_daemon
from thaud.domain import Example
from thaud.errors import ConfigError
from thaud.formats import age_from_name, parse_line
from thaud.home import Home
from thaud.ledger import NewFile, NewRejection, Rejected
from thaud.ledger.quarantined import digest_of

Invoke = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("plain_environment")
GOOD = b'{"instruction": "2 + 2", "output": "4"}\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def running(home: Home) -> Iterator[Home]:
    with only_daemon(home):
        yield home


def queued(home: Home) -> list[Path]:
    return sorted(home.queue.iterdir())


# add


def test_add_puts_one_example_into_the_drop_box(thau: Invoke, home: Home) -> None:
    """The guide's `add` leaves one whole file with the example, its age, group and system prompt."""
    words = ("add", "¿Qué es un algoritmo?", "Pasos", "--age", "3", "--group", "algo", "--system", "Sé breve")
    code, out, _ = thau(*words, "--json")
    (path,) = queued(home)
    example = parse_line(path.read_bytes())
    assert code == 0
    assert isinstance(example, Example)
    assert json.loads(out) == {"id": example.id, "status": "queued", "file": path.name}
    assert [message.content for message in example.messages] == ["Sé breve", "¿Qué es un algoritmo?", "Pasos"]
    assert (example.age, example.group) == (3, "algo")


def test_add_says_when_it_will_be_read(thau: Invoke, home: Home) -> None:
    """add works without a daemon, and says that the example waits for one."""
    assert "thau start" in thau("add", "a", "b")[1]
    with only_daemon(home):
        assert "few seconds" in thau("add", "c", "d")[1]


def test_add_refuses_what_is_no_example(thau: Invoke, home: Home) -> None:
    """An empty answer or an impossible age is refused with the reason, and nothing is queued."""
    for words in (("add", "a", ""), ("add", "a", "b", "--age", "999")):
        code, _, err = thau(*words)
        assert (code, err.count("\n")) == (12, 1)
    assert queued(home) == []


def test_add_where_the_drop_box_cannot_be_written(thau: Invoke, home: Home) -> None:
    """A drop-box that is no folder is one line with exit code 8."""
    home.queue.rmdir()
    home.queue.write_text("in the way", encoding="utf-8")
    code, _, err = thau("add", "a", "b")
    assert (code, err.count("\n")) == (8, 1)
    assert str(home.queue) in err


# import-data


def test_import_copies_a_file_byte_for_byte(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """A good file is queued whole under its own name, so that its age and its line numbers keep their meaning."""
    source = tmp_path / "age_3_toddler.jsonl"
    source.write_bytes(GOOD + b"\n" + b'{"prompt": "a", "completion": "b"}')
    code, out, _ = thau("import-data", source)
    (path,) = queued(home)
    assert code == 0
    assert "2 good, 0 bad" in out
    assert (path.name, path.read_bytes()) == (source.name, source.read_bytes())


def test_import_never_replaces_a_file(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Two files of one name are both queued."""
    (tmp_path / "other").mkdir()
    for folder in (tmp_path, tmp_path / "other"):
        (folder / "age_1.jsonl").write_bytes(GOOD)
    assert thau("import-data", tmp_path / "age_1.jsonl", tmp_path / "other" / "age_1.jsonl")[0] == 0
    names = [path.name for path in queued(home)]
    assert names == ["age_1-2.jsonl", "age_1.jsonl"]
    assert [age_from_name(name) for name in names] == [1, 1]


def test_import_with_an_age(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """--age holds for the file's examples that name none, and before the age in its name; any name will do."""
    for name in ("mis datos.txt", "age_1_infant.jsonl"):
        (tmp_path / name).write_bytes(GOOD)
    assert thau("import-data", "--age", "6", tmp_path / "mis datos.txt", tmp_path / "age_1_infant.jsonl")[0] == 0
    names = [path.name for path in queued(home)]
    assert names == ["age_6_age_1_infant.jsonl", "age_6_mis-datos.txt.jsonl"]
    assert [age_from_name(name) for name in names] == [6, 6]


def test_import_names_bad_lines(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Each bad line is named with its reason and the exit code is 12; the file is queued for its good lines."""
    source = tmp_path / "mixed.jsonl"
    source.write_bytes(GOOD + b"{broken\n" + b'{"x": 1}\n' + GOOD.replace(b"4", b"5") + b'{"instruction": "cut')
    code, out, err = thau("import-data", source)
    assert code == 12
    assert "2 good, 3 bad" in out
    assert "line 2: not JSON" in out
    assert "line 3: no known dialect among the fields" in out
    assert "line 5: " in out
    assert err.startswith("error: 3 lines are no examples")
    assert "the good ones are queued" in err
    assert [path.name for path in queued(home)] == ["mixed.jsonl"]
    (report,) = json.loads(thau("import-data", source, "--json")[1])
    assert (report["good"], report["bad"], report["queued"]) == (2, 3, "mixed-2.jsonl")
    assert [each["line"] for each in report["rejections"]] == [2, 3, 5]


def test_import_of_nothing_good(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """An empty file and a file without a good line are refused and not queued."""
    for content, said in ((b"", "is empty"), (b"\n\n", "is empty"), (b"{}\n", "1 line is no example")):
        (tmp_path / "bad.jsonl").write_bytes(content)
        code, out, err = thau("import-data", tmp_path / "bad.jsonl")
        assert code == 12
        assert said in err
        assert "nothing was queued" in err
        assert "nothing was queued" in out
    assert queued(home) == []


def test_import_reads_json_lists_as_the_intake_does(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """A .json file counts as a whole, by the judgement of the intake itself."""
    rows = [{"instruction": "a", "output": "b"}, {"messages": []}]
    (tmp_path / "list.json").write_text(json.dumps(rows), encoding="utf-8")
    code, out, _ = thau("import-data", tmp_path / "list.json")
    assert code == 12
    assert "1 good, 1 bad" in out
    assert [path.name for path in queued(home)] == ["list.json"]


def test_import_of_what_is_no_file(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """A missing file and a folder are one line each with exit code 8, and stop the import before anything is queued."""
    (tmp_path / "good.jsonl").write_bytes(GOOD)
    for bad, said in ((tmp_path / "missing.jsonl", "No such file"), (tmp_path, "is a folder")):
        code, _, err = thau("import-data", tmp_path / "good.jsonl", bad)
        assert (code, err.count("\n")) == (8, 1)
        assert said in err
    assert queued(home) == []


def test_import_of_compressed_files(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """A .jsonl.gz is judged and copied as it is, under its whole suffix; one that is damaged or another kind is not."""
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(GOOD))
    assert thau("import-data", tmp_path / "a.jsonl.gz", "--age", "3")[0] == 0
    [copy] = queued(home)
    assert (copy.name, copy.read_bytes()) == ("age_3_a.jsonl.gz", (tmp_path / "a.jsonl.gz").read_bytes())
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(GOOD)[:-1])
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(GOOD))
    for name, said in (("cut.jsonl.gz", "cut off"), ("a.json.gz", "unpack it")):
        code, out, err = thau("import-data", tmp_path / name)
        assert (code, err.count("\n")) == (12, 1)
        assert said in out + err
    assert queued(home) == [copy]


def test_import_follows_links(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """A link given on the command line is the user's choice: its file is imported under the link's name."""
    (tmp_path / "target").write_bytes(GOOD)
    (tmp_path / "age_0.jsonl").symlink_to("target")
    assert thau("import-data", tmp_path / "age_0.jsonl")[0] == 0
    (path,) = queued(home)
    assert (path.name, path.is_symlink(), path.read_bytes()) == ("age_0.jsonl", False, GOOD)


def test_import_of_a_large_file(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """A file of many read batches is counted line by line."""
    source = tmp_path / "big.jsonl"
    line = b'{"instruction": "%d", "output": "' + b"x" * 1000 + b'"}\n'
    source.write_bytes(b"".join(line % n for n in range(9000)))
    code, out, _ = thau("import-data", source)
    assert code == 0
    assert "9000 good, 0 bad" in out


# rejected


def test_rejected_shows_quarantined_lines(thau: Invoke, home: Home) -> None:
    """rejected names file, line, reason and text; control characters do not reach the terminal."""
    assert "No rejected lines" in thau("rejected")[1]
    with open_ledger(home) as ledger:
        rows = tuple(NewRejection(n, "not JSON", f"\x1b[31m{n}") for n in range(1, 5))
        ledger.take_in(NewFile("a.jsonl", "{}", True, (), (), rows))
    code, out, _ = thau("rejected", "-n", "2")
    assert code == 0
    assert "a.jsonl:4: not JSON" in out
    assert "and 2 more" in out
    assert "\x1b[31m" not in out
    report = json.loads(thau("rejected", "--json")[1])
    assert report["total"] == 4
    assert report["rejections"][0]["raw"] == "\x1b[31m4"


def test_rejected_of_one_file(thau: Invoke, home: Home) -> None:
    """--file shows one file's lines with their total, and the way to correct them."""
    with open_ledger(home) as ledger:
        for name, count in (("a.jsonl", 3), ("b.json", 2)):
            rows = tuple(NewRejection(n, "not JSON", f"{name} {n}") for n in range(1, count + 1))
            ledger.take_in(NewFile(name, "{}", True, (), (), rows))
    _, out, _ = thau("rejected", "--file", "b.json", "-n", "1")
    assert "b.json:2: not JSON" in out
    assert "a.jsonl" not in out
    assert "and 1 more" in out
    assert "Total: 2." in out
    assert f"{home.rejected / 'b.json.jsonl'} and run `thau retry`" in out
    assert json.loads(thau("rejected", "--file", "b.json", "--json")[1])["total"] == 2
    assert "No rejected lines" in thau("rejected", "--file", "c.jsonl")[1]


def test_what_was_corrected_is_no_longer_listed(thau: Invoke, home: Home) -> None:
    """A resolved line is in neither the list nor the total, nor in what `thau status` counts."""
    with open_ledger(home) as ledger:
        rows = tuple(NewRejection(n, "not JSON", f"raw {n}") for n in (1, 2))
        ledger.take_in(NewFile("a.jsonl", "{}", True, (), (), rows))
        assert ledger.resolve([Rejected("a.jsonl", 1, digest_of("raw 1"))]) == 1
    _, out, _ = thau("rejected")
    assert "a.jsonl:2" in out
    assert "a.jsonl:1:" not in out
    assert json.loads(thau("rejected", "--json")[1])["total"] == 1
    assert json.loads(thau("status", "--json")[1])["service"]["rejected_lines"] == 1


def test_long_lines_are_cut() -> None:
    """A quarantined line of any length takes one line of the screen."""
    assert shorten("x" * 99) == "x" * 99
    assert len(shorten("x" * 5000)) == 103
    assert "\n" not in shorten("a\nb")


# thau.toml


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('size = "nano"\n', 'size = "7b"\n'),
        ("# size = 'x'\nsize='nano'  # c\n[a]\nsize = 'no'\n", "# size = 'x'\nsize=\"7b\"  # c\n[a]\nsize = 'no'\n"),
        ("[training]\nepochs = 3\n", 'size = "7b"\n[training]\nepochs = 3\n'),
        ("", 'size = "7b"\n'),
        ("language = 'es'", "language = 'es'\nsize = \"7b\"\n"),
    ],
)
def test_changing_a_value_keeps_the_text(before: str, after: str) -> None:
    """Only the value changes, only at the top level, and a missing one goes in front of the first table."""
    assert change(before, {"size": "7b"}) == after


def test_a_file_that_cannot_be_changed_safely_is_left_alone() -> None:
    """Where the text cannot be changed line by line, the user is asked to do it."""
    with pytest.raises(ConfigError, match="by hand"):
        change('note = """\nsize = "a"\n"""\nsize = "nano"\n', {"size": "7b"})
    with pytest.raises(ConfigError, match="TOML"):
        change("size = ", {"size": "7b"})
