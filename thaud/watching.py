"""The watch over the drop-box and the folder of requests: events where the kernel sees every change, else polling.

Owns the choice between the two and the renewal of a watch that is lost; refuses to scan (the daemon's).
"""

import time
from collections.abc import Callable

import structlog

from thaud import mounts
from thaud.config import Queue
from thaud.daemon_state import Watching
from thaud.errors import WatchLimitError
from thaud.home import Home
from thaud.watcher import Watcher

log = structlog.get_logger()


def how_to_watch(queue: Queue, kind: str) -> Watching:
    """Events, or a scan every `poll_s` where the settings say so or another machine may write unseen.

    `kind`: the file system of the drop-box.
    """
    if queue.watch == "poll":
        return Watching("poll", queue.poll_s, 'queue.watch = "poll"')
    if queue.watch == "auto" and mounts.is_network(kind):
        return Watching("poll", queue.poll_s, f"the drop-box lies on a network file system ({kind})")
    return Watching("events", queue.rescan_s)


class Watch:
    """Watches a home. `on_change` is called from a thread, and not again before `acknowledge`."""

    def __init__(self, home: Home, queue: Queue, on_change: Callable[[], None]) -> None:
        self.home = home
        self.queue = queue
        self.on_change = on_change
        self.watcher = Watcher((), on_change)
        self.how = how_to_watch(queue, mounts.UNKNOWN)
        self.limited = False
        self.begun_at = 0.0

    def start(self) -> None:
        """Begin, or begin again, to watch what is there now. Raises StorageError.

        Where the system has no inotify watches left, everything is polled, and events are tried again later.
        """
        self.stop()
        before, self.begun_at, self.limited = self.how, time.monotonic(), False
        self.how = how_to_watch(self.queue, mounts.kind_at(self.home.queue))
        polled = self.how.by == "poll"
        self.watcher = Watcher((self.home.control,) if polled else (self.home.queue, self.home.control), self.on_change)
        try:
            self.watcher.start()
        except WatchLimitError as error:
            self.how, self.limited = Watching("poll", self.queue.poll_s, str(error)), True
        if self.how.by == "poll" and self.how != before:
            log.warning("polling", every_s=self.how.every_s, why=self.how.why)

    def renew_where_due(self) -> bool:
        """Begin again where a folder is another one or the watch died; whether that was so. Raises StorageError."""
        rested = time.monotonic() - self.begun_at >= self.queue.rescan_s
        if self.watcher.healthy or (self.limited and not rested):
            return False
        self.start()
        log.warning("watch_renewed", folder=str(self.home.queue))
        return True

    def acknowledge(self) -> None:
        """A scan that begins after this sees everything told so far."""
        self.watcher.acknowledge()

    def stop(self) -> None:
        """End the thread."""
        self.watcher.stop()
