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
from collections.abc import Coroutine
from contextlib import closing
from typing import Any

import structlog

from thaud import lifecycle, mounts
from thaud.api import serve_http
from thaud.config import Settings, systemd_environment
from thaud.control import Asked, Request, make_folders, only_daemon, refuse_lost_ledger, take, unreadable
from thaud.domain import Trigger
from thaud.errors import StorageError, ThauError
from thaud.executor import run_step
from thaud.home import Home
from thaud.intake import Intake
from thaud.journal import StepRunner
from thaud.ledger import TRAIN_REQUESTED, Ledger
from thaud.logs import set_up_logging
from thaud.pausing import Voice, open_ledger
from thaud.pipeline import Pipeline
from thaud.projections import progress_was_deleted, project
from thaud.quarantine import resolve
from thaud.registrar import Registrar
from thaud.situation import due, situation_of
from thaud.sweep import sweep
from thaud.systemd import notify
from thaud.waiting import wait
from thaud.watching import Watch

AFTER_ERROR_S = 5.0
AFTER_STORAGE_S = 60.0
AFTER_NO_START_S = 600.0
LONG_S = 2.0
LONGEST_REST_S = 0.5
SIGNALS = (signal.SIGTERM, signal.SIGINT)
log = structlog.get_logger()


async def serve(home: Home, settings: Settings, step: StepRunner = run_step) -> None:
    """Be the daemon of a home until a signal comes.

    Raises HomeBusyError, HomeTooNewError or StorageError where it cannot begin. On a full disk it waits for room.
    """
    mounts.refuse_network(home.data)
    with only_daemon(home):
        make_folders(home)
        refuse_lost_ledger(home)
        set_up_logging(home)
        with closing(Voice(home, settings)) as voice, await open_ledger(home, voice) as ledger:
            sweep(home, ledger)
            await Daemon(home, settings, ledger, voice, step).live()


