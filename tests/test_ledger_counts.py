"""What the ledger counts as it goes, the short keys it finds by, and ledgers of the first schema brought up to date."""

import dataclasses
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_ledger import FAMILY, batch, new, promote, spec, version
from thaud.domain import Side
from thaud.errors import HomeError
from thaud.freezing import read_spec
from thaud.ledger import Ledger, LedgerReader, NewExample
from thaud.ledger.arrivals import group_hash, runs
from thaud.ledger.schema import MIGRATIONS, add_functions
from thaud.ledger.soundness import miscounted, recount


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite3") as opened:
        yield opened


def counted(ledger: LedgerReader) -> list[object]:
    """What the queries say that read counts."""
    return [
        {age: dict(sides) for age, sides in ledger.counts_by_age().items()},
        [(ledger.pending(FAMILY, age), ledger.trainable(age), ledger.trained_count(FAMILY, age)) for age in range(5)],
        ledger.waiting_by_age(FAMILY),
        ledger.trained_count(FAMILY),
        ledger.waiting_since("another", 15),
    ]


def counted_anew(ledger: LedgerReader) -> list[object]:
    """The same, from the rows themselves."""
    rows = ledger.connection.execute(
        "SELECT age, side, tried_by, taught_by, set_aside_by, received_at FROM examples"
        " LEFT JOIN lessons ON example_seq = examples.seq AND family = ?", (FAMILY,)
    ).fetchall()  # fmt: skip
    taught = [row for row in rows if row["side"] == "taught"]
    ages = sorted({row["age"] for row in rows})
    sides = {age: [row["side"] for row in rows if row["age"] == age] for age in ages}
    by_age: list[object] = []
    for age in range(5):
        below = [row for row in taught if row["age"] <= age]
        open_ones = [row for row in below if row["taught_by"] is None and row["set_aside_by"] is None]
        trained = [row for row in taught if row["age"] == age and row["taught_by"] is not None]
        by_age.append(((len(open_ones), sum(row["tried_by"] is None for row in open_ones)), len(below), len(trained)))
    waiting = [row["age"] for row in taught if row["taught_by"] is None]
    return [
        {age: {side: found.count(side) for side in sorted(set(found))} for age, found in sides.items()},
        by_age,
        {age: waiting.count(age) for age in ages if age in waiting},
        sum(row["taught_by"] is not None for row in taught),
        min((row["received_at"] for row in taught), default=None),
    ]


def groups_anew(ledger: LedgerReader) -> dict[int, tuple[int, int]]:
    """Members of each group by side, from the rows themselves."""
    found: dict[int, tuple[int, int]] = {}
    for key, side in map(tuple, ledger.connection.execute("SELECT group_key, side FROM examples")):
        taught, held_out = found.get(group_hash(key), (0, 0))
        found[group_hash(key)] = (taught + (side == "taught"), held_out + (side == "held_out"))
    return found


def arrivals(numbers: list[tuple[int, int, bool]]) -> list[NewExample]:
    """Examples by number, age and side, in groups of four numbers."""
    return [
        new(number, age=age, side=Side.HELD_OUT if held else Side.TAUGHT, line=line)._replace(
            group_key=f"g:{number // 4}"
        )
        for line, (number, age, held) in enumerate(numbers, 1)
    ]


BATCHES = st.lists(
    st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3), st.booleans()), max_size=8).map(arrivals), max_size=6
)


@settings(deadline=None, max_examples=60)
@given(BATCHES, st.lists(st.integers(1, 30), max_size=10), st.lists(st.integers(1, 30), max_size=3), st.booleans())
def test_counts_are_what_the_rows_say(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[NewExample]],
    tried: list[int],
    set_aside: list[int],
    promoted: bool,  # noqa: FBT001 - drawn
) -> None:
    """Whatever comes, comes again, is tried, taught or set aside: what was counted on the way equals a new count."""
    with Ledger.open(tmp_path_factory.mktemp("l") / "ledger.sqlite3") as ledger:
        for number, rows in enumerate(batches):
            ledger.take_in(batch(f"{number % 4}.jsonl", *rows), batch("again.jsonl", *rows, restarted=number % 2 == 0))
        known = ledger.row_numbers(new(each).id for each in tried)
        taught = {row["id"] for row in ledger.connection.execute("SELECT id FROM examples WHERE side = 'taught'")}
        ledger.freeze_run(spec("run-0001", tuple(each for each in known if each in taught)))
        if promoted:
            ledger.accept(version("run-0001", 1), ["fine"], {})
            ledger.promote(version("run-0001", 1), None, [new(each).id for each in set_aside])
        assert counted(ledger) == counted_anew(ledger)
        groups = ledger.connection.execute("SELECT hash, taught, held_out FROM groups")
        assert {row["hash"]: (row["taught"], row["held_out"]) for row in groups} == groups_anew(ledger)
        assert ledger.connection.execute("PRAGMA foreign_key_check").fetchall() == []


