import io
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.seeded import fail_run, freeze, make_home, open_ledger, promote, take_in
from thaud.cli import make_app, run
from thaud.control import only_daemon, take
from thaud.domain import Score
from thaud.errors import DaemonNotRunningError
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.watch import Follower, PlainView, Tail, duration, follow, open_view
from thaud.words import EN, ES, Words

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


def a_run(home: Home) -> str:
    """A promoted run that said something in each step."""
    with open_ledger(home) as ledger:
        spec = freeze(ledger, take_in(ledger, 0, 3, "a.jsonl"), 0, FAMILY)
        tell(home, spec.id, {"step": "train", "event": "start", "total": 50}, *train_steps(50))
        tell(home, spec.id, {"step": "exam", "event": "item", "done": 4, "total": 4, "right": 3})
        promote(ledger, spec, 1, Score(4, 3), None)
    return spec.id


def shown(home: Home, words: Words, **options: Any) -> str:
    """What a view shows of everything that happened."""
    sink = io.StringIO()
    console = Console(file=sink, width=200, highlight=False, **options)
    with only_daemon(home), open_view(console, words) as view:
        assert follow(home, view, lambda ledger: ledger.unfinished_run() is None, after=0)
    return sink.getvalue()


def test_a_line_counts_when_it_is_whole(tmp_path: Path) -> None:
    """Half a line waits for its other half; what is no object is passed over; a missing file is an empty one."""
    tail = Tail(tmp_path / "x")
    assert list(tail.read()) == []
    tail.path.write_bytes(b'{"a": 1}\n[2]\nnoise\n{"b"')
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