class Daemon:
    """The state of the loop: what woke it, what runs, when to look again."""

    loop: asyncio.AbstractEventLoop  # while it lives

    def __init__(
        self, home: Home, settings: Settings, ledger: Ledger, voice: Voice, step: StepRunner = run_step
    ) -> None:
        self.home = home
        self.settings = settings
        self.ledger = ledger
        self.voice, self.pauses = voice, voice.pauses
        self.intake = Intake(home, settings, ledger)
        self.intake.called = lambda: self.dirty
        self.pipeline = Pipeline(home, settings, ledger, step)
        self.wake, self.stopping, self.sync = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.registrar = Registrar(settings, ledger, self.sync, self.stopping)
        self.dirty = True
        self.train_requested = ledger.meta(TRAIN_REQUESTED) is not None
        self.projected = False
        self.reset_wanted = progress_was_deleted(home, ledger)
        self.watch = Watch(home, settings.queue, self.tell_loop)
        self.unreadable: set[str] = set()
        self.run: asyncio.Task[None] | None = None
        self.changed_at = self.scanned_at = time.monotonic()
        self.no_start_before = self.no_scan_before = 0.0

    async def live(self) -> None:
        """From start to shutdown."""
        self.loop = asyncio.get_running_loop()
        self.install_signals(self.loop)
        with self.pauses.around("projections", AFTER_ERROR_S):
            self.project_where_due()
        self.watch.start()  # before the first scan, so that nothing falls between
        try:
            await self.run_tasks()
        except* ThauError as group:
            raise group.exceptions[0] from None
        finally:
            await self.end_run()
            self.watch.stop()
            log.info("stopped")

    async def run_tasks(self) -> None:
        """Everything that goes on side by side; where one fails, all end."""

        def ask(request: Request) -> None:
            self.loop.call_soon_threadsafe(self.obey_or_pause, request)

        async with asyncio.TaskGroup() as group:
            if self.settings.api.enabled:
                group.create_task(serve_http(self.home, self.settings, ask, self.stopping))
            group.create_task(self.turn_until_stopped())
            group.create_task(self.registrar.keep_in_step())
            group.create_task(self.give_signs_of_life())

    async def end_run(self) -> None:
        """Kill the step under way; its run goes on from its last receipt on the next start."""
        if self.run is not None:
            self.run.cancel()
            await asyncio.wait([self.run])

    def tell_loop(self) -> None:
        """Called in the watch's thread."""
        self.loop.call_soon_threadsafe(self.hear)

    def hear(self) -> None:
        """The watcher called."""
        self.watch.acknowledge()
        self.mark_changed()

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

    async def turn_until_stopped(self) -> None:
        """The main loop. An unforeseen error is logged with its traceback, and the next turn comes a little later."""
        notify(systemd_environment()[0], "READY=1")
        log.info("ready", home=str(self.home.root), model=self.settings.family, age=self.ledger.age)
        while not self.stopping.is_set():
            self.wake.clear()
            try:
                await self.turn()
                await wait(self.wake, self.pause_s())
            except Exception:
                log.exception("turn_failed")
                self.dirty = True
                await wait(self.stopping, AFTER_ERROR_S)  # whatever wakes it, for it would fail again

    async def turn(self) -> None:
        """Obey, take in, retire, and start a run where one is due. What the disk refuses holds up nothing else."""
        if self.pauses.due("requests"):
            with self.pauses.around("requests", AFTER_ERROR_S):
                self.obey_requests()
        if self.pauses.due("projections"):
            with self.pauses.around("projections", AFTER_ERROR_S):
                self.project_where_due()
        if self.pauses.due("watching"):
            with self.pauses.around("watching", AFTER_ERROR_S):
                self.watch_where_due()
        if self.scan_due() and self.pauses.due("intake"):
            with self.pauses.around("intake", AFTER_ERROR_S):
                await self.take_in()
        if self.pauses.due("runs"):
            with self.pauses.around("runs", AFTER_ERROR_S):
                self.start_run_where_due()

    def scan_due(self) -> bool:
        """Whether to look into the drop-box now: after an event, for a file that settles, and by the clock."""
        now = time.monotonic()
        wanted = self.dirty or self.intake.waiting or now - self.scanned_at >= self.watch.how.every_s
        return wanted and now >= self.no_scan_before

    async def take_in(self) -> None:
        """Scan, and say which file intake is at where that takes long. Raises StorageError.

        Then rest for as long as a scan took, at most half a second, so that a burst of events is not a storm of scans.
        """
        began, self.scanned_at, self.dirty = time.monotonic(), time.monotonic(), False
        work = asyncio.ensure_future(self.intake.take_in(self.stopping.is_set))
        try:
            while not (await asyncio.wait([work], timeout=LONG_S))[0]:
                self.voice.say(reading=self.intake.reading)
            if work.result():
                self.changed_at = time.monotonic()
        except StorageError:
            self.dirty = True
            raise
        finally:
            work.cancel()
            self.voice.say(reading=None)
            self.no_scan_before = time.monotonic() + min(LONGEST_REST_S, time.monotonic() - began)

    def watch_where_due(self) -> None:
        """Watch what is there now, and scan it where it is new. Raises StorageError."""
        self.dirty = self.watch.renew_where_due() or self.dirty
        self.voice.say(watching=self.watch.how)

    def project_where_due(self) -> None:
        """Write the projections of what has changed. Raises StorageError, and a later turn tries again."""
        if self.reset_wanted:
            log.warning("age_reset", why="cognitive_progress.json was deleted")
            self.ledger.reset_age("cognitive_progress.json was deleted")
            self.reset_wanted = False
        if not self.projected:
            project(self.home, self.ledger, self.settings)
            self.projected = True

    def pause_s(self) -> float:
        """Until when nothing can become due unless something wakes the loop."""
        queue, now = self.settings.queue, time.monotonic()
        due = [self.scanned_at + self.watch.how.every_s]
        quiet_at = self.changed_at + queue.quiet_s
        due += [at for at in (quiet_at, self.no_start_before) if at > now]
        if self.intake.waiting:
            due.append(now + queue.settle_s)
        if self.dirty and self.pauses.due("intake"):
            due.append(self.no_scan_before)
        if (again_s := self.pauses.next_s()) is not None:
            due.append(now + again_s)
        return max(0.0, min(due) - now) + (0.001 if self.dirty else 0.01)

    def obey_requests(self) -> None:
        """Act on what lies in the folder of requests, and say once what is none. Raises StorageError."""
        for asked in take(self.home):
            self.obey(asked)
        found = set(unreadable(self.home))
        for name in sorted(found - self.unreadable):
            log.warning("request_not_read", file=str(self.home.control / name))
        self.unreadable = found

    def obey_or_pause(self, request: Request) -> None:
        """A request that came over HTTP: what the ledger refuses to remember is remembered here."""
        with self.pauses.around("requests", AFTER_ERROR_S):
            self.obey(Asked(request))

    def obey(self, asked: Asked) -> None:
        """Act on a request of the CLI or the HTTP door. Raises StorageError; asked again, it does no harm."""
        request = asked.request
        log.info("requested", request=str(request))
        if request is Request.TRAIN:
            self.train_requested = True
            self.no_start_before = 0.0
            self.pauses.end("runs")
            self.wake.set()
            self.ledger.set_meta(TRAIN_REQUESTED, self.ledger.now())
        elif request is Request.RESET:
            self.ledger.reset_age("requested")
            self.projected = False
        elif request in {Request.ROLLBACK, Request.PRUNE}:
            lifecycle.carry_out(self.ledger, self.settings, asked.values, log.info)
            self.projected = False
            self.sync.set()
        elif request is Request.SYNC:
            self.registrar.ask(asked.values)
        elif asked.resolution is not None:
            resolve(self.home, self.ledger, asked.resolution)
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
        quiet_for_s = time.monotonic() - self.changed_at
        found = situation_of(self.ledger, self.settings.family, quiet_for_s, requested=self.train_requested)
        trigger = due(found, self.settings)
        if self.train_requested and trigger is None:
            log.warning("nothing_to_train", age=self.ledger.age)
            self.ledger.forget_request("nothing_to_train", age=self.ledger.age)
        self.train_requested = False
        return trigger

    async def begin(self, trigger: Trigger) -> None:
        """Freeze a run and carry it out."""
        spec = await self.pipeline.freeze(trigger)
        await self.carry_out(spec.id)

    async def carry_out(self, run_id: str) -> None:
        """Take a run to its end; files that are all trained leave the queue, and the next turn projects."""
        await self.pipeline.finish(run_id)
        self.projected = False
        await self.intake.retire_trained()

    async def guard(self, work: Coroutine[Any, Any, None]) -> None:
        """Let nothing that happens to a run reach the loop: say it, and try again later."""
        try:
            await work
        except StorageError as error:
            self.pauses.begin("runs", error, AFTER_STORAGE_S)
            self.train_requested = self.train_requested or self.ledger.meta(TRAIN_REQUESTED) is not None
            self.note_not_started(str(error))
        except ThauError as error:
            log.error("run_not_started", reason=str(error))  # noqa: TRY400 - foreseen
            self.hold_runs(str(error))
        except Exception as error:
            log.exception("run_broken")
            self.give_up_run(f"unforeseen, see {self.home.service_log}: {error!r}")
        finally:
            self.run = None
            self.sync.set()
            self.wake.set()

    def hold_runs(self, reason: str) -> None:
        """No run for a while; who asked for one has the answer in the ledger, if it can be written."""
        self.no_start_before = time.monotonic() + AFTER_NO_START_S
        self.note_not_started(reason, answered=True)

    def note_not_started(self, reason: str, *, answered: bool = False) -> None:
        """Say in the ledger why no run began; with `answered` a request for one is forgotten."""
        note = self.ledger.forget_request if answered else self.ledger.note
        try:
            note("run_not_started", reason=reason)
        except StorageError:
            log.warning("not_noted", reason=reason)

    def give_up_run(self, reason: str) -> None:
        """A run that stumbled over what nobody foresaw would do so again: it ends, and a new one may begin."""
        self.hold_runs(reason)
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