def test_what_is_counted_rolls_back_with_the_rest(ledger: Ledger) -> None:
    """A batch that is refused leaves no count behind."""
    ledger.take_in(batch("a.jsonl", new(1)))
    before = counted(ledger)
    broken = dataclasses.replace(batch("b.jsonl", new(2)), position=None)
    with pytest.raises(Exception, match="could not be written"):
        ledger.take_in(batch("c.jsonl", new(3)), broken)
    assert counted(ledger) == before == counted_anew(ledger)
    assert ledger.file("c.jsonl") is None


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("examples", "UPDATE example_counts SET n = n + 1"),
        ("examples", "UPDATE example_counts SET first_at = '9'"),
        ("groups", "UPDATE groups SET held_out = held_out + 1"),
        ("groups", "DELETE FROM groups"),
        ("lessons", "UPDATE lesson_counts SET settled = settled + 1"),
    ],
)
def test_a_wrong_count_is_found_and_mended(ledger: Ledger, name: str, damage: str) -> None:
    """Every count that is kept is compared with the rows, to the last field, and counted again from them."""
    ledger.take_in(batch("a.jsonl", new(1), new(2, side=Side.HELD_OUT)))
    promote(ledger, "run-0001", 1, (new(1).id,))
    assert miscounted(ledger) == []
    ledger.connection.execute(damage)
    assert miscounted(ledger) == [name]
    recount(ledger)
    assert miscounted(ledger) == []


def test_the_key_is_unique(ledger: Ledger) -> None:
    """The schema itself refuses to hold an example twice, whatever a caller believed to know."""
    ledger.take_in(batch("a.jsonl", new(1)))
    with pytest.raises(Exception, match="UNIQUE"):
        ledger.take_in(batch("b.jsonl", new(1)), known={})
    assert ledger.counts_by_age() == {0: {"taught": 1}}


def test_what_is_no_id_is_nothing(ledger: Ledger) -> None:
    """Asked for what cannot be an id, the ledger knows nothing and does not stumble."""
    ledger.take_in(batch("a.jsonl", new(1)))
    half = new(1).id[:32] + "0" * 32
    assert ledger.known_ids(["", "nope", "ñ", "abc", half, new(1).id]) == {new(1).id}
    assert ledger.count_of_age([half, new(1).id], 0) == 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 12)), max_size=30))
def test_stretches_hold_what_was_seen(steps: list[tuple[int, int]]) -> None:
    """Stretches of lines, unrolled, are the sightings again, in order."""
    line, sightings = 0, []
    for skip, number in steps:
        line += 1 + skip
        sightings.append((line, str(number)))
    seqs = {str(number): number for number in range(13)}
    unrolled = [(line + at, seq + at) for line, seq, n in runs(sightings, seqs) for at in range(n)]
    assert unrolled == [(line, int(each)) for line, each in sightings]


def test_a_stretch_is_one_row(ledger: Ledger) -> None:
    """A thousand lines that came together are one row, and the view shows each."""
    rows = [new(number) for number in range(1, 1001)]
    ledger.take_in(batch("a.jsonl", *rows))
    assert ledger.one("SELECT count(*) FROM sighted") == 1
    seen = ledger.connection.execute(
        "SELECT seen.file, seen.line, id FROM sightings AS seen JOIN examples ON seq = example_seq ORDER BY 2"
    )
    assert [tuple(row) for row in seen] == [("a.jsonl", each.line, each.id) for each in rows]


