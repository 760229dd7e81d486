"""Ways to break a home, each for real, with what the doctor is to find."""

import os
import sqlite3
from collections.abc import Callable
from dataclasses import replace

from tests.doctor.kit import FAMILY, SETTINGS, aged, spoil, write
from tests.seeded import fail_run, freeze
from thaud.control import Request, send
from thaud.home import Home
from thaud.ledger import Ledger
from thaud.projections import project

# What --fix mends: (what is found, what is left afterwards)


def half_written(home: Home) -> None:
    write(home.runs / "run-0001" / "export" / ".model.gguf.tmp")
    write(home.data / ".daemon.json.tmp")
    write(home.data / ".mine.json.tmp")  # somebody else's, as the next one and that in the queue
    write(home.logs / ".mine.log.tmp")
    aged(write(home.queue / f".added-{'0' * 16}.jsonl.tmp"))
    write(home.queue / ".mine.jsonl.tmp")  # no finding, and never removed


def refused_model(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        write(home.runs / fail_run(ledger, [], "no").id / "export" / "model.gguf")


def stranger_run(home: Home) -> None:
    write(home.runs / "run-0009" / "train" / "adapter.bin", b"precious")


def stranger_version(home: Home) -> None:
    write(home.versions / "thau-nano-v7" / "model.gguf", b"precious")


def stranger_model(home: Home) -> None:
    write(home.runs / "run-0001" / "export" / "model.gguf", b"precious")


def pruned_file_left(home: Home) -> None:
    """As a crash between the commit and the removal leaves it."""
    gguf = home.versions / "thau-nano-v2" / "model.gguf"
    with Ledger.open(home.ledger) as ledger:
        run_id = freeze(ledger, [], 0, FAMILY).id
        found = ledger.versions()[0]
        second = replace(found, n=2, run_id=run_id, gguf=str(gguf))
        ledger.accept(second, ["fine"], {})
        ledger.promote(second, None)
        ledger.move_alias(found, "test")
        ledger.give_up([second])
        project(home, ledger, SETTINGS)
    for step in ("train", "export"):
        spoil(home, "INSERT INTO journal VALUES (?, ?, 'x', 'x', '{}')", run_id, step)
    write(home.runs / run_id / "train" / "adapter" / "adapter_model.safetensors")
    write(gguf)


def stranger_base(home: Home) -> None:
    write(home.bases / "mine" / "notes.txt", b"precious")


def unused_base(home: Home) -> None:
    for name in ("model.gguf", "model.gguf.sha256"):
        write(home.bases / f"{'0' * 16}-f16" / name)


def certificate_gone(home: Home) -> None:
    (home.versions / "thau-nano-v1" / "certificate.json").unlink()


def certificate_changed(home: Home) -> None:
    path = home.versions / "thau-nano-v1" / "certificate.json"
    path.write_bytes(path.read_bytes().replace(b"true", b"false"))


def missing_folder(home: Home) -> None:
    home.control.rmdir()


def quarantine_deleted(home: Home) -> None:
    (home.rejected / "bad.jsonl").unlink()


def quarantine_resolved(home: Home) -> None:
    spoil(home, "UPDATE rejections SET resolved_at = 'now'")


def old_progress(home: Home) -> None:
    home.progress.write_text("{}", encoding="utf-8")


def progress_too_deep(home: Home) -> None:
    home.progress.write_text("[" * 200_000, encoding="utf-8")


def trained_examples_cut(home: Home) -> None:
    home.trained_examples.write_bytes(home.trained_examples.read_bytes()[:100])


def damaged_position(home: Home) -> None:
    spoil(home, "UPDATE files SET position = '{}' WHERE name = 'bad.jsonl'")


def damaged_request(home: Home) -> None:
    write(home.control / "resolve-1.json", b"{")


def pipe_for_quarantine(home: Home) -> None:
    (home.rejected / "bad.jsonl").unlink()
    os.mkfifo(home.rejected / "bad.jsonl")


def astray_registration(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        ledger.register("http://h:1", "thau-nano-v9", "served", "")


def lost_examples(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        freeze(ledger, ["0" * 64], 0, FAMILY)


def unreadable_run(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        run_id = freeze(ledger, [], 0, FAMILY).id
    spoil(home, "UPDATE runs SET spec = '{}' WHERE id = ?", run_id)


def lost_receipt(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        run_id = freeze(ledger, [], 0, FAMILY).id
    spoil(home, "UPDATE runs SET state = 'exported' WHERE id = ?", run_id)


def miscounted(home: Home) -> None:
    spoil(home, "UPDATE example_counts SET n = n + 1")


def large_wal(home: Home) -> None:
    wal = home.ledger.with_name(f"{home.ledger.name}-wal")
    with wal.open("wb") as file:
        file.truncate(65 << 20)


FAULTS: dict[Callable[[Home], None], tuple[str, set[str]]] = {
    half_written: ("temporary_left", set()),
    refused_model: ("refused_left", set()),
    stranger_run: ("run_stranger", set()),
    stranger_version: ("version_stranger", set()),
    stranger_model: ("model_stranger", set()),
    pruned_file_left: ("pruned_left", set()),
    unused_base: ("pruned_left", set()),
    stranger_base: ("base_stranger", set()),
    certificate_gone: ("certificate_differs", set()),
    certificate_changed: ("certificate_differs", set()),
    missing_folder: ("folder_missing", set()),
    quarantine_deleted: ("quarantine_differs", set()),
    quarantine_resolved: ("quarantine_differs", set()),
    old_progress: ("projection_differs", set()),
    progress_too_deep: ("projection_differs", set()),
    trained_examples_cut: ("projection_differs", set()),
    damaged_position: ("position_unreadable", set()),
    pipe_for_quarantine: ("quarantine_differs", set()),
    damaged_request: ("request_unreadable", set()),
    astray_registration: ("registration_astray", set()),
    lost_examples: ("run_examples_gone", set()),
    unreadable_run: ("run_unreadable", set()),
    lost_receipt: ("run_receipt_gone", {"run_waits"}),
    miscounted: ("counts_differ", set()),
    large_wal: ("wal_large", set()),
}


# What is named and not mended


def damaged_table(home: Home) -> None:
    connection = sqlite3.connect(home.ledger)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    data = bytearray(home.ledger.read_bytes())
    for page in range(4, len(data) // 4096, 3):
        data[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    home.ledger.write_bytes(data)


def broken_reference(home: Home) -> None:
    spoil(home, "UPDATE versions SET run_id = 'run-0404'")


def champion_gone(home: Home) -> None:
    (home.versions / "thau-nano-v1" / "model.gguf").unlink()


def champion_pruned(home: Home) -> None:
    spoil(home, "UPDATE versions SET pruned_at = '2026-01-02T03:04:05'")
    (home.versions / "thau-nano-v1" / "model.gguf").unlink()


def base_file_gone(home: Home) -> None:
    spoil(home, "UPDATE versions SET kind = 'adapter', base_gguf = 'bases/x/model.gguf', base_sha256 = 'x'")


def champion_shorter(home: Home) -> None:
    gguf = home.versions / "thau-nano-v1" / "model.gguf"
    gguf.write_bytes(gguf.read_bytes()[:-1])


def champion_changed(home: Home) -> None:
    gguf = home.versions / "thau-nano-v1" / "model.gguf"
    gguf.write_bytes(b"W" + gguf.read_bytes()[1:])


def adapter_gone(home: Home) -> None:
    (home.runs / "run-0001" / "train" / "adapter" / "adapter_model.safetensors").unlink()


def receipt_gone(home: Home) -> None:
    spoil(home, "DELETE FROM journal WHERE step = 'export'")


def alias_astray(home: Home) -> None:
    spoil(home, "UPDATE aliases SET n = 7")


def numbers_gap(home: Home) -> None:
    spoil(home, "UPDATE versions SET n = 3")


def age_unknown(home: Home) -> None:
    spoil(home, "INSERT OR REPLACE INTO meta VALUES ('age', '4')")


def two_runs(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        freeze(ledger, [], 0, FAMILY)
        freeze(ledger, [], 0, FAMILY)


def same_failures(home: Home) -> None:
    with Ledger.open(home.ledger) as ledger:
        for _ in range(3):
            fail_run(ledger, [], "no memory")


def requests_wait(home: Home) -> None:
    send(home, Request.TRAIN)


def ledger_gone(home: Home) -> None:
    for path in home.data.glob("ledger.sqlite3*"):
        path.unlink()


def ledger_emptied(home: Home) -> None:
    ledger_gone(home)
    home.ledger.touch()


def ledger_unreachable(home: Home) -> None:
    ledger_gone(home)
    home.ledger.mkdir()


def deleted_progress(home: Home) -> None:
    home.progress.unlink()


def folder_is_file(home: Home) -> None:
    home.control.rmdir()
    home.control.touch()


def folder_is_loop(home: Home) -> None:
    home.control.rmdir()
    home.control.symlink_to(home.control.name)


def folder_for_log(home: Home) -> None:
    home.service_log.mkdir()


def damaged_proposal(home: Home) -> None:
    write(home.proposed / "20260301T123000Z-ab12cd34.json", b"{")


def quarantine_being_corrected(home: Home) -> None:
    write(home.rejected / "bad.jsonl", b'{"instruction": "mended", "output": "by hand"}\n')


NAMED: dict[Callable[[Home], None], str] = {
    damaged_table: "ledger_damaged",
    broken_reference: "reference_broken",
    champion_gone: "champion_gone",
    champion_pruned: "champion_pruned",
    base_file_gone: "base_file_gone",
    champion_shorter: "version_changed",
    champion_changed: "version_changed",
    adapter_gone: "adapter_gone",
    receipt_gone: "receipt_gone",
    alias_astray: "alias_astray",
    numbers_gap: "numbers_gap",
    age_unknown: "age_unknown",
    two_runs: "runs_unfinished",
    same_failures: "runs_fail",
    requests_wait: "requests_wait",
    deleted_progress: "progress_deleted",
    ledger_gone: "ledger_gone",
    ledger_emptied: "ledger_gone",
    ledger_unreachable: "check_failed",
    folder_is_file: "not_a_folder",
    folder_is_loop: "not_a_folder",
    folder_for_log: "not_writable",
    quarantine_being_corrected: "quarantine_edited",
    damaged_proposal: "proposal_damaged",
}
