"""When the daemon looks at an Ollama server, and what it remembers of it."""

import asyncio
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.seeded import freeze, make_home, open_ledger, promote
from tests.testkit.daemon import look, wait_until
from thaud.config import Serving, Settings
from thaud.domain import RunState, Score
from thaud.home import Home
from thaud.ledger import Ledger
from thaud.registrar import Registrar, plan, promised_by, remember, sync_once, waiting_for, wanted_on_server
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.reconcile import Outcome, Receipt
from thaud.synced import OLLAMA, Synced, put_down, read_synced

FAMILY, HOST = "thau-nano", "http://127.0.0.1:9"
SETTINGS = Settings(serving=Serving(ollama_host=HOST, retry_s=0.01))
SHA = "a" * 64


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def ledger(home: Home) -> Ledger:
    """A ledger with two promoted versions."""
    opened = open_ledger(home)
    for n in (1, 2):
        promote(opened, freeze(opened, [], 0, FAMILY), n, Score(20, 18), None)
    return opened


def receipt(name: str, served: str = "b" * 64) -> Receipt:
    return Receipt(name, name, SHA, served, ("completion",), "0.33.0", uploaded=True)


def test_what_is_wanted_is_what_is_promoted_and_not_given_up(ledger: Ledger) -> None:
    """A pruned version is to go, the others are to be there, proved again where nothing is known of a proof."""
    first, second = ledger.versions(FAMILY)
    ledger.give_up([first])
    planned = plan(SETTINGS, ledger)
    assert ([each.version.name for each in planned.wanted], planned.unwanted) == ([second.name], [first.name])
    assert planned.wanted[0].unproved
    assert planned.champion == second
    assert planned.house.id == ledger.home_id()


def test_a_proof_comes_back_with_the_file_that_was_seen(ledger: Ledger) -> None:
    """What the server ran when a version was proved is remembered for this server and this file alone."""
    ledger.register(HOST, "thau-nano-v1", "served", "", receipt("thau-nano-v1").report())
    first, second = wanted_on_server(SETTINGS, ledger)
    assert (first.served_sha256, first.unproved) == ("b" * 64, False)
    assert (second.served_sha256, second.unproved) == (None, True)
    ledger.register(HOST, "thau-nano-v2", "served", "", {**receipt("x").report(), "gguf_sha256": "c" * 64})
    other = wanted_on_server(SETTINGS, ledger)[1]
    assert (other.served_sha256, other.unproved) == (None, True)


def test_promises_are_the_certificates(ledger: Ledger) -> None:
    """A version from before there were certificates promises to talk; one with a certificate what that says."""
    spec = freeze(ledger, [], 0, FAMILY)
    version = promote(ledger, spec, 3, Score(20, 18), None)
    assert promised_by(ledger, version) == {"completion"}
    ledger.intend(spec.id, "certify")
    ledger.receive(spec.id, "certify", {"certificate": {"capabilities": ["completion", "tools"]}}, RunState.PROMOTED)
    assert promised_by(ledger, version) == {"completion", "tools"}


def test_an_outcome_is_remembered_by_name(ledger: Ledger) -> None:
    """Served and failed versions, the alias and its reason are rows; a name that was given up has none any more."""
    first, second = ledger.versions(FAMILY)
    failed = Outcome((receipt(first.name),), failed={second.name: "no room"}, alias_failure="it is not there")
    synced = remember(ledger, plan(SETTINGS, ledger), failed, FAMILY)
    rows = {row["name"]: (row["state"], row["detail"]) for row in ledger.registrations()}
    assert rows == {
        first.name: ("served", ""),
        second.name: ("failed", "no room"),
        FAMILY: ("failed", "it is not there"),
    }
    assert (synced.state, synced.in_step) == ("behind", False)
    ledger.give_up([first])
    done = Outcome((receipt(second.name),), deleted=(first.name,), alias=FAMILY)
    synced = remember(ledger, plan(SETTINGS, ledger), done, FAMILY)
    assert {row["name"]: row["state"] for row in ledger.registrations()} == {second.name: "served", FAMILY: "served"}
    assert synced.names == {second.name: ("served", ""), first.name: ("deleted", "")}
    assert (synced.alias, synced.version) == (FAMILY, second.name)


def test_what_failed_keeps_the_report_of_before(ledger: Ledger) -> None:
    """A version that could not be made anew is still the one that was proved: its report stays."""
    first, _ = ledger.versions(FAMILY)
    planned = plan(SETTINGS, ledger)
    remember(ledger, planned, Outcome((receipt(first.name),), failed={"thau-nano-v2": "no room"}), FAMILY)
    remember(ledger, planned, Outcome(failed={first.name: "busy", "thau-nano-v2": "no room"}), FAMILY)
    row = next(row for row in ledger.registrations() if row["name"] == first.name)
    assert (row["state"], row["report"]["served_sha256"]) == ("failed", "b" * 64)


