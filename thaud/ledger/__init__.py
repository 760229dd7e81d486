"""The ledger: SQLite, the only truth. schema.py (tables, migrations), reader.py (queries), rows.py (their values),
writer.py (transactions), arrivals.py (the rows of intake's transaction), quarantined.py (questions about rejected
lines), lineages.py (what versions were taught, and at which pace), whereabouts.py (where an example went, and what a
version was taught, line by line), soundness.py (questions about the ledger itself).
"""

from thaud.ledger.arrivals import NewExample, NewFile, NewRejection
from thaud.ledger.quarantined import Rejected, RejectedRow
from thaud.ledger.reader import LedgerReader
from thaud.ledger.rows import FileRow, RunIds, RunRow
from thaud.ledger.schema import is_older
from thaud.ledger.writer import TRAIN_REQUESTED, Ledger

__all__ = [
    "TRAIN_REQUESTED",
    "FileRow",
    "Ledger",
    "LedgerReader",
    "NewExample",
    "NewFile",
    "NewRejection",
    "Rejected",
    "RejectedRow",
    "RunIds",
    "RunRow",
    "is_older",
]
