"""The short form of `make crash`: points of every kind, random moments, and proof that the oracle looks."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.__main__ import carry_out, plan
from tests.crash.arena import Arena, ViolationError
from tests.crash.bite import MUTANTS, ROOT, is_found
from tests.crash.cycles import Cycles, Tally
from tests.crash.files import lost_files
from tests.crash.oracle import FAMILY, Oracle
from tests.crash.workload import Writer, text
from tests.testkit.daemon import look
from thaud.domain import RunState
from thaud.failpoints import POINTS
from thaud.ledger import Ledger
from thaud.serving.ollama import OllamaServer

KINDS = (
    "ledger.take_in.after",
    "ledger.promote.before",
    "file.progress.between",
    "file.gguf.between",
    "file.queue.between",
    "move.trained.after",
    "move.gguf.after",
    "spawn.step.after",
    "end.step.before",
    "ollama.create.after",
    "remove.request.before",
    "remove.proposal.before",
)
ERRORS = ("ledger.take_in.before", "file.spec.before")
RANDOM, SEED, SECONDS = 10, 3, 200.0


def test_nothing_is_lost_and_nothing_is_doubled(tmp_path: Path) -> None:
    """Killed at points of every kind and at random, and told that the disk is full or broken: no violation."""
    planned = plan(KINDS, 1, RANDOM, SEED, errors=False) + plan(ERRORS, 0, 0, SEED, errors=True)
    outcome = carry_out(planned, SEED, tmp_path, time.monotonic() + SECONDS, lambda _: None)
    assert outcome.violations == []
    assert outcome.left_out == 0
    assert outcome.tally.cycles == len(planned) == len(KINDS) + 2 * len(ERRORS) + RANDOM
    assert outcome.tally.hit == {*KINDS, *ERRORS}


@pytest.fixture
def cycles(tmp_path: Path) -> Iterator[Cycles]:
    """A home in which one version was promoted, and its daemon dead."""
    with Arena(tmp_path / "home", SEED) as arena:
        made = Cycles(arena, Oracle(arena), Tally())
        made.begin()
        arena.writer.drop_taught(12)
        arena.writer.drop_bad()
        made.oracle.look()
        arena.until(lambda: arena.passed("ledger.promote.after"), "a promotion")
        made.oracle.look(rest=True)
        arena.kill()
        yield made


def execute(cycles: Cycles, sql: str) -> None:
    """Change the ledger behind the daemon's back."""
    with Ledger.open(cycles.arena.home.ledger) as ledger:
        ledger.connection.execute("PRAGMA foreign_keys=OFF")
        ledger.connection.execute(sql)
        ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


WRONG = {
    "UPDATE examples SET side = 'held_out' WHERE seq = 1": "held out and was tried|changed sides",
    "UPDATE lessons SET taught_by = NULL": "count as not taught",
    "UPDATE versions SET n = 7": "numbers of versions have a hole",
    "UPDATE versions SET gguf_sha256 = 'x'": "is another than it was",
    "UPDATE runs SET state = 'rejected'": "was not taught by its run",
    "UPDATE runs SET seq = seq + 1": "runs have a hole",
    "UPDATE aliases SET n = 9": "the alias",
    "DELETE FROM examples WHERE seq = 1": "foreign_key_check",
    "UPDATE runs SET spec = replace(spec, '\"seed\": 0', '\"seed\": 9')": "was frozen otherwise",
    "UPDATE versions SET run_id = 'run-0009'": "foreign_key_check",
    "INSERT INTO journal VALUES ('run-9999', 'train', 'now', NULL, NULL)": "foreign_key_check",
}


def test_the_oracle_sees_a_ledger_that_is_wrong(cycles: Cycles) -> None:
    """Each promise about the ledger is looked at: broken on purpose, it is a violation; mended, it is none."""
    path = cycles.arena.home.ledger
    execute(cycles, "PRAGMA user_version")
    sound = path.read_bytes()
    for sql, complaint in WRONG.items():
        execute(cycles, sql)
        with pytest.raises(ViolationError, match=complaint):
            cycles.oracle.look_at_ledger()
        path.write_bytes(sound)
        cycles.oracle.look_at_ledger()


