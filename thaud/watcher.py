"""Events of the file system as hints: something changed in a watched folder, so look. Owns watchdog; refuses to decide.

An event never says what happened: the callback only marks the folder as worth a scan. The watch is renewed where a
folder was deleted and made again, or where its emitter died (watchdog's observer goes on without it and says nothing).
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from watchdog.events import (
    DirDeletedEvent,
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from thaud.errors import StorageError

CHANGES: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileClosedEvent,
    FileDeletedEvent,
    DirDeletedEvent,
]


class Watcher(FileSystemEventHandler):
    """Watches folders (not what is below them) and calls back, from a thread of its own, on any change."""

    def __init__(self, folders: Sequence[Path], on_change: Callable[[], None]) -> None:
        self.folders = tuple(folders)
        self.on_change = on_change
        self.observer = Observer()
        self.inodes: tuple[int, ...] = ()

    def on_any_event(self, event: FileSystemEvent) -> None:  # noqa: ARG002 - any event means the same
        """Called by watchdog."""
        self.on_change()

    def start(self) -> None:
        """Begin to watch. Raises StorageError where a folder is missing or the system has no watches left."""
        self.observer = Observer()
        try:
            for folder in self.folders:
                folder.mkdir(parents=True, exist_ok=True)
                self.observer.schedule(self, str(folder), event_filter=CHANGES)
            self.inodes = tuple(folder.stat().st_ino for folder in self.folders)
            self.observer.start()
        except OSError as error:
            raise StorageError(f"cannot watch {', '.join(map(str, self.folders))}: {error.strerror}") from error

    def stop(self) -> None:
        """End the threads."""
        if self.observer.is_alive():
            self.observer.stop()
            self.observer.join()

    @property
    def healthy(self) -> bool:
        """Whether every folder is still the one that is watched, by a thread that lives."""
        try:
            same = self.inodes == tuple(folder.stat().st_ino for folder in self.folders)
        except OSError:
            return False
        return same and self.observer.is_alive() and all(emitter.is_alive() for emitter in self.observer.emitters)

    def renew(self) -> None:
        """Watch again, on folders made anew where they are gone. Raises StorageError."""
        self.stop()
        self.start()
