"""The daemon: one asyncio loop that takes in what is dropped, starts runs, answers HTTP and keeps Ollama in step.

Owns time, signals and the order of things; every decision is curriculum.py's, every effect another module's. It imports
no heavy library: those live in the steps' child processes.

    watcher ──┐                         ┌─> take in (intake)
    control ──┼─> wake ──> turn ────────┼─> start a run (pipeline), one at a time
    timers  ──┘                         └─> retire trained files
    beside it: HTTP (api), Ollama (reconcile in a thread), signs of life (systemd)

Shutdown: the first SIGTERM or SIGINT ends the turn, kills the step under way (it is repeated on the next start) and
closes the ledger; a second one exits at once.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

import structlog

from thaud import curriculum
from thaud.api import serve_http
from thaud.config import Settings, systemd_environment
from thaud.control import Request, only_daemon, take
from thaud.domain import Trigger
from thaud.errors import StorageError, ThauError
from thaud.home import Home
from thaud.intake import Intake
from thaud.ledger import Ledger
from thaud.logs import set_up_logging
from thaud.pipeline import Pipeline
from thaud.projections import progress_was_deleted, project
from thaud.registrar import keep_in_step
from thaud.systemd import notify
from thaud.waiting import wait
from thaud.watcher import Watcher

AFTER_ERROR_S = 5.0
AFTER_STORAGE_S = 60.0
AFTER_NO_START_S = 600.0
SIGNALS = (signal.SIGTERM, signal.SIGINT)
log = structlog.get_logger()


async def serve(home: Home, settings: Settings) -> None:
    """Be the daemon of a home until a signal comes.

    Raises HomeBusyError, HomeTooNewError or StorageError where it cannot begin.
    """
    with only_daemon(home):
        make_folders(home.folders())
        set_up_logging(home)
        with Ledger.open(home.ledger) as ledger:
            await Daemon(home, settings, ledger).live()


def make_folders(folders: Sequence[os.PathLike[str]]) -> None:
    """Make what is missing. Raises StorageError naming the folder."""
    for folder in folders:
        try:
            os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - any path
        except OSError as error:
            raise StorageError(f"cannot make {folder}: {error.strerror}; check the owner of its parent") from error


class Daemon:
    """The state of the loop: what woke it, what runs, when to look again."""

    def __init__(self, home: Home, settings: Settings, ledger: Ledger) -> None:
        self.home = home
        self.settings = settings
        self.ledger = ledger
        self.intake = Intake(home, settings, ledger)
        self.pipeline = Pipeline(home, settings, ledger)
        self.wake, self.stopping, self.sync = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.dirty = True
        self.train_requested = False
        self.projected = True
        self.run: asyncio.Task[None] | None = None
        self.changed_at = self.scanned_at = time.monotonic()
        self.no_start_before = 0.0

    async def live(self) -> None:
        """From start to shutdown."""
        self.install_signals(asyncio.get_running_loop())
        if progress_was_deleted(self.home, self.ledger):
            log.warning("age_reset", why="cognitive_progress.json was deleted")
            self.ledger.reset_age("cognitive_progress.json was deleted")
        project(self.home, self.ledger, self.settings)
        watcher = self.start_watcher()
        try:
            await self.run_tasks(watcher)
        except* ThauError as group:
            raise group.exceptions[0] from None
        finally:
            await self.end_run()
            watcher.stop()
            log.info("stopped")

    async def run_tasks(self, watcher: Watcher) -> None:
        """Everything that goes on side by side; where one fails, all end."""
        loop = asyncio.get_running_loop()

        def ask(request: Request) -> None:
            loop.call_soon_threadsafe(self.obey, request)

        async with asyncio.TaskGroup() as group:
            if self.settings.api.enabled:
                group.create_task(serve_http(self.home, self.settings, ask, self.stopping))
            group.create_task(self.turn_until_stopped(watcher))
            group.create_task(keep_in_step(self.settings, self.ledger, self.sync, self.stopping))
            group.create_task(self.give_signs_of_life())

    async def end_run(self) -> None:
        """Kill the step under way; its run goes on from its last receipt on the next start."""
        if self.run is not None:
            self.run.cancel()
            await asyncio.wait([self.run])

    def start_watcher(self) -> Watcher:
        """Watch first, scan afterwards, so that nothing falls between. Raises StorageError."""
        loop = asyncio.get_running_loop()

        def tell_loop() -> None:
            loop.call_soon_threadsafe(self.mark_changed)

        watcher = Watcher((self.home.queue, self.home.control), tell_loop)
        watcher.start()
        return watcher

    def install_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """TERM and INT end. HUP says that the terminal went, where there is one; a service looks again."""
        for number in SIGNALS:
            loop.add_signal_handler(number, self.shut_down, number)
        if sys.stdin is not None and sys.stdin.isatty():
            loop.add_signal_handler(signal.SIGHUP, self.shut_down, signal.SIGHUP)
        else:
            loop.add_signal_handler(signal.SIGHUP, self.mark_changed)

    def shut_down(self, number: int) -> None:
        """First signal: end in order. Second: at once."""
        if self.stopping.is_set():
            os._exit(128 + number)
        log.info("stopping", signal=signal.Signals(number).name)
        notify(systemd_environment()[0], "STOPPING=1")
        self.stopping.set()
        self.wake.set()
        self.sync.set()

    def mark_changed(self) -> None:
        """Something may have changed in a watched folder."""
        self.dirty = True
        self.changed_at = time.monotonic()
        self.wake.set()

    # The turn

    async def turn_until_stopped(self, watcher: Watcher) -> None:
        """The main loop. An unforeseen error is logged with its traceback, and the next turn comes a little later."""
        notify(systemd_environment()[0], "READY=1")
        log.info("ready", home=str(self.home.root), model=self.settings.family, age=self.ledger.age)
        while not self.stopping.is_set():
            self.wake.clear()
            try:
                await self.turn(watcher)
                await wait(self.wake, self.pause_s())
                continue
            except StorageError as error:
                log.error("paused", reason=str(error))  # noqa: TRY400 - a full disk needs no traceback
            except Exception:
                log.exception("turn_failed")
            self.dirty = True
            await wait(self.stopping, AFTER_ERROR_S)  # whatever wakes it, for it would fail again

    async def turn(self, watcher: Watcher) -> None:
        """Obey, take in, retire, and start a run where one is due."""
        for request in take(self.home):
            self.obey(request)
        self.project_where_due()
        due = time.monotonic() - self.scanned_at >= self.settings.queue.rescan_s
        if not watcher.healthy:
            log.warning("watch_renewed", folder=str(self.home.queue))
            watcher.renew()
        if self.dirty or self.intake.waiting or due:
            self.dirty, self.scanned_at = False, time.monotonic()
            if await self.intake.take_in(self.stopping.is_set):
                self.changed_at = time.monotonic()
        self.start_run_where_due()

    def project_where_due(self) -> None:
        """Write the projections of what has changed. Raises StorageError, and the next turn tries again."""
        if not self.projected:
            project(self.home, self.ledger, self.settings)
            self.projected = True

    def pause_s(self) -> float:
        """Until when nothing can become due unless something wakes the loop."""
        queue, now = self.settings.queue, time.monotonic()
        due = [self.scanned_at + queue.rescan_s]
        quiet_at = self.changed_at + queue.quiet_s
        due += [at for at in (quiet_at, self.no_start_before) if at > now]
        if self.intake.waiting:
            due.append(now + queue.settle_s)
        return max(0.0, min(due) - now) + 0.01

    def obey(self, request: Request) -> None:
        """Act on a request of the CLI or the HTTP door."""
        log.info("requested", request=str(request))
        if request is Request.TRAIN:
            self.train_requested = True
            self.no_start_before = 0.0
        elif request is Request.RESET:
            self.ledger.reset_age("requested")
            self.projected = False
        self.dirty = True
        self.wake.set()

    # Runs

    def start_run_where_due(self) -> None:
        """Go on with the run that an earlier life or a full disk left, else start one where curriculum says so."""
        if self.run is not None or self.stopping.is_set() or time.monotonic() < self.no_start_before:
            return
        if (unfinished := self.ledger.unfinished_run()) is not None:
            log.info("run_resumed", run=unfinished.id, state=str(unfinished.state))
            self.run = asyncio.create_task(self.guard(self.carry_out(unfinished.id)))
        elif (trigger := self.reason_to_train()) is not None:
            self.run = asyncio.create_task(self.guard(self.begin(trigger)))

    def reason_to_train(self) -> Trigger | None:
        """What curriculum says now. A request that cannot be met is an event."""
        training = self.settings.training
        situation = self.situation()
        trigger = curriculum.when_to_train(
            situation,
            enabled=training.auto_train_enabled,
            min_new_examples=training.min_new_examples,
            quiet_s=self.settings.queue.quiet_s,
            interval_s=training.auto_train_interval_hours * 3600,
        )
        if self.train_requested and trigger is None:
            log.warning("nothing_to_train", age=self.ledger.age)
            self.ledger.note("nothing_to_train", age=self.ledger.age)
        self.train_requested = False
        return trigger

    def situation(self) -> curriculum.Situation:
        """What the ledger and the clock say."""
        family, age = self.settings.family, self.ledger.age
        pending, unseen = self.ledger.pending(family, age)
        since = self.ledger.waiting_since(family, age)
        ago = (datetime.now(UTC) - datetime.fromisoformat(since)).total_seconds() if since else None
        return curriculum.Situation(
            pending=pending,
            unseen=unseen,
            trainable=self.ledger.trainable(age),
            quiet_for_s=time.monotonic() - self.changed_at,
            last_run_ago_s=ago,
            failures=self.ledger.failures(),
            requested=self.train_requested,
        )

    async def begin(self, trigger: Trigger) -> None:
        """Freeze a run and carry it out."""
        spec = await self.pipeline.freeze(trigger)
        await self.carry_out(spec.id)

    async def carry_out(self, run_id: str) -> None:
        """Take a run to its end; files that are all trained leave the queue, and the projections follow."""
        await self.pipeline.finish(run_id)
        self.projected = False
        await self.intake.retire_trained()
        self.project_where_due()

    async def guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Let nothing that happens to a run reach the loop: say it, and try again later."""
        try:
            await work
        except StorageError as error:
            log.error("paused", reason=str(error))  # noqa: TRY400 - foreseen
            self.hold_runs(str(error), AFTER_STORAGE_S)
        except ThauError as error:
            log.error("run_not_started", reason=str(error))  # noqa: TRY400 - foreseen
            self.hold_runs(str(error), AFTER_NO_START_S)
        except Exception as error:
            log.exception("run_broken")
            self.give_up_run(f"unforeseen, see {self.home.service_log}: {error!r}")
        finally:
            self.run = None
            self.sync.set()
            self.wake.set()

    def hold_runs(self, reason: str, for_s: float) -> None:
        """No run for a while; status says why, if the ledger can be written."""
        self.no_start_before = time.monotonic() + for_s
        try:
            self.ledger.note("run_not_started", reason=reason)
        except StorageError:
            log.warning("not_noted", reason=reason)

    def give_up_run(self, reason: str) -> None:
        """A run that stumbled over what nobody foresaw would do so again: it ends, and a new one may begin."""
        self.hold_runs(reason, AFTER_NO_START_S)
        try:
            if (unfinished := self.ledger.unfinished_run()) is not None:
                self.pipeline.fail(unfinished.id, reason)
        except Exception:
            log.exception("run_not_ended")

    async def give_signs_of_life(self) -> None:
        """systemd's watchdog: half the interval it asks for."""
        address, every_s = systemd_environment()
        while every_s is not None and not self.stopping.is_set():
            notify(address, "WATCHDOG=1")
            await wait(self.stopping, every_s)
