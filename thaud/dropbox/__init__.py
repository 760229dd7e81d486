"""The drop-box: the file system side of the intake. Bad files and bad lines are values; StorageError is for folders.

Owns scanning, reading in bounded pieces, quarantine and moving; refuses SQL, watching and deciding what is trained.

    files.py       which files there are
    position.py    how far a file is committed, and whether it still holds that
    lines.py       bytes -> lines -> items
    compressed.py  .gz and .zst -> bytes
    reading.py     one file from a committed position
    writing.py     new files in, rejected lines beside
    retiring.py    trained files out
"""

from thaud.dropbox.files import Ignored, QueueFile, Scan, counts_as_whole, scan
from thaud.dropbox.position import Position
from thaud.dropbox.reading import Batch, Unread, batches
from thaud.dropbox.retiring import reclaim, retire, written_since
from thaud.dropbox.writing import Quarantined, append_rejections, quarantine_path, write_examples

__all__ = [
    "Batch",
    "Ignored",
    "Position",
    "Quarantined",
    "QueueFile",
    "Scan",
    "Unread",
    "append_rejections",
    "batches",
    "counts_as_whole",
    "quarantine_path",
    "reclaim",
    "retire",
    "scan",
    "write_examples",
    "written_since",
]
