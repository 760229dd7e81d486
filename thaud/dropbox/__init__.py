"""The drop-box: the file system side of the intake. Bad files and bad lines are values; StorageError is for folders.

Owns scanning, reading in bounded pieces, quarantine and moving; refuses SQL, watching and deciding what is trained.

    files.py     which files there are
    reading.py   one file from a committed position
    writing.py   new files in, rejected lines beside, trained files out
"""

from thaud.dropbox.files import Ignored, QueueFile, Scan, scan
from thaud.dropbox.reading import Batch, Position, Unread, read_batch
from thaud.dropbox.writing import Quarantined, append_rejections, quarantine_path, retire, write_examples

__all__ = [
    "Batch",
    "Ignored",
    "Position",
    "Quarantined",
    "QueueFile",
    "Scan",
    "Unread",
    "append_rejections",
    "quarantine_path",
    "read_batch",
    "retire",
    "scan",
    "write_examples",
]
