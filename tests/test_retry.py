"""`thau retry`: corrected lines come back as examples, and what they stand for leaves quarantine, once."""

import asyncio
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.seeded import make_home
from tests.testkit.daemon import look, running, wait_until
from thaud.config import Settings
from thaud.control import Request, read_request, send, take
from thaud.formats import age_from_name
from thaud.home import Home
from thaud.intake import Intake
from thaud.ledger import Ledger, LedgerReader
from thaud.quarantine import Resolution, resolve

Invoke = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("plain_environment")
NAME = "age_3_toddler.jsonl"
BAD_LINES = ['{"instruction": "uno", "output": ""}', '{"instruction": "dos"', '{"x": 3}']
GOOD_LINE = '{"instruction": "cero", "output": "0"}'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with one good line and three bad ones, taken in by the real intake."""
    home = make_home(tmp_path / "home")
    (home.queue / NAME).write_text("\n".join([GOOD_LINE, *BAD_LINES]) + "\n", encoding="utf-8")
    take_in(home)
    return home


@pytest.fixture
def quarantined(home: Home) -> Path:
    return home.rejected / NAME


def take_in(home: Home) -> None:
    """What a daemon does: obey, then take in."""
    with Ledger.open(home.ledger) as ledger:
        for asked in take(home):
            if asked.resolution is not None:
                resolve(home, ledger, asked.resolution)
        asyncio.run(Intake(home, Settings(), ledger).take_in())


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, found: list[Any]) -> None:
    texts = (each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in found)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def mend(path: Path, number: int, raw: Any) -> None:
    """Edit the `raw` of one row in place."""
    found = rows(path)
    found[number]["raw"] = raw
    write_rows(path, found)


def answers(home: Home) -> set[str]:
    """The completions of all examples."""
    sql = "SELECT content FROM examples"
    return {
        json.loads(row["content"])["messages"][-1]["content"]
        for row in look(home, lambda ledger: ledger.connection.execute(sql).fetchall())
    }


def listed(home: Home) -> list[int]:
    """Line numbers of what is still rejected."""
    return sorted(row["line"] for row in look(home, lambda ledger: ledger.rejections()))


def files_of(home: Home) -> set[str]:
    return {path.name for path in home.queue.iterdir()}


def test_a_mended_row_becomes_an_example(thau: Invoke, home: Home, quarantined: Path) -> None:
    """A row whose raw was mended is queued with the age of its first file, and leaves quarantine and list."""
    mend(quarantined, 0, '{"instruction": "uno", "output": "1"}')
    code, out, _ = thau("retry", NAME)
    (new,) = files_of(home) - {NAME}
    assert code == 0
    assert new in out
    assert age_from_name(new) == 3
    take_in(home)
    assert answers(home) == {"0", "1"}
    assert listed(home) == [3, 4]
    assert [row["line"] for row in rows(quarantined)] == [3, 4]
    assert not list(home.control.iterdir())


def test_an_object_in_the_place_of_the_text(thau: Invoke, home: Home, quarantined: Path) -> None:
    """For comfort, raw may be a JSON object."""
    mend(quarantined, 1, {"instruction": "dos", "output": "2"})
    assert thau("retry", quarantined)[0] == 0
    take_in(home)
    assert answers(home) == {"0", "2"}
    assert listed(home) == [2, 4]


def test_plain_examples_stand_for_the_rows_they_replaced(thau: Invoke, home: Home, quarantined: Path) -> None:
    """A plain example in a row's place resolves that row and no other."""
    found: list[Any] = rows(quarantined)
    found[1] = '{"instruction": "dos", "output": "2"}'
    write_rows(quarantined, found)
    assert thau("retry", NAME)[0] == 0
    take_in(home)
    assert answers(home) == {"0", "2"}
    assert listed(home) == [2, 4]
    assert [row["line"] for row in rows(quarantined)] == [2, 4]


def test_examples_that_could_stand_for_several_rows_resolve_none(thau: Invoke, home: Home, quarantined: Path) -> None:
    """Where rows were also deleted nobody can tell which one was corrected: it is queued, and all stay listed."""
    found: list[Any] = rows(quarantined)
    write_rows(quarantined, ['{"instruction": "dos", "output": "2"}', found[2]])
    code, out, _ = thau("retry", NAME)
    assert code == 0
    assert "stays listed" in out
    take_in(home)
    assert answers(home) == {"0", "2"}
    assert listed(home) == [2, 3, 4]