def test_row_numbers_by_a_scan_are_those_by_their_keys(ledger: Ledger) -> None:
    """For many ids one pass finds what the index finds, in order; held out and later ones are no business of it."""
    rows = [new(n, age=n % 3, side=Side.HELD_OUT if n % 5 == 0 else Side.TAUGHT) for n in range(1, 61)]
    ledger.take_in(batch("a.jsonl", *rows))
    wanted = [each.id for each in rows if each.age <= 1 and each.side is Side.TAUGHT][::-2]
    assert ledger.scan_numbers([*wanted, rows[4].id, rows[1].id, "0" * 64], 1) == sorted(
        ledger.row_numbers(wanted).values()
    )


def schema(path: Path, number: int) -> sqlite3.Connection:
    """A ledger as the release made it that knew so many migrations."""
    made = sqlite3.connect(path)
    add_functions(made)
    made.executescript(f"{''.join(MIGRATIONS[:number])}; PRAGMA user_version={number}; PRAGMA journal_mode=WAL;")
    made.row_factory = sqlite3.Row
    return made


def first_schema(path: Path) -> sqlite3.Connection:
    """A ledger as the first release made it."""
    return schema(path, 1)


def fill(old: sqlite3.Connection) -> None:
    """Examples of both sides, in groups, seen in several places; a promoted run with something set aside."""
    for number in range(1, 61):
        each = new(number, age=number % 3, side=Side.HELD_OUT if number % 7 == 0 else Side.TAUGHT)
        old.execute(
            "INSERT INTO examples VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (number, each.id, each.age, each.side, f"group:{number // 5}", "f1" if number % 2 else None,
             json.dumps(each.example.content), '{"k": [1]}', "a.jsonl", number, f"2026-01-0{1 + number % 5}"),
        )  # fmt: skip
    seen = [("a.jsonl", n, n) for n in range(1, 61) if n % 10] + [
        ("b.jsonl", 1, 9),
        ("b.jsonl", 2, 3),
        ("b.jsonl", 3, 11),
    ]
    old.executemany("INSERT INTO sightings VALUES (?, ?, ?)", [*seen, ("c.jsonl", 5, 7), ("c.jsonl", 6, 7)])
    old.execute("INSERT INTO files VALUES ('a.jsonl', '{}', 1, NULL, 'x')")
    old.execute("INSERT INTO rejections (file, line, reason, raw, at) VALUES ('a.jsonl', 70, 'r', '{oops', 'x')")
    old.execute("INSERT INTO runs VALUES (1, 'run-0001', ?, 0, 'promoted', 't', '{}', '[]', NULL, 'x', 'x')", (FAMILY,))
    gguf = f"/old/data/versions/{FAMILY}-v1/model.gguf"
    old.execute("INSERT INTO versions VALUES (?, 1, 'run-0001', 0, ?, 's', 1, 1, 1, 1, 'x')", (FAMILY, gguf))
    old.executemany(
        "INSERT INTO lessons VALUES (?, ?, 'run-0001', ?, ?)",
        [(FAMILY, n, "run-0001" if n % 4 else None, None if n % 4 else "run-0001") for n in range(1, 31) if n % 7],
    )
    old.commit()


def test_a_ledger_of_the_first_schema_loses_nothing(tmp_path: Path) -> None:
    """Every row of a first ledger is there after the migration, found by its id, counted, and whole for SQLite."""
    path = tmp_path / "ledger.sqlite3"
    old = first_schema(path)
    fill(old)
    tables = ("examples", "sightings", "files", "rejections", "runs", "lessons", "meta", "events")
    before = {table: sorted(map(repr, map(dict, old.execute(f"SELECT * FROM {table}")))) for table in tables}
    old.close()
    with Ledger.open(path) as ledger:
        columns = {"rejections": {"resolved_at"}, "examples": {"key"}}
        for table in tables:
            rows = ledger.connection.execute(f"SELECT * FROM {table}")
            kept = [{name: row[name] for name in row.keys() if name not in columns.get(table, ())} for row in rows]  # noqa: SIM118
            assert sorted(map(repr, kept)) == before[table], table
        ids = [new(number).id for number in range(1, 61)]
        assert [found.id for found in ledger.examples(ids)] == ids
        assert counted(ledger) == counted_anew(ledger)
        assert (ledger.one("PRAGMA integrity_check"), ledger.one("PRAGMA foreign_keys")) == ("ok", 1)
        assert ledger.connection.execute("PRAGMA foreign_key_check").fetchall() == []
        ledger.take_in(batch("d.jsonl", *(new(number) for number in range(50, 70))))
        assert ledger.one("SELECT count(*) FROM examples") == 69
        promote(ledger, "run-0002", 2, (new(61).id,))
        assert ledger.versions()[-1].gguf == str(tmp_path / "versions" / f"{FAMILY}-v1" / "model.gguf")
        with pytest.raises(sqlite3.IntegrityError):
            ledger.connection.execute("DELETE FROM examples WHERE seq = 1")


