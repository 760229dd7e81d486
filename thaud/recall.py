"""What the user has taught and said, to be found again: a full-text index of the ledger's examples and of past chats.

Owns the index, a database of its own that may be deleted at any time: it is made again from what it indexes, the newest
first and only for as long as a search may take, so that a large ledger is indexed over several searches. Refuses to
write anything else. Several processes may use it at once; each takes in what is new in one short transaction.

Only questions and answers are indexed: what tools said in a chat is not the user's. Held-out examples are left out: an
answer that was found would be taught, and the exam would ask for it.
"""

import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from thaud.domain import QueuedExample, Side
from thaud.durable import remove
from thaud.errors import ThauError, ToolError
from thaud.ledger import LedgerReader
from tools.outside import Remembered

SCHEMA = 1
TABLES = (
    "DROP TABLE IF EXISTS words",
    "DROP TABLE IF EXISTS notes",
    "DROP TABLE IF EXISTS sources",
    """CREATE TABLE notes (
        seq INTEGER PRIMARY KEY, source TEXT NOT NULL, place TEXT NOT NULL, at TEXT NOT NULL, text TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX notes_by_source ON notes (source)",
    """CREATE VIRTUAL TABLE words USING fts5(
        text, content='notes', content_rowid='seq', tokenize='unicode61 remove_diacritics 2')""",
    """CREATE TRIGGER note_came AFTER INSERT ON notes BEGIN
        INSERT INTO words (rowid, text) VALUES (new.seq, new.text);
    END""",
    """CREATE TRIGGER note_went AFTER DELETE ON notes BEGIN
        INSERT INTO words (words, rowid, text) VALUES ('delete', old.seq, old.text);
    END""",
    # How far each source is indexed, as JSON: of the ledger the stretch of examples, of a chat the bytes.
    "CREATE TABLE sources (name TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID",
    f"PRAGMA user_version={SCHEMA}",
)
LEDGER = "ledger"
MOST_WORDS = 32
LEAST_STEM = 4
MOST_INDEXED_CHARACTERS = 8000
MOST_TOLD_CHARACTERS = 600
EXAMPLES_AT_ONCE = 1000
WORD = re.compile(r"\w+")
PASSING = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN"})
SEARCH = """
    SELECT place, at, CASE WHEN length(notes.text) <= ?2 THEN notes.text
        ELSE snippet(words, 0, '', '', ' … ', 48) END AS told
    FROM words JOIN notes ON notes.seq = words.rowid WHERE words MATCH ?1 ORDER BY rank LIMIT ?3
"""


@dataclass(frozen=True, slots=True)
class Note:
    """Something to be found. `place` names it for people, `at` is ISO 8601."""

    place: str
    at: str
    text: str


@dataclass(frozen=True, slots=True)
class Recall:
    """The memory of a home (tools/outside.py): its index, its ledger and its transcripts, any of which may be missing.

    budget_s: how long a search may first take in what is new. busy_s: how long it waits for another process.
    """

    index: Path
    ledger: Path
    transcripts: Path
    budget_s: float = 2.0
    clock: Callable[[], float] = monotonic
    busy_s: float = 2.0

    def search(self, query: str, limit: int) -> Sequence[Remembered]:
        """The best matches first (bm25), by any of the words, whatever their accents; of long ones a part.

        Raises ToolError where the index can neither be read nor made again.
        """
        try:
            return self._search(query, limit)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorname != "SQLITE_ERROR":  # no room, no right, somebody in the way
                raise ToolError(f"the memory {self.index} cannot be read: {error}") from error
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError):
            pass
        try:  # damaged, or without its tables: what it held lies elsewhere
            discard(self.index)
            return self._search(query, limit)
        except (sqlite3.Error, OSError) as error:
            raise ToolError(f"the memory {self.index} cannot be made again: {error}") from error

    def update(self) -> int:
        """Take in what is new, for `budget_s` at most; how many examples are still to come. Raises sqlite3.Error."""
        with closing(connect(self.index, self.busy_s)) as connection:
            return self._update(connection)

    def _search(self, query: str, limit: int) -> list[Remembered]:
        with closing(connect(self.index, self.busy_s)) as connection:
            try:
                self._update(connection)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorname not in PASSING:  # another is at it, or there is no room: search what there is
                    raise
            terms = read_query(query)
            rows = connection.execute(SEARCH, (terms, MOST_TOLD_CHARACTERS, limit)) if terms else ()
            return [Remembered(*row) for row in rows]

    def _update(self, connection: sqlite3.Connection) -> int:
        end = self.clock() + self.budget_s
        make_tables(connection)
        self._take_chats(connection, end)
        try:
            with LedgerReader.open(self.ledger) as ledger:
                return self._take_examples(connection, ledger, end)
        except ThauError:
            return 0  # no ledger, or one that the daemon has yet to bring up to date: chats are found without it

    def _take_examples(self, connection: sqlite3.Connection, ledger: LedgerReader, end: float) -> int:
        """Index what came since, then what came before, a transaction for each thousand."""
        while True:
            with transaction(connection):
                stretch = self._stretch(connection, ledger)
                newer = ledger.neighbours(stretch["high"], EXAMPLES_AT_ONCE, newer=True)
                rows = newer or ledger.neighbours(stretch["low"], EXAMPLES_AT_ONCE, newer=False)
                put(connection, LEDGER, (note_of(each, at) for _, at, each in rows if each.side is Side.TAUGHT))
                if newer:
                    stretch |= {"high": newer[-1][0], "mark": newer[-1][2].id}
                elif rows:
                    stretch["low"] = rows[-1][0] - 1
                keep(connection, LEDGER, stretch)
            if not rows or self.clock() > end:
                return int(stretch["low"])

    def _stretch(self, connection: sqlite3.Connection, ledger: LedgerReader) -> dict[str, Any]:
        """Which examples are indexed: from `low` (not itself) to `high`, whose id is `mark`; none of another ledger."""
        known = states(connection, LEDGER).get(LEDGER)
        if known and [each.id for _, _, each in ledger.neighbours(known["high"], 1, newer=False)] == [known["mark"]]:
            return known
        forget(connection, LEDGER)
        last = ledger.neighbours(ledger.last_number(), 1, newer=False)
        seq, mark = (last[0][0], last[0][2].id) if last else (0, "")
        return {"low": seq, "high": seq, "mark": mark}

    def _take_chats(self, connection: sqlite3.Connection, end: float) -> None:
        """Index the new ends of transcripts, newest first, and forget those that were deleted."""
        present = {path.name: path for path in sorted(self.transcripts.glob("*.jsonl"), reverse=True)}
        known = states(connection)
        changed = [path for name, path in present.items() if size_of(path) != known.get(name, {}).get("size")]
        gone = [name for name in known if name != LEDGER and name not in present]
        if not (changed or gone):
            return
        with transaction(connection):
            for name in gone:
                forget(connection, name)
            for path in changed:
                if self.clock() > end:
                    return
                take_chat(connection, path)


def take_chat(connection: sqlite3.Connection, path: Path) -> None:
    """Index what a transcript has had added; one that was written anew is read from its beginning."""
    size = size_of(path)
    position = states(connection, path.name).get(path.name, {}).get("position", 0)
    if size < position:
        forget(connection, path.name)
        position = 0
    try:
        with path.open("rb") as stream:
            stream.seek(position)
            notes, position = read_exchanges(stream, f"chat {path.stem}", position)
    except OSError:
        return  # it was deleted just now, which the next search notices
    put(connection, path.name, notes)
    keep(connection, path.name, {"position": position, "size": size})


def read_exchanges(lines: Iterable[bytes], place: str, position: int) -> tuple[list[Note], int]:
    """The questions and answers of a transcript's lines (agent/transcript.py), and how far they are whole, in bytes."""
    notes: list[Note] = []
    question, done = "", position
    for line in lines:
        position += len(line)
        row = read_line(line)
        if row.get("event") == "message" and row["message"]["role"] == "user":
            question = question or str(row["message"]["content"])
        elif row.get("event") == "end" and line.endswith(b"\n"):
            text = f"{question}\n{row.get('text') or ''}".strip()
            notes += [Note(place, str(row.get("at", "")), text)] if text else []
            question, done = "", position
    return notes, done


def read_line(line: bytes) -> dict[str, Any]:
    """A transcript's line; empty where it is none of ours."""
    try:
        row = json.loads(line)
        return {**row, "message": {"role": "", "content": "", **row.get("message", {})}}
    except (ValueError, TypeError, AttributeError, RecursionError):
        return {}


def note_of(queued: QueuedExample, at: str) -> Note:
    """An example's questions and answers, without system prompts, calls and results."""
    said = (turn.content for turn in queued.example.messages if turn.role in {"user", "assistant"})
    return Note(f"example {queued.id[:12]}", at, "\n".join(filter(None, said)))


def read_query(text: str) -> str:
    """Any text as a query of FTS5: one of its words, longer ones as beginnings. Empty where it has no words."""
    words = list(dict.fromkeys(word.lower() for word in WORD.findall(text)))[:MOST_WORDS]
    return " OR ".join(f'"{word}"*' if len(word) >= LEAST_STEM else f'"{word}"' for word in words)


def connect(path: Path, busy_s: float) -> sqlite3.Connection:
    """The index, made where it is missing, readable by the user alone. Raises sqlite3.Error."""
    with suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA secure_delete=ON")
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname not in PASSING:
            raise
    return connection


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables where they are missing or of another THAU. Raises sqlite3.Error."""
    if connection.execute("PRAGMA user_version").fetchone() == (SCHEMA,):
        return
    with transaction(connection):
        if connection.execute("PRAGMA user_version").fetchone() != (SCHEMA,):  # another may have been quicker
            for statement in TABLES:
                connection.execute(statement)


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing, and one writer at a time."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def states(connection: sqlite3.Connection, name: str | None = None) -> dict[str, dict[str, Any]]:
    """How far sources are indexed, one or all."""
    rows = connection.execute("SELECT name, state FROM sources WHERE ?1 IS NULL OR name = ?1", (name,))
    return {source: json.loads(state) for source, state in rows}


def keep(connection: sqlite3.Connection, name: str, state: Mapping[str, Any]) -> None:
    """Note how far a source is indexed."""
    connection.execute("INSERT OR REPLACE INTO sources (name, state) VALUES (?, ?)", (name, json.dumps(state)))


def put(connection: sqlite3.Connection, name: str, notes: Iterable[Note]) -> None:
    """Add what a source holds."""
    rows = ((name, note.place, note.at, storable(note.text[:MOST_INDEXED_CHARACTERS])) for note in notes)
    connection.executemany("INSERT INTO notes (source, place, at, text) VALUES (?, ?, ?, ?)", rows)


def storable(text: str) -> str:
    """A text without halves of characters, which a terminal can send and SQLite does not take."""
    return text.encode(errors="replace").decode()


def forget(connection: sqlite3.Connection, name: str) -> None:
    """Take out what a source held."""
    connection.execute("DELETE FROM notes WHERE source = ?", (name,))
    connection.execute("DELETE FROM sources WHERE name = ?", (name,))


def size_of(path: Path) -> int:
    """Bytes of a file; 0 where it is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def discard(index: Path) -> None:
    """Take the index away, with what SQLite keeps beside it."""
    for path in (index, index.with_name(f"{index.name}-wal"), index.with_name(f"{index.name}-shm")):
        remove(path)
