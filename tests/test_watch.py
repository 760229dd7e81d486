import io
import json
import re
import string
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from tests.seeded import fail_run, freeze, make_home, open_ledger, promote, take_in
from thaud.cli import make_app, run
from thaud.control import only_daemon, take
from thaud.domain import Score
from thaud.errors import DaemonNotRunningError
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.steps.train.capacity import Capacity
from thaud.steps.train.checkpoint import complaint
from thaud.steps.train.footprint import Shape
from thaud.steps.train.preflight import Arrangement, Case, choose
from thaud.training_words import TrainingWords, training_words
from thaud.watch import Follower, PlainView, Tail, duration, follow, open_view
from thaud.words import EN, ES, Words, said_in

DEADLINE_S = 20.0
FAMILY = "thau-nano"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def tell(home: Home, run_id: str, *events: dict[str, Any]) -> None:
    path = home.runs / run_id / "progress.ndjson"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def train_steps(n: int) -> list[dict[str, Any]]:
    rest = {"total": n, "epoch": 1, "loss": 0.5, "tokens_per_s": 1000.0, "eta_s": 65.0}
    return [{"step": "train", "event": "step", "done": done, **rest} for done in range(1, n + 1)]


FIGURES = {
    "total": 50,
    "epoch": 1,
    "loss": 0.5,
    "smoothed_loss": 0.625,
    "held_back_loss": 0.75,
    "tokens_per_s": 1000.0,
    "supervised_tokens_per_s": 400.0,
    "peak_memory_bytes": 812_000_000,
    "device_peak_bytes": 9_000_000_000,
    "eta_s": 65.0,
}
ARRANGEMENT = "bf16, base in 4 bits, rows of 512 tokens, activations computed again, about 3.1 of 18.8 GiB"
SAID = [
    {"event": "start", "total": 50, "arrangement": ARRANGEMENT, "warning": "a base is slow", "not_cached": "full"},
    {"event": "checkpoint_passed_over", "checkpoint": "00000020", "reason": "it is damaged"},
    {"event": "resumed", "checkpoint": "00000010", "steps": 10},
    {"event": "step", "done": 11, **FIGURES},
    {"event": "rows_halved", "row_tokens": 256, "before": 512, "done": 11},
    {"event": "checkpoint_failed", "steps": 12, "reason": "no room"},
    {"event": "metrics_lost", "reason": "no room"},
    {"event": "step", "done": 50, **FIGURES},
]
ENDED = {"event": "end", "steps": 50, "first_loss": 4.0, "last_loss": 0.5, "tokens_per_s": 1000}
STOPPED = {**ENDED, "kl_to_base": 0.25, "stopped_early": True, "held_back_loss": 0.7}


def a_training(home: Home, *events: dict[str, Any]) -> str:
    """A promoted run whose training said this."""
    with open_ledger(home) as ledger:
        spec = freeze(ledger, take_in(ledger, 0, 3, "a.jsonl"), 0, FAMILY)
        tell(home, spec.id, *({"step": "train", **event} for event in events))
        promote(ledger, spec, 1, Score(4, 3), None)
    return spec.id


def a_run(home: Home) -> str:
    """A promoted run that said something in each step."""
    with open_ledger(home) as ledger:
        spec = freeze(ledger, take_in(ledger, 0, 3, "a.jsonl"), 0, FAMILY)
        tell(home, spec.id, {"step": "train", "event": "start", "total": 50}, *train_steps(50))
        tell(home, spec.id, {"step": "exam", "event": "item", "done": 4, "total": 4, "right": 3})
        promote(ledger, spec, 1, Score(4, 3), None)
    return spec.id


def shown(home: Home, words: Words, width: int = 200, **options: Any) -> str:
    """What a view shows of everything that happened."""
    sink = io.StringIO()
    console = Console(file=sink, width=width, highlight=False, **options)
    with only_daemon(home), open_view(console, words) as view:
        assert follow(home, view, lambda ledger: ledger.unfinished_run() is None, after=0)
    return sink.getvalue()