def test_the_oracle_sees_what_does_not_belong(cycles: Cycles) -> None:
    """An example nobody wrote, a folder nobody made, a line twice in quarantine: each is a violation."""
    arena, oracle = cycles.arena, cycles.oracle
    arena.start()
    (arena.home.queue / "stranger.jsonl").write_text('{"instruction": "¿Y?", "output": "no"}\n')
    arena.until(lambda: oracle.ids() - arena.writer.finished, "the stranger")
    with pytest.raises(ViolationError, match="nobody finished"):
        oracle.look()
    arena.writer.finish(['{"instruction": "¿Y?", "output": "no"}'])
    (doubled,) = arena.home.rejected.iterdir()
    doubled.write_bytes(doubled.read_bytes() * 2)
    with pytest.raises(ViolationError, match="twice"):
        oracle.look()
    doubled.write_bytes(doubled.read_bytes()[: doubled.stat().st_size // 2])
    (arena.home.versions / "nobodys").mkdir()
    assert oracle.left_over(rest=True) == ["nobodys"]
    shutil.rmtree(arena.home.versions / "nobodys")
    assert oracle.left_over(rest=True) == []


HARM: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "versions/*/model.gguf": (lambda data: data + b"x", "is not what it was"),
    "versions/*/version.json": (lambda data: data.replace(b"-v1", b"-v2"), "is wrong"),
    "runs/*/train/examples.jsonl": (lambda data: data.partition(b"\n")[2], "was trained on other rows"),
    "runs/*/exam/items.jsonl": (lambda data: data * 2, "was asked other items"),
    "runs/*/train/spec.json": (lambda data: data.replace(b'"rank": 32', b'"rank": 33'), "is not made of the rows"),
}


def test_the_oracle_sees_what_a_run_did_wrong(cycles: Cycles) -> None:
    """A model, rows and items that are not those of the ledger, a name on the server that came too early."""
    arena = cycles.arena
    for pattern, (harm, complaint) in HARM.items():
        (path,) = arena.home.data.glob(pattern)
        sound = path.read_bytes()
        path.write_bytes(harm(sound))
        with pytest.raises(ViolationError, match=complaint):
            Oracle(arena).look_at_ledger()
        path.write_bytes(sound)
        Oracle(arena).look_at_ledger()
    cycles.oracle.ended["run-0001"] = RunState.REJECTED
    with pytest.raises(ViolationError, match="ended as rejected"):
        cycles.oracle.look_at_ledger()
    OllamaServer(arena.ollama.url).copy(FAMILY, f"{FAMILY}-v2")
    with pytest.raises(ViolationError, match="is not promoted"):
        Oracle(arena).look_at_ledger()


def test_the_oracle_sees_what_became_of_users_files(cycles: Cycles) -> None:
    """A file that is gone or changed, and a line that the ledger has seen elsewhere or not at all."""
    arena, oracle = cycles.arena, cycles.oracle
    execute(cycles, "PRAGMA user_version")
    sound = arena.home.ledger.read_bytes()
    for sql in ("UPDATE rejections SET line = line + 1", "DELETE FROM rejections", "DELETE FROM sighted"):
        assert oracle.misplaced() == []
        execute(cycles, sql)
        assert oracle.misplaced() != []
        arena.home.ledger.write_bytes(sound)
    assert lost_files(arena) == []
    (trained,) = (path for path in arena.home.trained.iterdir() if path.name.endswith("-t.jsonl"))
    trained.write_bytes(trained.read_bytes() + b"\n")
    assert lost_files(arena) == [trained.name]


def test_every_point_has_a_way_to_it() -> None:
    """The plan of the long form names every point, each with a crash and with both errors."""
    names = {each.name.split("@")[0] for each in plan(POINTS, 3, 0, SEED, errors=True)}
    assert {f"{point}={action}" for point in POINTS for action in ("crash", "enospc", "eio")} == names


QUICKLY_FOUND = (
    "a version gets its number in one transaction and its run the state in another",
    "the receipt of a promotion is committed before the file has its place",
    "the trainer is handed other rows than were frozen",
)


@pytest.mark.parametrize("name", QUICKLY_FOUND)
def test_it_bites(tmp_path: Path, name: str) -> None:
    """Run against sources with a fault in them, the oracle complains of that very fault."""
    (mutant,) = (each for each in MUTANTS if each.name == name)
    found, words = is_found(mutant, tmp_path)
    assert found, words


def test_each_fault_fits_the_sources() -> None:
    """A fault whose text is no longer there, or there twice, would prove nothing in the long form."""
    found = {each.name: (ROOT / each.path).read_text(encoding="utf-8").count(each.old) for each in MUTANTS}
    assert found == dict.fromkeys(found, 1)
    assert len(found) == len(MUTANTS)


def append(writer: Writer, name: str, line: str) -> None:
    """As a shell's `>>`."""
    assert writer.extend(name, text([line]))


def put_another(writer: Writer, name: str, line: str) -> None:
    """As `mv`."""
    writer.put(name, text([*writer.files[name], line]))


def accepted(arena: Arena) -> int:
    """How many examples the ledger has."""
    return int(look(arena.home, lambda ledger: ledger.one("SELECT count(*) FROM examples")))


@pytest.mark.parametrize("change", [append, put_another])
def test_who_writes_while_a_file_is_moved_loses_nothing(
    tmp_path: Path, change: Callable[[Writer, str, str], None]
) -> None:
    """Between the last look at a trained file and its move somebody adds a line: it is found and taken in."""
    gate = tmp_path / "gate"
    with Arena(tmp_path / "home", SEED) as arena:
        oracle = Oracle(arena)
        arena.start()
        oracle.look()
        arena.arm(f"move.trained.before=wait:{gate}")
        arena.writer.drop_taught(12)
        arena.until(gate.with_name("gate.reached").exists, "a file about to be moved")
        (name,) = arena.writer.there()
        line, known = arena.writer.valid(), accepted(arena)
        change(arena.writer, name, line)
        arena.writer.files[name].append(line)
        arena.writer.finish([line])
        gate.touch()
        oracle.look(rest=True)
        assert accepted(arena) == known + 1
