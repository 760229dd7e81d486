"""What lies in a home's folders, against the ledger: users' files, where lines were seen, what the steps were handed.

Each function says what is wrong, or nothing. Owns no memory of its own: what must not change is the oracle's.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path

from tests.crash.arena import Arena
from tests.crash.steps.export import model_of
from tests.crash.steps.train import weights_of
from thaud.domain import Example, RunState, Version
from thaud.formats import parse_line
from thaud.ledger import LedgerReader, RunIds, RunRow
from thaud.steps.contract import TrainSpec

TRAINED = {RunState.TRAINED, RunState.EXPORTED, RunState.EXAMINED, RunState.ACCEPTED, RunState.PROMOTED}
EXAMINED = {RunState.EXAMINED, RunState.ACCEPTED, RunState.PROMOTED}


def lost_files(arena: Arena) -> list[str]:
    """Files of the writer that are, byte for byte as it left them, neither in the drop-box nor among the trained."""
    home = arena.home
    there = {digest(path) for folder in (home.queue, home.trained) for path in folder.iterdir() if path.is_file()}
    return [name for name, data in arena.writer.contents.items() if hashlib.sha256(data).hexdigest() not in there]


def digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def misplaced(arena: Arena, ledger: LedgerReader) -> list[str]:
    """Files whose lines the ledger did not see, each once, where they stand; also in quarantine, the bad ones."""
    seen: dict[str, Counter[tuple[int, str]]] = {}
    for table in (
        "SELECT seen.file, seen.line, id FROM sightings AS seen JOIN examples ON seq = example_seq",
        "SELECT file, line, raw FROM rejections",
    ):
        for file, line, what in ledger.connection.execute(table):
            seen.setdefault(file, Counter())[line, what] += 1
    wanted = {name: standing(lines) for name, lines in settled(arena).items()}
    return [name for name, lines in wanted.items() if seen.get(name, Counter()) != lines]


def settled(arena: Arena) -> dict[str, list[str]]:
    """The line files in which each line stands where it always stood, and whose last one is whole."""
    writer = arena.writer
    return {
        name: lines
        for name, lines in writer.files.items()
        if name not in writer.rewritten and name not in writer.halves
    }


def standing(lines: list[str]) -> Counter[tuple[int, str]]:
    """(number, id of the example) of each line; of a bad one its text."""
    parsed = [(number, line, parse_line(line.encode())) for number, line in enumerate(lines, 1)]
    return Counter((number, each.id if isinstance(each, Example) else line) for number, line, each in parsed)


def wrongly_handed(arena: Arena, run: RunRow, ids: RunIds) -> str | None:
    """What a run's steps were handed otherwise than it was frozen: rows in their order, items, nothing else."""
    folder = arena.home.runs / run.id
    if run.state in TRAINED and ids_in(folder / "train" / "examples.jsonl") != [*ids.example_ids]:
        return f"{run.id} was trained on other rows than it was frozen on"
    if run.state in EXAMINED and ids_in(folder / "exam" / "items.jsonl") != [*ids.exam_ids, *ids.recall_ids]:
        return f"{run.id} was asked other items than it was frozen with"
    asked = folder / "exam-champion" / "items.jsonl"
    if run.state in EXAMINED and asked.exists() and not set(ids_in(asked)) <= set(ids.exam_ids):
        return f"{run.id} asked the champion what it was not frozen with"
    return None


def ids_in(path: Path) -> list[str]:
    """The ids of a step's rows."""
    return [json.loads(line)["id"] for line in path.read_text(encoding="utf-8").splitlines()]


def wrongly_made(arena: Arena, version: Version) -> str | None:
    """Whether a version's file is what the steps make of the rows of its run."""
    weights = adapter_in(arena.home.runs / version.run_id / "train")
    template = (arena.notes / "template.gguf").read_bytes()
    made = model_of(template, weights, f"{version.family}-{version.run_id}")
    return None if Path(version.gguf).read_bytes() == made else f"{version.name} is not made of the rows of its run"


def uncertified(ledger: LedgerReader, version: Version, *, promoted: bool) -> str | None:
    """What is wrong with the certificate of an accepted version: it passed, is of that very file, and lies beside it
    once the version is promoted.
    """
    receipt = ledger.receipt(version.run_id, "certify")
    if receipt is None or not receipt["passed"] or receipt["reasons"]:
        return f"{version.name} was accepted without a certificate"
    found = receipt["certificate"]
    if {receipt["gguf_sha256"], found["gguf_sha256"]} != {version.gguf_sha256}:
        return f"the certificate of {version.name} is another file's"
    beside = Path(version.gguf).with_name("certificate.json")
    if promoted and (not beside.exists() or json.loads(beside.read_bytes()) != found):
        return f"{beside} is not the certificate of {version.name}"
    return None


def adapter_in(folder: Path) -> bytes:
    """What the steps make of what lies in a train step's folder, and of that of the run whose adapter is continued."""
    spec = TrainSpec.model_validate_json((folder / "spec.json").read_bytes())
    parent = adapter_in(Path(spec.start_from).parent) if spec.start_from else b""
    return weights_of((folder / "examples.jsonl").read_bytes(), spec, parent)