def test_a_line_counts_when_it_is_whole(tmp_path: Path) -> None:
    """Half a line waits for its other half; what is no object is passed over; a missing file is an empty one."""
    tail = Tail(tmp_path / "x")
    assert list(tail.read()) == []
    tail.path.write_bytes(b'{"a": 1}\n[2]\nnoise\n' + b"[" * 100_000 + b'\n{"b"')
    assert list(tail.read()) == [{"a": 1}]
    with tail.path.open("ab") as file:
        file.write(b": 2}\n")
    assert list(tail.read()) == [{"b": 2}]
    assert list(tail.read()) == []


def test_everything_is_seen_once_and_in_order(home: Home) -> None:
    """A run begins, its steps speak, it ends; the search for its base comes first; nothing is said twice."""
    follower = Follower(home, 0)
    tell(home, "run-0001", {"step": "bases", "event": "resolve", "base": "nano"})
    with LedgerReader.open(home.ledger) as ledger:
        assert [event["event"] for _, event in follower.poll(ledger)] == ["resolve"]
        a_run(home)
        events = [event["event"] for _, event in follower.poll(ledger)]
        assert events == ["began", "start", *["step"] * 50, "item", "ended"]
        assert list(follower.poll(ledger)) == []


def test_runs_before_are_not_shown(home: Home) -> None:
    """Following after a run shows only what comes later."""
    a_run(home)
    with LedgerReader.open(home.ledger) as ledger:
        assert list(Follower(home, 1).poll(ledger)) == []


def test_a_log_gets_a_line_for_each_tenth(home: Home) -> None:
    """Where nobody sits at a terminal, a step of 50 says its beginning and each tenth, then the verdict."""
    run_id = a_run(home)
    lines = shown(home, EN).splitlines()
    assert lines[0] == f"Training {run_id}: age 0 (newborn), 3 examples"
    assert len([line for line in lines if line.startswith("  train")]) == 11
    assert "  train 50/50 loss 0.500, 1000 tokens/s, 1:05 left" in lines
    assert "  exam 4/4 3 right of 4" in lines
    assert lines[-1] == "accepted: thau-nano-v1: the first of its family"


def test_a_terminal_gets_bars(home: Home) -> None:
    """On a terminal the run's first and last line stay, in the user's language."""
    run_id = a_run(home)
    text = shown(home, ES, force_terminal=True)
    assert f"Entrenamiento {run_id}: edad 0 (Recién Nacido), 3 ejemplos" in text
    assert "aceptada: thau-nano-v1" in text


def test_a_training_says_what_it_does_and_what_came_of_it(home: Home) -> None:
    """Precision and arrangement, what went wrong, the figures, and loss and divergence at the end; each on one line."""
    a_training(home, *SAID, STOPPED)
    speed = "1000 tokens/s (400 learned/s), 812 MB, GPU 9000 MB, 1:05 left"
    said = f"loss 0.500 (mean 0.625), held back 0.750, {speed}"
    assert shown(home, EN, width=60).splitlines()[1:-1] == [
        f"  train: {ARRANGEMENT}",
        "  train: a base is slow",
        "  train: tokens are not kept: full",
        "  train: checkpoint 00000020 is of no use: it is damaged",
        "  train: resumed after step 10",
        f"  train 11/50 {said}",
        "  train: memory ran out: rows of 256 tokens from here on",
        "  train: no checkpoint at step 12: no room",
        "  train: metrics.jsonl is incomplete: no room",
        f"  train 50/50 {said}",
        "  train: loss 4.000 -> 0.500 in 50 steps, 1000 tokens/s, KL 0.250 nats, stopped early (held back 0.700)",
    ]


def test_a_training_speaks_spanish(home: Home) -> None:
    """Everything that it says is in the user's language, the parts of the arrangement too."""
    a_training(home, *SAID, ENDED)
    lines = shown(home, ES).splitlines()
    arranged = "bf16, base en 4 bits, filas de 512 tokens, activaciones calculadas de nuevo, unos 3.1 de 18.8 GiB"
    assert lines[1] == f"  entrenar: {arranged}"
    assert "  entrenar: reanudado tras el paso 10" in lines
    assert any(
        "pérdida 0.500 (media 0.625), reservados 0.750, 1000 tokens/s (400 aprendidos/s)" in each for each in lines
    )
    assert lines[-2] == "  entrenar: pérdida 4.000 -> 0.500 en 50 pasos, 1000 tokens/s"