def test_a_file_of_examples_from_elsewhere(thau: Invoke, home: Home, tmp_path: Path) -> None:
    """Any JSONL file of corrected lines is queued under a name that begins like its own."""
    source = tmp_path / "corregido.jsonl"
    write_rows(source, ['{"instruction": "dos", "output": "2"}'])
    assert thau("retry", source)[0] == 0
    assert [name for name in files_of(home) if name.startswith("corregido-retry-")]
    take_in(home)
    assert answers(home) == {"0", "2"}


def test_a_loop_of_links_in_quarantines_place(thau: Invoke, home: Home, quarantined: Path, tmp_path: Path) -> None:
    """A copy elsewhere can be retried although `data/rejected` leads nowhere."""
    copy = tmp_path / "copy.jsonl"
    write_rows(copy, [rows(quarantined)[2] | {"raw": '{"instruction": "tres", "output": "3"}'}])
    quarantined.unlink()
    home.rejected.rmdir()
    home.rejected.symlink_to(home.rejected.name)
    assert thau("retry", copy)[0] == 0


def test_a_mended_copy_does_as_well(thau: Invoke, home: Home, quarantined: Path, tmp_path: Path) -> None:
    """A copy of the file in quarantine may be edited instead, or only the rows that were mended."""
    found = rows(quarantined)
    copy = tmp_path / "copy.jsonl"
    write_rows(copy, [found[2] | {"raw": '{"instruction": "tres", "output": "3"}'}])
    assert thau("retry", copy)[0] == 0
    take_in(home)
    assert answers(home) == {"0", "3"}
    assert listed(home) == [2, 3]
    assert [row["line"] for row in rows(quarantined)] == [2, 3]


def test_one_line_that_is_still_bad_queues_nothing(thau: Invoke, home: Home, quarantined: Path) -> None:
    """Exit code 12 with the line and its reason; nothing is queued or asked, and the user's file is as it was."""
    mend(quarantined, 0, '{"instruction": "uno", "output": "1"}')
    mend(quarantined, 2, '{"instruction": "tres", "output": 3')
    before = quarantined.read_bytes()
    code, out, err = thau("retry", NAME)
    assert code == 12
    assert "line 3: not JSON" in out
    assert err.count("\n") == 1
    assert files_of(home) == {NAME}
    assert not list(home.control.iterdir())
    assert quarantined.read_bytes() == before


@pytest.mark.parametrize("broken", ["{", "nada", '{"file": "a", "line": "b"'])
def test_a_line_that_was_broken_by_editing_is_named(thau: Invoke, home: Home, quarantined: Path, broken: str) -> None:
    """A row whose own JSON was spoilt is a bad line, not a lost one."""
    write_rows(quarantined, [*rows(quarantined), broken])
    code, out, _ = thau("retry", NAME)
    assert code == 12
    assert "line 4: " in out


@pytest.mark.parametrize(
    "row",
    [
        {"file": NAME, "line": 2, "raw": '{"instruction": "\ud800", "output": "1"}'},
        {"file": "\udfff", "line": 2, "raw": "{"},
        {"file": NAME, "line": 1 << 80, "raw": "{"},
        {"file": NAME, "line": 2, "raw": [[[]]]},
        {"file": NAME, "line": 2, "raw": None},
    ],
)
def test_whatever_a_row_holds_is_a_value(thau: Invoke, quarantined: Path, row: dict[str, Any]) -> None:
    """Half surrogate pairs and numbers beyond the ledger's are bad lines, and no end of the command."""
    quarantined.write_text(json.dumps(row) + "\n", encoding="utf-8")
    code, out, err = thau("retry", NAME)
    assert (code, err.count("\n")) == (12, 1)
    assert "line 1: " in out


def test_nothing_mended_is_said(thau: Invoke, home: Home, quarantined: Path) -> None:
    """Rows that nobody touched stay as they are and are counted."""
    before = quarantined.read_bytes()
    code, out, _ = thau("retry", NAME)
    assert code == 0
    assert "as they were, and still no examples: 3." in out
    assert quarantined.read_bytes() == before
    report = json.loads(thau("retry", NAME, "--json")[1])
    assert (report["unchanged"], report["queued"], report["resolved"]) == (3, [], 0)


