"""The ledger: SQLite, the only truth. schema.py (tables, migrations), reader.py (queries), writer.py (transactions)."""

from thaud.ledger.reader import FileRow, LedgerReader, RunRow
from thaud.ledger.writer import Ledger, NewExample, NewFile, NewRejection

__all__ = ["FileRow", "Ledger", "LedgerReader", "NewExample", "NewFile", "NewRejection", "RunRow"]