@pytest.mark.parametrize("phrase", [field.name for field in fields(TrainingWords) if field.type is str])
def test_both_languages_take_the_same_values(phrase: str) -> None:
    """What the train step says is filled in with the same values in both languages."""
    both = (getattr(training_words(words), phrase) for words in (ES, EN))
    spanish, english = ({name for _, name, _, _ in string.Formatter().parse(each)} - {None} for each in both)
    assert spanish == english


def test_the_arrangement_has_words_in_spanish() -> None:
    """Whatever preflight.py can say of an arrangement is translated."""
    arrangement = Arrangement(torch.device("cpu"), torch.float32, 512, True, True, True, needed=1 << 30, budget=1 << 32)
    parts = arrangement.words().split(", ")
    assert len(parts) == 6
    assert [part for part in parts[1:] if said_in(training_words(ES).said, part) == part] == []


def test_reasons_and_warnings_have_words_in_spanish(home: Home, tmp_path: Path) -> None:
    """What the machine lacks, and why a checkpoint is of no use, as the step itself says it: no word stays English."""
    folder = tmp_path / "00000001"
    complaints = [complaint(folder, {})]
    folder.mkdir()
    for manifest in ("[", '{"mark": {}, "files": {"state.json": {"bytes": 1}}, "steps": 1}', '{"mark": {"seed": 1}}'):
        (folder / "manifest.json").write_text(manifest)
        complaints.append(complaint(folder, {"seed": 2} if "seed" in manifest else {}))
    shape = Shape(2, 64, 128, 300, 4, 2, 16, tied=True, normed_heads=False, stored=4)
    case = Case(shape, 8, 100, Capacity(1 << 34, 1 << 28))
    warning = choose(case, torch.device("cpu"), torch.float32).warning
    start = {"event": "start", "total": 5, "arrangement": "fp32", "warning": warning}
    a_training(
        home, start, *({"event": "checkpoint_passed_over", "checkpoint": "1", "reason": each} for each in complaints)
    )
    spanish = shown(home, ES).splitlines()
    assert spanish[2].startswith("  entrenar: solo hay 0.2 GiB de memoria libres y entrenar ocupa unos 0.4: cierra")
    assert spanish[3:7] == [
        "  entrenar: el punto de control 1 no sirve: no se terminó de escribir",
        "  entrenar: el punto de control 1 no sirve: su manifiesto está dañado",
        "  entrenar: el punto de control 1 no sirve: state.json está dañado",
        "  entrenar: el punto de control 1 no sirve: es de otro seed",
    ]
    assert warning in shown(home, EN)


@pytest.mark.parametrize("width", [60, 80])
@pytest.mark.parametrize("words", [ES, EN], ids=["es", "en"])
def test_a_narrow_terminal_keeps_its_bars_whole(home: Home, words: Words, width: int) -> None:
    """At 60 columns a bar is one line, with the figures folded under it, and no line is wider than the terminal."""
    a_training(home, *SAID, STOPPED)
    lines = [
        re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line)
        for line in shown(home, words, width, force_terminal=True, legacy_windows=False)
        .replace("\r", "\n")
        .splitlines()
    ]
    bars = [line for line in lines if "━" in line]
    assert bars
    assert all(re.search(r"━ +\d+% \d:\d\d:\d\d", line) for line in bars)
    assert max(len(line) for line in lines) <= width


def test_what_another_release_says_ends_no_watching(home: Home) -> None:
    """Events without the fields that are shown, or with others, are passed over."""
    strange = [{"event": name} for name in ("start", "end", "resumed", "rows_halved", "never heard of")]
    a_training(home, *strange, {"event": "step", "done": 1, "total": 2, "loss": None, "peak_memory_bytes": "much"})
    assert shown(home, EN).splitlines()[1:-1] == ["  train", "  train 1/2"]


def test_a_nights_progress_is_read_in_little_memory(tmp_path: Path) -> None:
    """100,000 events of a run, 30 MB, are each seen once, and never more than some MB of them are held at a time."""
    line = json.dumps({"step": "train", "event": "step", "done": 1, "at": "x" * 120, **FIGURES}).encode() + b"\n"
    tail = Tail(tmp_path / "progress.ndjson")
    with tail.path.open("wb") as file:
        for _ in range(100):
            file.write(line * 1000)
    assert tail.path.stat().st_size > 30e6
    tracemalloc.start()
    try:
        assert sum(1 for _ in tail.read()) == 100_000
        assert tracemalloc.get_traced_memory()[1] < 10e6
    finally:
        tracemalloc.stop()