def test_laxer_rules_take_what_nobody_touched(thau: Invoke, home: Home) -> None:
    """A raw that was refused under stricter rules and is good now is taken as it is."""
    deep = '{"instruction": "a", "output": "b", "metadata": {"a": {"b": {"c": 1}}}}'
    (home.queue / "deep.jsonl").write_text(deep + "\n", encoding="utf-8")
    with Ledger.open(home.ledger) as ledger:
        asyncio.run(Intake(home, Settings(queue={"max_depth": 3}), ledger).take_in())
    assert len(listed(home)) == 4
    assert thau("retry", "deep.jsonl")[0] == 0
    take_in(home)
    assert answers(home) == {"0", "b"}
    assert not (home.rejected / "deep.jsonl").exists()


def test_what_was_cut_cannot_be_retried(thau: Invoke, home: Home) -> None:
    """Of an over-long line the first KiB is kept: it is neither taken nor lost, and the original is named."""
    long = '{"instruction": "a", "output": "' + "x" * 4000 + '"}'
    (home.queue / "long.jsonl").write_text(long + "\n", encoding="utf-8")
    with Ledger.open(home.ledger) as ledger:
        asyncio.run(Intake(home, Settings(queue={"max_line_bytes": 2000}), ledger).take_in())
    code, out, _ = thau("retry", "long.jsonl")
    assert code == 0
    assert "long.jsonl:1: only its first KiB" in out
    path = home.rejected / "long.jsonl"
    mend(path, 0, rows(path)[0]["raw"] + '"}')
    code, out, _ = thau("retry", "long.jsonl")
    assert code == 12
    assert "long.jsonl:1" in out
    mend(path, 0, {"instruction": "a", "output": "corto"})
    assert thau("retry", "long.jsonl")[0] == 0


def test_retried_twice_does_no_harm(thau: Invoke, home: Home, quarantined: Path) -> None:
    """Before and after a daemon obeyed: one example, one resolved row."""
    mend(quarantined, 0, '{"instruction": "uno", "output": "1"}')
    mended = quarantined.read_bytes()
    for _ in range(2):
        assert thau("retry", NAME)[0] == 0
    take_in(home)
    assert (answers(home), listed(home)) == ({"0", "1"}, [3, 4])
    quarantined.write_bytes(mended)
    before = files_of(home)
    code, out, _ = thau("retry", NAME)
    assert code == 0
    assert "known already" in out
    assert files_of(home) == before
    take_in(home)
    assert (answers(home), listed(home)) == ({"0", "1"}, [3, 4])


def test_what_is_edited_after_the_retry_is_kept(thau: Invoke, home: Home, quarantined: Path) -> None:
    """A row mended between `thau retry` and the daemon's turn is neither resolved nor overwritten."""
    mend(quarantined, 0, '{"instruction": "uno", "output": "1"}')
    assert thau("retry", NAME)[0] == 0
    mend(quarantined, 1, '{"instruction": "dos", "output": "2"}')
    write_rows(quarantined, [*rows(quarantined), '{"instruction": "siete", "output": "7"}'])
    take_in(home)
    assert listed(home) == [3, 4]
    kept = rows(quarantined)
    assert [row.get("line") for row in kept] == [3, 4, None]
    assert kept[0]["raw"] == '{"instruction": "dos", "output": "2"}'
    assert thau("retry", NAME)[0] == 0
    take_in(home)
    assert answers(home) == {"0", "1", "2", "7"}


def test_a_resolved_line_does_not_come_back(thau: Invoke, home: Home, quarantined: Path) -> None:
    """The original file is read again from its start: what was resolved stays out of the list and of quarantine."""
    for number, value in enumerate("123"):
        mend(quarantined, number, {"instruction": f"n{value}", "output": value})
    assert thau("retry", NAME)[0] == 0
    take_in(home)
    assert not quarantined.exists()
    original = home.queue / NAME
    another = home.root / "another"
    another.write_text(original.read_text(encoding="utf-8") + BAD_LINES[0] + "x\n", encoding="utf-8")
    another.replace(original)
    take_in(home)
    assert listed(home) == [5]
    assert [row["line"] for row in rows(quarantined)] == [5]