def test_a_failed_proof_is_remembered(ledger: Ledger) -> None:
    """Which release refused a version is known at the next look by the clock, and forgotten when somebody asks."""
    first, _ = ledger.versions(FAMILY)
    failed = Outcome(failed={first.name: "renders otherwise"}, refused=(first.name,), server_version="0.33.0")
    remember(ledger, plan(SETTINGS, ledger), failed, FAMILY)
    known = plan(SETTINGS, ledger, afresh=False).wanted[0]
    assert (known.refusal, known.unproved) == (("0.33.0", "renders otherwise"), True)
    assert plan(SETTINGS, ledger).wanted[0].refusal is None
    remember(ledger, plan(SETTINGS, ledger), Outcome((replace(receipt(first.name), server_version="1.0"),)), FAMILY)
    assert plan(SETTINGS, ledger, afresh=False).wanted[0].refusal is None


def test_a_server_that_is_away_is_waited_for(ledger: Ledger) -> None:
    """What it held is still there as far as anybody knows, the rest waits."""
    planned = plan(SETTINGS, ledger)
    ledger.register(HOST, "thau-nano-v1", "served", "")
    synced = waiting_for(planned, "away", "nobody answers", ledger)
    assert synced.waiting == ["thau-nano-v2"]
    assert sync_once(SETTINGS, ledger, print, take_over=False).state == "away"
    assert (read_synced(ledger) or pytest.fail("nothing")).waiting == ["thau-nano-v2"]


def test_an_upload_that_broke_off_is_none_any_more(ledger: Ledger) -> None:
    """A server that goes, or a daemon that died, in the middle of an upload leaves no row that says it goes on."""
    ledger.register(HOST, "thau-nano-v1", "uploading", "1/2")
    ledger.register(HOST, "thau-nano-v2", "served", "")
    assert sync_once(SETTINGS, ledger, print, take_over=False).waiting == ["thau-nano-v1"]
    rows = {row["name"]: (row["state"], row["detail"]) for row in ledger.registrations()}
    assert rows == {"thau-nano-v1": ("failed", f"nobody answers at {HOST}"), "thau-nano-v2": ("served", "")}


def test_only_news_is_written_down(ledger: Ledger) -> None:
    """A look that found what the last one found costs no commit, unless somebody waits for it."""
    same = Synced(HOST, "in_step", names={"thau-nano-v1": ("served", "")})
    put_down(ledger, same, ())
    first = ledger.meta(OLLAMA)
    put_down(ledger, Synced(HOST, "in_step", names={"thau-nano-v1": ("kept", "")}), ())
    assert ledger.meta(OLLAMA) == first
    put_down(ledger, same, ["me"])
    assert (read_synced(ledger) or pytest.fail("nothing")).asked == ("me",)
    put_down(ledger, Synced(HOST, "away"), ())
    assert (read_synced(ledger) or pytest.fail("nothing")).state == "away"


class Watched(Registrar):
    """Rests no longer than it is asked to be watched, and says how long it would."""

    rests: list[float]

    async def rest(self, pause_s: float) -> None:
        self.rests.append(pause_s)
        if len(self.rests) == 16:
            self.stop.set()


def test_while_nothing_is_news_it_looks_ever_more_rarely(ledger: Ledger) -> None:
    """The first look is news and is followed by `serving.retry_s`; then the pause doubles, up to an hour."""
    settings = Settings(serving=Serving(ollama_host=HOST, retry_s=1.0))

    async def scene() -> list[float]:
        registrar = Watched(settings, ledger, asyncio.Event(), asyncio.Event())
        registrar.rests = []
        await registrar.keep_in_step()
        return registrar.rests

    assert asyncio.run(scene()) == [1.0, *(2.0**n for n in range(1, 12)), *[3600.0] * 4]


def test_who_asks_is_answered_and_the_server_is_noticed(home: Home) -> None:
    """The registrar notices a server that comes, answers a request by its id, and ends when it is told to."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings(serving=Serving(ollama_host=f"127.0.0.1:{port}", retry_s=0.05))
    seen = []

    async def scene(ledger: Ledger, servers: ExitStack) -> None:
        sync, stop = asyncio.Event(), asyncio.Event()
        registrar = Registrar(settings, ledger, sync, stop)
        task = asyncio.create_task(registrar.keep_in_step())
        await until(lambda: looked(home).state == "away")
        seen.append(looked(home).detail)
        servers.enter_context(FakeOllama(port=port))
        await until(lambda: looked(home).state == "in_step")
        registrar.ask({"id": "me", "take_over": True})
        await until(lambda: "me" in looked(home).asked)
        await until(lambda: (registrar.asked, registrar.take_over) == ([], False))
        stop.set()
        sync.set()
        await task

    with open_ledger(home) as ledger, ExitStack() as servers:
        asyncio.run(scene(ledger, servers))
    assert seen == [f"nobody answers at 127.0.0.1:{port}"]
    assert (looked(home).state, looked(home).asked) == ("in_step", ("me",))


def looked(home: Home) -> Synced:
    """The last look, read from any thread."""
    return look(home, read_synced) or Synced("", "")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition beside the loop, with a deadline."""
    await asyncio.to_thread(wait_until, condition)