def test_an_event_longer_than_a_block_is_one_event(tmp_path: Path) -> None:
    """A line need not fit into what is read at a time; unfinished it waits."""
    tail = Tail(tmp_path / "x")
    long = json.dumps({"a": "x" * (3 << 20)}).encode()
    tail.path.write_bytes(long)
    assert list(tail.read()) == []
    tail.path.write_bytes(long + b'\n{"b": 1}\n')
    assert [list(event) for event in tail.read()] == [["a"], ["b"]]


def test_a_failure_is_shown_with_its_reason(home: Home) -> None:
    """A run that fails says why; brackets in a reason are just brackets."""
    with open_ledger(home) as ledger:
        fail_run(ledger, take_in(ledger, 0, 3, "a.jsonl"), "step train died [bold]: it said nothing")
    assert "failed: step train died [bold]: it said nothing" in shown(home, EN)


def test_following_ends_with_the_daemon(home: Home) -> None:
    """Where the daemon is gone nothing will come any more, and that is said; a deadline only ends the waiting."""
    view = PlainView(Console(file=io.StringIO()), EN)
    with pytest.raises(DaemonNotRunningError):
        follow(home, view, lambda _: False, after=0)
    with only_daemon(home):
        assert not follow(home, view, lambda _: False, after=0, deadline_s=0)


def test_durations() -> None:
    """What is left is read at a glance."""
    assert [duration(each) for each in (4.4, 60, 185, 7385)] == ["4 s", "1:00", "3:05", "2:03:05"]


# thau train --wait


@contextmanager
def acting_daemon(home: Home, act: Callable[[Ledger], None]) -> Iterator[None]:
    """Something that holds the lock and, when a request comes, acts on it as the daemon would."""
    seen, over = threading.Event(), threading.Event()

    def live() -> None:
        while not over.wait(0.02):
            for _ in take(home):
                with Ledger.open(home.ledger) as ledger:
                    act(ledger)
                seen.set()

    thread = threading.Thread(target=live)
    with only_daemon(home):
        thread.start()
        try:
            yield
            assert seen.wait(DEADLINE_S)
        finally:
            over.set()
            thread.join()


def train_and_wait(home: Home, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = run(make_app(), ["--home", str(home.root), "train", "--wait", *words], "thau")
    out, err = capsys.readouterr()
    return code, out, err


def test_waiting_for_a_training(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """train --wait follows the training that it asked for, to its verdict."""
    monkeypatch.setenv("LC_ALL", "C")

    def act(ledger: Ledger) -> None:
        spec = freeze(ledger, take_in(ledger, 0, 3, "a.jsonl"), 0, FAMILY)
        promote(ledger, spec, 1, Score(4, 3), None)

    with acting_daemon(home, act):
        code, out, _ = train_and_wait(home, capsys)
    assert code == 0
    assert "accepted: thau-nano-v1" in out


def test_waiting_for_a_training_that_fails(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    """A training that fails is exit code 9 with its reason, and JSON stays JSON."""

    def act(ledger: Ledger) -> None:
        fail_run(ledger, take_in(ledger, 0, 3, "a.jsonl"), "out of memory")

    with acting_daemon(home, act):
        code, out, err = train_and_wait(home, capsys, "--json")
    assert code == 9
    assert json.loads(out)["run"]["state"] == "failed"
    assert "out of memory" in err


@pytest.mark.parametrize(
    ("kind", "detail", "said", "expected"),
    [
        ("nothing_to_train", {"age": 0}, "no examples to train at age 0", 9),
        ("run_not_started", {"reason": "no room"}, "no training began: no room", 9),
        ("run_not_started", {"reason": "step bases: not here"}, "no training began: not here", 7),
    ],
)
def test_waiting_for_a_training_that_does_not_begin(
    home: Home, capsys: pytest.CaptureFixture[str], kind: str, detail: dict[str, Any], said: str, expected: int
) -> None:
    """Where the daemon cannot begin, train --wait says why instead of waiting for ever."""
    with acting_daemon(home, lambda ledger: ledger.note(kind, **detail)):
        code, _, err = train_and_wait(home, capsys)
    assert (code, err.count("\n")) == (expected, 1)
    assert said in err