def test_a_crash_between_commit_and_file_is_repaired(thau: Invoke, home: Home, quarantined: Path) -> None:
    """The request waits until its file is rewritten: obeyed again, it only does what is missing."""
    mend(quarantined, 0, '{"instruction": "uno", "output": "1"}')
    assert thau("retry", NAME)[0] == 0
    (request,) = home.control.glob("resolve-*.json")
    asked = read_request(request)
    assert asked is not None
    assert asked.resolution is not None
    with Ledger.open(home.ledger) as ledger:
        assert ledger.resolve(asked.resolution.rejections) == 1
    assert len(rows(quarantined)) == 3
    take_in(home)
    assert [row["line"] for row in rows(quarantined)] == [3, 4]
    assert not request.exists()


def test_half_a_line_left_by_a_crash_is_no_bad_line(thau: Invoke, home: Home, quarantined: Path) -> None:
    """What the service was writing when it was killed does not keep the rest from being retried."""
    mend(quarantined, 0, '{"instruction": "uno", "output": "1"}')
    third = quarantined.read_text(encoding="utf-8").splitlines()[2]
    with quarantined.open("a", encoding="utf-8") as file:
        file.write(third[:60])
    assert thau("retry", NAME)[0] == 0
    take_in(home)
    assert [row["line"] for row in rows(quarantined)] == [3, 4]


def test_a_damaged_request_is_neither_obeyed_nor_lost(home: Home) -> None:
    """A request that does not say what it must stays where it is, and those beside it are obeyed."""
    bad_row = {"file": NAME, "line": 2, "digest": "0"}
    damaged = {
        "resolve-1.json": {"request": "resolve"},
        "resolve-2.json": {"request": "resolve", "rejections": [{"file": "a"}], "taken": []},
        "resolve-3.json": {"request": "resolve", "rejections": {"file": "a"}, "taken": []},
        "resolve-4.json": {"request": "resolve", "rejections": [bad_row | {"line": 1 << 70}], "taken": []},
        "resolve-5.json": {"request": "resolve", "rejections": [bad_row | {"file": "\ud800"}], "taken": []},
        "resolve-6.json": {"request": "resolve", "rejections": None, "taken": []},
        "fly-1.json": {"request": "fly"},
    }
    for name, content in damaged.items():
        (home.control / name).write_text(json.dumps(content), encoding="utf-8")
    (home.control / "half.json").write_text('{"request": "tr', encoding="utf-8")
    send(home, Request.TRAIN)
    assert [asked.request for asked in take(home)] == [Request.TRAIN]
    assert {path.name for path in home.control.iterdir()} == {*damaged, "half.json"}


def test_a_request_may_name_what_is_unknown(home: Home) -> None:
    """Rows that the ledger does not have, or has with another text, are passed over."""
    with Ledger.open(home.ledger) as ledger:
        unknown = [{"file": NAME, "line": 2, "digest": "0" * 64}, {"file": "../x", "line": 1, "digest": "0" * 64}]
        resolve(home, ledger, Resolution.from_json({"rejections": unknown, "taken": []}))
        assert ledger.rejection_count() == 3


def test_a_file_that_is_not_there(thau: Invoke, home: Home) -> None:
    """An unknown name is a wrong command line, with the way out."""
    code, _, err = thau("retry", "nada.jsonl")
    assert (code, err.count("\n")) == (2, 1)
    assert "thau rejected" in err


@pytest.fixture
def live(home: Home) -> Iterator[Home]:
    with running(home, THAU_TRAINING__AUTO_TRAIN_ENABLED="false"):
        yield home


def test_with_a_real_daemon(live: Home, thau: Invoke, quarantined: Path) -> None:
    """The service takes the corrected line in, marks its original and rewrites the file, by itself."""
    mend(quarantined, 0, '{"instruction": "uno", "output": "1"}')
    code, out, _ = thau("retry", NAME)
    assert code == 0
    assert "as soon as" in out

    def resolved(ledger: LedgerReader) -> bool:
        return ledger.rejection_count() == 2

    wait_until(lambda: look(live, resolved), what="the resolved line")
    wait_until(lambda: "1" in answers(live), what="the corrected example")
    wait_until(lambda: not list(live.control.glob("*.json")), what="the end of the request")
    assert [row["line"] for row in rows(quarantined)] == [3, 4]


def test_requests_are_obeyed_in_the_order_in_which_they_were_asked(home: Home) -> None:
    """Of two rollbacks that a slow daemon finds together, the later one has the last word."""
    asked = [send(home, Request.ROLLBACK, n=n) for n in range(1, 9)]
    for second, path in enumerate(asked):
        os.utime(path, (second, second))
    assert [each.values["n"] for each in take(home)] == list(range(1, 9))