def test_the_first_schema_is_read_by_nobody_but_the_writer(tmp_path: Path) -> None:
    """A reader says how a ledger of an earlier release is brought up to date, and leaves it alone."""
    first_schema(tmp_path / "ledger.sqlite3").close()
    with pytest.raises(HomeError, match="thau start"):
        LedgerReader.open(tmp_path / "ledger.sqlite3")


def old_run(old: sqlite3.Connection, seq: int, text: str) -> None:
    """A promoted run as an earlier release wrote it."""
    row = (seq, f"run-{seq:04d}", FAMILY, text)
    old.execute("INSERT INTO runs VALUES (?, ?, ?, 0, 'promoted', 'examples', ?, '[]', NULL, 'x', 'x')", row)


def test_runs_of_the_second_schema_keep_their_examples(tmp_path: Path) -> None:
    """The ids of earlier runs are found where they are now, the rest where it was; the unreadable stays."""
    path = tmp_path / "ledger.sqlite3"
    found = json.loads(json.dumps(dataclasses.asdict(spec("run-0001", ()))))
    with closing(schema(path, 2)) as old:
        ids = {"example_ids": ["b", "a"], "exam_ids": ["c"], "recall_ids": []}
        old_run(old, 1, json.dumps({**found, **ids}))
        old_run(old, 2, "torn {")
        old.commit()
    with Ledger.open(path) as ledger:
        (unreadable, run) = ledger.runs()
        assert read_spec(ledger, run) == dataclasses.replace(spec("run-0001", ("b", "a")), exam_ids=("c",))
        assert "example_ids" not in run.spec_text
        assert unreadable.spec_text == "torn {"
        with pytest.raises(LookupError, match="no examples of run-0002"):
            ledger.run_ids("run-0002")


def test_versions_of_the_third_schema_keep_their_kind(tmp_path: Path) -> None:
    """What a version's file is comes from what its run was to export, f16 where nobody knows; nothing is pruned, its
    file is where it was, and what servers were known to hold is known still.
    """
    path = tmp_path / "ledger.sqlite3"
    with closing(schema(path, 3)) as old:
        for n, text in enumerate(('{"export_kind": "q8_0"}', '{"seed": 0}', "torn {"), 1):
            old_run(old, n, text)
            values = (FAMILY, n, f"run-{n:04d}", f"versions/{FAMILY}-v{n}/model.gguf")
            old.execute("INSERT INTO versions VALUES (?, ?, ?, 0, ?, 's', 7, 30, 20, 2, 'x')", values)
        old.execute("INSERT INTO registrations VALUES ('h', 'm', 'served', 'd', 'x')")
        old.execute("INSERT INTO aliases VALUES (?, 2, 'x')", (FAMILY,))
        old.commit()
    with Ledger.open(path) as ledger:
        found = ledger.versions(FAMILY)
        assert [(each.kind, each.base_gguf, each.base_sha256, each.pruned_at) for each in found] == [
            ("q8_0", None, None, None),
            ("f16", None, None, None),
            ("f16", None, None, None),
        ]
        assert [each.gguf for each in found] == [
            str(tmp_path / "versions" / f"{FAMILY}-v{n}" / "model.gguf") for n in (1, 2, 3)
        ]
        assert ledger.champion(FAMILY) == found[1]
        (held,) = ledger.registrations()
        assert held == {"host": "h", "name": "m", "state": "served", "detail": "d", "at": "x", "report": None}
        assert ledger.one("PRAGMA user_version") == len(MIGRATIONS)
