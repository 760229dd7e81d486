"""The oracle: what must be true of a home after every restart. Each promise is one method; a broken one a violation."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from tests.crash.answering import files_given_up, unanswered, wrong_alias
from tests.crash.arena import Arena, ViolationError
from tests.crash.files import lost_files, misplaced, uncertified, wrongly_handed, wrongly_made
from tests.crash.lineage import wrong_lineage
from thaud.config import Settings
from thaud.domain import FINAL_STATES, RunState
from thaud.errors import HomeError
from thaud.ledger import LedgerReader
from thaud.ledger.soundness import miscounted
from thaud.projections import progress_report
from thaud.serving.ollama import OllamaServer
from thaud.steps.contract import CHECKPOINTS

FAMILY = "thau-nano"
CATCH_UP_S, REST_S = 30.0, 30.0


@dataclass
class Oracle:
    """Looks at one arena, and remembers what must not change."""

    arena: Arena
    sides: dict[str, str] = field(default_factory=dict)
    taught: dict[str, str] = field(default_factory=dict)
    whole: dict[tuple[str, int, int], str] = field(default_factory=dict)
    numbered: dict[int, tuple[str, str]] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    ended: dict[str, RunState] = field(default_factory=dict)
    checked: set[str] = field(default_factory=set)

    def look(self, *, rest: bool = False) -> None:
        """Everything, once intake has caught up; with `rest`, also what is only true when no run is under way."""
        arena = self.arena
        arena.until_nothing(self.behind, "the accepted set", CATCH_UP_S)
        if rest:
            arena.until(arena.idle, "the end of the run", REST_S)
        self.look_at_ledger()
        arena.until_nothing(self.forgotten, "what was asked for", 10)
        if rest:
            arena.until_nothing(self.halfway, "trained files out of the drop-box", 10)
        arena.until_nothing(self.misplaced, "every line where it stands", 10)
        arena.until_nothing(lambda: lost_files(arena), "users' files as they were left", 10)
        arena.until_nothing(arena.orphans, "the end of orphan processes", 20)
        arena.until_nothing(self.projected, "projections that say what the ledger says", 20)
        arena.until_nothing(self.served, "Ollama in step with the ledger", 20)
        arena.until_nothing(lambda: self.left_over(rest=rest), "a home without leftovers", 10)

    def look_at_the_dead(self) -> None:
        """What must be true in the very moment of a death, before anything is mended."""
        try:
            self.look_at_ledger()
        except HomeError:
            return  # it died before it had one

    def look_at_ledger(self) -> None:
        """What the ledger alone can tell, at one moment."""
        tags = OllamaServer(self.arena.ollama.url).tags().keys()
        with LedgerReader.open(self.arena.home.ledger) as ledger:
            ledger.connection.execute("BEGIN")
            self.ledger_is_whole(ledger)
            self.accepted_once(ledger)
            self.lineages(ledger)
            self.runs(ledger)
            self.versions(ledger)
            self.not_too_early(ledger, tags)
            ledger.connection.execute("COMMIT")
            off = miscounted(ledger)
            expect(not off, f"counts that do not add up: {off}")

    # 1: the accepted set

    def ids(self) -> set[str]:
        """What the ledger holds."""
        with LedgerReader.open(self.arena.home.ledger) as ledger:
            return {row[0] for row in ledger.connection.execute("SELECT id FROM examples")}

    def behind(self) -> str | None:
        """What was finished and is not in yet."""
        if self.arena.dead():
            raise ViolationError(f"the daemon ended by itself: {self.arena.last_words()}")
        try:
            missing, bad = self.arena.writer.finished - self.ids(), self.bad_lines_missing()
        except HomeError as error:  # none yet, or one whose migration is under way
            return str(error)
        return f"{len(missing)} examples and {len(bad)} bad lines are missing" if missing or bad else None

    def bad_lines_missing(self) -> set[str]:
        """Bad lines that are not in quarantine."""
        with LedgerReader.open(self.arena.home.ledger) as ledger:
            return self.arena.writer.bad - {row[0] for row in ledger.connection.execute("SELECT raw FROM rejections")}

    def accepted_once(self, ledger: LedgerReader) -> None:
        """No more than the finished lines, each once, each on the side that it was first given."""
        rows = ledger.connection.execute("SELECT id, side FROM examples").fetchall()
        found = {row["id"]: row["side"] for row in rows}
        expect(len(found) == len(rows), "an example is in the ledger twice")
        strangers = found.keys() - self.arena.writer.finished
        expect(not strangers, f"{len(strangers)} examples that nobody finished")
        moved = [each for each, side in self.sides.items() if found.get(each) != side]
        expect(not moved, f"{len(moved)} examples changed sides or vanished")
        self.sides = found
        self.arena.writer.known = set(found)
        self.quarantine(ledger)

    def quarantine(self, ledger: LedgerReader) -> None:
        """data/rejected/ holds what the ledger quarantined, each line once."""
        sql = "SELECT file, line, raw FROM rejections WHERE resolved_at IS NULL"
        wanted = {tuple(row) for row in ledger.connection.execute(sql)}
        written: Counter[tuple[str, int, str]] = Counter()
        for path in self.arena.home.rejected.glob("*.jsonl"):
            for line in path.read_text(encoding="utf-8").splitlines():
                row = json.loads(line)
                written[row["file"], row["line"], row["raw"]] += 1
        expect(not (wanted - written.keys()), f"data/rejected lacks {sorted(wanted - written.keys())[:2]}")
        twice = [row for row, times in written.items() if times > 1]
        expect(not twice, f"data/rejected has {twice[:2]} twice")

    def misplaced(self) -> list[str]:
        """Files whose lines the ledger has not, each once, where they stand."""
        with LedgerReader.open(self.arena.home.ledger) as ledger:
            ledger.connection.execute("BEGIN")
            return misplaced(self.arena, ledger)

    def halfway(self) -> list[str]:
        """Files that the ledger says have left the drop-box, and that have not, or are nowhere."""
        home = self.arena.home
        with LedgerReader.open(home.ledger) as ledger:
            rows = ledger.connection.execute(
                "SELECT name, retired_to FROM files WHERE retired_to IS NOT NULL"
            ).fetchall()
        still = [row["name"] for row in rows if (home.queue / row["name"]).exists()]
        return still + [row["retired_to"] for row in rows if not (home.trained / row["retired_to"]).exists()]

    def forgotten(self) -> str | None:
        """A request that came to nothing: a reset that is no event, a training neither begun nor answered."""
        arena = self.arena
        with LedgerReader.open(arena.home.ledger) as ledger:
            resets = len(ledger.events(100_000, ("reset",)))
            answers = ledger.events(100_000, ("nothing_to_train", "run_not_started"))
            runs = ledger.runs(
                100_000
            )  # for whatever reason: one that is frozen after the request is what was asked for
        if resets < arena.resets:
            return f"{arena.resets} resets were asked for, {resets} are known"
        answered = [each["at"] for each in answers] + [run.created_at for run in runs]
        if arena.asked_at and not any(at >= arena.asked_at for at in answered):
            return f"the training asked for at {arena.asked_at} was forgotten"
        with LedgerReader.open(arena.home.ledger) as ledger:
            return unanswered(arena, ledger)

    # 2: lineages

    def lineages(self, ledger: LedgerReader) -> None:
        """Each example is taught by one promoted run that had it, for ever; what is held out never is."""
        runs = {run.id: run for run in ledger.runs(100_000)}
        named = {run: ledger.run_ids(run) for run in runs}
        promoted = {run.id: set(named[run.id].example_ids) for run in runs.values() if run.state is RunState.PROMOTED}
        sql = (
            "SELECT examples.id, side, tried_by, taught_by FROM lessons"
            " JOIN examples ON examples.seq = lessons.example_seq WHERE family = ?"
        )
        taught = {}
        for row in ledger.connection.execute(sql, (FAMILY,)):
            expect(row["side"] == "taught", f"{row['id']} is held out and was tried by {row['tried_by']}")
            if row["taught_by"] is not None:
                expect(row["id"] in promoted.get(row["taught_by"], ()), f"{row['id']} was not taught by its run")
                taught[row["id"]] = row["taught_by"]
        for run, examples in promoted.items():
            lost = [each for each in examples if each not in taught]
            expect(not lost, f"{run} was promoted, and {len(lost)} of its examples count as not taught")
        wrong = wrong_lineage(self.arena, ledger, [(run, named[run.id]) for run in reversed(runs.values())])
        expect(wrong is None, wrong or "")
        changed = [each for each, run in self.taught.items() if taught.get(each) != run]
        expect(not changed, f"{len(changed)} examples changed their lineage")
        self.taught = taught
        unfinished = [run.id for run in runs.values() if run.state not in FINAL_STATES]
        expect(len(unfinished) <= 1, f"{unfinished} are under way at once")
        expect([run.seq for run in reversed(runs.values())] == list(range(1, len(runs) + 1)), "runs have a hole")

    def runs(self, ledger: LedgerReader) -> None:
        """What is frozen stays so and is what the steps were handed: no example twice, none of the other side."""
        sides = self.sides
        for run in ledger.runs(100_000):
            frozen = f"{run.spec_text} {ledger.run_ids(run.id)}"
            expect(self.frozen.setdefault(run.id, frozen) == frozen, f"{run.id} was frozen otherwise")
            expect(self.ended.get(run.id, run.state) is run.state, f"{run.id} ended as {self.ended.get(run.id)}")
            if run.id in self.checked:
                continue
            ids = ledger.run_ids(run.id)
            taught, asked = ids.example_ids, ids.exam_ids
            expect(len(set(taught)) == len(taught), f"{run.id} has an example twice")
            expect({sides.get(each) for each in taught} <= {"taught"}, f"{run.id} is to be taught what is held out")
            expect({sides.get(each) for each in asked} <= {"held_out"}, f"{run.id} is asked what it is taught")
            wrong = wrongly_handed(self.arena, run, ids)
            expect(wrong is None, wrong or "")
            if run.state in FINAL_STATES:
                self.ended[run.id] = run.state
                self.checked.add(run.id)

    # 3: the ledger and its files

    def ledger_is_whole(self, ledger: LedgerReader) -> None:
        """SQLite finds no fault."""
        expect(ledger.one("PRAGMA integrity_check") == "ok", "PRAGMA integrity_check")
        expect(not ledger.connection.execute("PRAGMA foreign_key_check").fetchall(), "PRAGMA foreign_key_check")

    def versions(self, ledger: LedgerReader) -> None:
        """Numbers without holes or doubles, each of one run; promoted files with their digests."""
        versions = sorted(ledger.versions(FAMILY), key=lambda version: version.n)
        expect([each.n for each in versions] == list(range(1, len(versions) + 1)), "numbers of versions have a hole")
        expect(len({each.run_id for each in versions}) == len(versions), "a run has two versions")
        for each in versions:
            made = each.run_id, each.gguf_sha256
            expect(self.numbered.setdefault(each.n, made) == made, f"{each.name} is another than it was")
        states = {each.run_id: ledger.run(each.run_id) for each in versions}
        for each in versions:
            run = states[each.run_id]
            expect(
                run is not None and run.state in {RunState.ACCEPTED, RunState.PROMOTED},
                f"{each.name} is of {each.run_id}, which is {run and run.state}",
            )
        with_version = {each.run_id for each in versions}
        for row in ledger.connection.execute("SELECT id FROM runs WHERE state IN ('accepted', 'promoted')"):
            expect(row["id"] in with_version, f"{row['id']} was accepted without a number")
        promoted = ledger.promoted_versions(FAMILY)
        for each in versions:
            wrong = uncertified(ledger, each, promoted=each in promoted)
            expect(wrong is None, wrong or "")
        for each in ledger.promoted_versions(FAMILY):
            if each.pruned_at is None:
                expect(self.digest(Path(each.gguf)) == each.gguf_sha256, f"the file of {each.name} is not what it was")
            if each.name not in self.checked and each.pruned_at is None:
                wrong = wrongly_made(self.arena, each)
                expect(wrong is None, wrong or "")
                self.checked.add(each.name)
            card = Path(each.gguf).with_name("version.json")
            expect(json.loads(card.read_bytes())["name"] == each.name, f"{card} is wrong")
        wrong = wrong_alias(ledger)
        expect(wrong is None, wrong or "")

    def digest(self, path: Path) -> str:
        """SHA-256 of a file, taken once for each state of it."""
        try:
            seen = path.stat()
        except OSError as error:
            raise ViolationError(str(error)) from error
        key = (str(path), seen.st_ino, seen.st_mtime_ns)
        if key not in self.whole:
            with path.open("rb") as file:
                self.whole[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self.whole[key]

    # 4: projections and Ollama

    def projected(self) -> str | None:
        """What the projections say otherwise than the ledger, None where they agree."""
        home = self.arena.home
        with LedgerReader.open(home.ledger) as ledger:
            ledger.connection.execute("BEGIN")
            progress = json.loads(json.dumps(progress_report(ledger, Settings())))
            rows = list(ledger.trained_examples(FAMILY))
        try:
            said = json.loads(home.progress.read_bytes())
            listed = [json.loads(line) for line in home.trained_examples.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError as error:
            return str(error)
        keys = ("current_age", "model", "total_examples_trained", "history")
        if any(said.get(key) != progress.get(key) for key in keys):
            return "cognitive_progress.json"
        return None if listed == rows else "trained_examples.jsonl"

    def not_too_early(self, ledger: LedgerReader, tags: Iterable[str]) -> None:
        """At no moment Ollama has what was not promoted. `tags` were asked for before the ledger was read."""
        promoted = {version.name for version in ledger.promoted_versions(FAMILY)} | {FAMILY}
        early = [tag for tag in tags if tag.partition(":")[0] not in promoted]
        expect(not early, f"Ollama has {early}, which is not promoted")

    def served(self) -> str | None:
        """What Ollama has otherwise than the ledger, None where they agree."""
        with LedgerReader.open(self.arena.home.ledger) as ledger:
            promoted = [each for each in ledger.promoted_versions(FAMILY) if each.pruned_at is None]
            champion = ledger.champion(FAMILY)
            rows = [row for row in ledger.registrations() if row["host"] == self.arena.ollama.url]
        server = OllamaServer(self.arena.ollama.url)
        tags = server.tags()
        wanted = {f"{version.name}:latest" for version in promoted} | ({f"{FAMILY}:latest"} if champion else set())
        if tags.keys() != wanted:
            return f"{sorted(tags)} instead of {sorted(wanted)}"
        if champion and tags[f"{FAMILY}:latest"] != tags[f"{champion.name}:latest"]:
            return "the alias is on another version"
        known = {f"{row['name']}:latest" for row in rows if row["state"] == "served"}
        if known != wanted:
            return f"the ledger knows of {sorted(known)} instead of {sorted(wanted)}"
        shown = {version.name: server.show(version.name) for version in promoted[-1:]}
        made = all(shown[each.name] and each.gguf_sha256 in shown[each.name].license for each in promoted[-1:])
        return None if made else f"{promoted[-1].name} is made of another file"

    # 5: leftovers

    def left_over(self, *, rest: bool) -> list[str]:
        """Files that nobody accounts for."""
        try:
            return self.strangers(rest=rest)
        except FileNotFoundError as error:
            return [f"{error.filename} went while the oracle looked"]

    def strangers(self, *, rest: bool) -> list[str]:
        """All of them."""
        home, arena = self.arena.home, self.arena
        assert arena.daemon is not None
        born = time.time() - age_s(arena.daemon.pid)
        with LedgerReader.open(home.ledger) as ledger:
            runs = {run.id: run.state for run in ledger.runs(100_000)}
            versions = {Path(version.gguf).parent.name for version in ledger.versions()}
            next_id = ledger.next_run_id()
        found = []
        for folder in (home.logs, home.rejected, home.versions, home.runs, home.trained, home.cache):
            found += [str(path) for path in folder.rglob(".*.tmp") if mtime(path) < born - 0.05]
        found += [path.name for path in home.versions.iterdir() if path.name not in versions]
        found += [path.name for path in home.control.glob("*.json")] + files_given_up(arena)
        for path in home.runs.glob(f"*/train/{CHECKPOINTS}"):
            if runs.get(path.parent.parent.name) in FINAL_STATES and mtime(path) < born - 0.05:
                found.append(f"{path} (of a training that is over)")
        for path in home.runs.iterdir():
            if path.name not in runs and (path.name != next_id or rest):
                found.append(f"{path.name} (no run)")
            if (
                runs.get(path.name) in {RunState.REJECTED, RunState.FAILED}
                and (path / "export" / "model.gguf").exists()
            ):
                found.append(f"{path.name}/export/model.gguf (of a run that was refused)")
            if runs.get(path.name) is RunState.PROMOTED and (path / "export" / "model.gguf").exists():
                found.append(f"{path.name}/export/model.gguf (of a version that has its own)")
        return found


def mtime(path: Path) -> float:
    """When a file was last written; now, where it has just gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()


def age_s(pid: int) -> float:
    """For how long a process has lived, in seconds."""
    ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - ticks / 100


def expect(truth: object, what: str) -> None:
    """ViolationError where it is not so."""
    if not truth:
        raise ViolationError(what)
