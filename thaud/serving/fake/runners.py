"""The loaded models: which runs, how it was started, and when it ends by itself.

Runners are known by their file, and whether one can be used for a request is asked of its context and its adapter only,
not of how it renders templates: the real server's bug, of which the stale runner comes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from thaud.serving.fake.protocol import Name
from thaud.serving.fake.store import Manifest

FOREVER = timedelta(days=365 * 290)
KEEP_ALIVE = timedelta(minutes=5)


@dataclass
class Runner:
    """A loaded model file. `native` stays as it was at loading, whatever the model has become."""

    name: Name
    manifest: Manifest
    config: dict[str, Any]
    native: bool
    context: int
    expires: datetime


def utc_now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


@dataclass
class Runners:
    """All runners by the digest of their file. `clock` says when it is."""

    clock: Callable[[], datetime] = utc_now
    running: dict[str, Runner] = field(default_factory=dict)

    def live(self) -> list[Runner]:
        """Those that have not ended, the one that will live longest first."""
        now = self.clock()
        self.running = {blob: runner for blob, runner in self.running.items() if runner.expires > now}
        return sorted(self.running.values(), key=lambda runner: runner.expires, reverse=True)

    def find(self, manifest: Manifest, context: int) -> Runner | None:
        """The runner that would take a request, however it renders."""
        self.live()
        runner = self.running.get(manifest.layer("model") or "")
        fits = runner and runner.context == context and runner.manifest.all("adapter") == manifest.all("adapter")
        return runner if fits else None

    def start(self, name: Name, manifest: Manifest, config: dict[str, Any], *, native: bool, context: int) -> Runner:
        """Load a model in the place of whatever runs its file."""
        runner = Runner(name, manifest, config, native, context, self.clock() + KEEP_ALIVE)
        self.running[manifest.layer("model") or ""] = runner
        return runner

    def stop(self, manifest: Manifest) -> None:
        """End the runner of a model's file, if there is one."""
        self.running.pop(manifest.layer("model") or "", None)

    def keep(self, runner: Runner, seconds: float | None) -> None:
        """A request was answered: the time to live begins anew. Negative: for ever; None: five minutes."""
        lasting = KEEP_ALIVE if seconds is None else FOREVER if seconds < 0 else timedelta(seconds=seconds)
        runner.expires = self.clock() + lasting


def moment(when: datetime) -> str:
    """RFC 3339, UTC."""
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def row_of(runner: Runner, details: Any) -> dict[str, Any]:
    """One line of /api/ps."""
    return {
        "name": runner.name.shown,
        "model": runner.name.shown,
        "size": runner.manifest.size,
        "digest": runner.manifest.digest,
        "details": details,
        "expires_at": moment(runner.expires),
        "size_vram": 0,
        "context_length": runner.context,
    }
