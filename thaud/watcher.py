"""Events of the file system as hints: something changed in a watched folder, so look. Owns watchdog; refuses to decide.

An event never says what happened: the callback only marks the folder as worth a scan. Used is watchdog's reader of
inotify itself, not its observer: that one holds back what follows a move for half a second, drops what was waiting when
the kernel's queue overflows without telling its handlers, and goes on as if nothing had happened when an emitter dies.
"""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

from thaud.errors import StorageError, WatchLimitError

CHANGES = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_MOVED_TO
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_ATTRIB  # a file that may be read from now on
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
)
LIMITS = {
    errno.EMFILE: "fs.inotify.max_user_instances",
    errno.ENOSPC: "fs.inotify.max_user_watches",
    errno.ENOMEM: "its memory",
}
Identity = tuple[int, int]


class Watcher:
    """Watches folders (not what is below them) and calls back, from a thread of its own, on any change.

    After a call there is no other until `acknowledge`, so that a burst of events is one call.
    """

    def __init__(self, folders: Sequence[Path], on_change: Callable[[], None]) -> None:
        self.folders = tuple(folders)
        self.on_change = on_change
        self.inotify: InotifyFD | None = None
        self.identities: tuple[Identity, ...] = ()
        self.lost = self.told = False

    # What inotify's thread calls (watchdog's WatchCallback)

    def on_event(self, event: InotifyEvent) -> None:  # noqa: ARG002 - any event means the same
        """Something changed in a folder, or the folder itself."""
        self.tell()

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:  # noqa: ARG002 - one that is gone is one too many
        """A folder was removed, or unmounted."""
        self.lost = True
        self.tell()

    def on_queue_overflow(self) -> None:
        """The kernel dropped events."""
        self.tell()

    def tell(self) -> None:
        """Call back, unless that was done already and nobody has looked since."""
        if self.inotify is not None and not self.told:
            self.told = True
            self.on_change()

    def acknowledge(self) -> None:
        """A scan that begins after this sees everything told so far."""
        self.told = False

    # What the daemon calls

    def start(self) -> None:
        """Begin to watch. Raises StorageError where a folder is missing; WatchLimitError at the system's limits."""
        self.lost = self.told = False
        try:
            for folder in self.folders:
                folder.mkdir(parents=True, exist_ok=True)
            self.inotify = InotifyFD()
            self.inotify.start()
            for folder in self.folders:
                self.add(self.inotify, folder)
            self.identities = self.looked_up()
        except OSError as error:
            self.stop()
            raise self.refusal(error) from error

    def add(self, inotify: InotifyFD, folder: Path) -> None:
        """Watch one folder. Raises OSError."""
        if inotify.add_callback(bytes(folder), CHANGES, self, CallbackId(id(self))) == -1:
            raise PermissionError(errno.EACCES, "it may not be read", str(folder))

    def refusal(self, error: OSError) -> StorageError:
        """What kept a folder from being watched, in our words."""
        names = ", ".join(map(str, self.folders))
        if error.filename is None and (limit := LIMITS.get(error.errno or 0)):
            return WatchLimitError(f"cannot watch {names}: {limit} is used up; raise it with sysctl")
        where = error.filename or names
        return StorageError(f"cannot watch {where}: {error.strerror}; see ls -ld {where}, and whether a link is broken")

    def stop(self) -> None:
        """End the thread."""
        inotify, self.inotify = self.inotify, None
        if inotify is not None and inotify.is_alive():
            inotify.stop()
            inotify.join()

    def looked_up(self) -> tuple[Identity, ...]:
        """Device and inode of each folder; what is mounted over one has others. Raises OSError."""
        return tuple((seen.st_dev, seen.st_ino) for seen in (folder.stat() for folder in self.folders))

    @property
    def healthy(self) -> bool:
        """Whether every folder is still the one that is watched, by a thread that lives."""
        if self.lost or self.inotify is None or not self.inotify.is_alive():
            return False
        try:
            return self.identities == self.looked_up()
        except OSError:
            return False

    def renew(self) -> None:
        """Watch again, on folders made anew where they are gone. Raises StorageError, WatchLimitError."""
        self.stop()
        self.start()
