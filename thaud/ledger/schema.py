"""Tables and migrations. `PRAGMA user_version` counts the migrations applied; each runs once, in one transaction."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from thaud.errors import HomeError, HomeTooNewError, StorageError
from thaud.failpoints import reach
from thaud.ledger.arrivals import group_hash, key_of

MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT;

    -- One row for each file of the drop-box: what of it is committed.
    CREATE TABLE files (
        name TEXT PRIMARY KEY,
        position TEXT NOT NULL,
        finished INTEGER NOT NULL,
        retired_to TEXT,
        seen_at TEXT NOT NULL
    ) STRICT;

    CREATE TABLE examples (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        age INTEGER NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('taught', 'held_out')),
        group_key TEXT NOT NULL,
        grader TEXT,
        content TEXT NOT NULL,
        metadata TEXT NOT NULL,
        file TEXT NOT NULL,
        line INTEGER NOT NULL,
        received_at TEXT NOT NULL
    ) STRICT;
    CREATE INDEX examples_by_group ON examples (group_key, side);
    CREATE INDEX examples_by_age ON examples (side, age);

    -- Every place where an example was seen: a file is done when all its examples are.
    CREATE TABLE sightings (
        file TEXT NOT NULL,
        line INTEGER NOT NULL,
        example_seq INTEGER NOT NULL REFERENCES examples (seq),
        PRIMARY KEY (file, line)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE rejections (
        seq INTEGER PRIMARY KEY,
        file TEXT NOT NULL,
        line INTEGER NOT NULL,
        reason TEXT NOT NULL,
        raw TEXT NOT NULL,
        at TEXT NOT NULL,
        UNIQUE (file, line, raw)
    ) STRICT;

    CREATE TABLE runs (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        family TEXT NOT NULL,
        age INTEGER NOT NULL,
        state TEXT NOT NULL,
        trigger TEXT NOT NULL,
        spec TEXT NOT NULL,
        reasons TEXT NOT NULL DEFAULT '[]',
        report TEXT,
        created_at TEXT NOT NULL,
        changed_at TEXT NOT NULL
    ) STRICT;

    -- Intent and receipt of each step of a run.
    CREATE TABLE journal (
        run_id TEXT NOT NULL REFERENCES runs (id),
        step TEXT NOT NULL,
        intent_at TEXT NOT NULL,
        receipt_at TEXT,
        receipt TEXT,
        PRIMARY KEY (run_id, step)
    ) STRICT, WITHOUT ROWID;

    -- Which examples a family's runs tried, which promoted run first taught them, and which last could not use them.
    CREATE TABLE lessons (
        family TEXT NOT NULL,
        example_seq INTEGER NOT NULL REFERENCES examples (seq),
        tried_by TEXT NOT NULL REFERENCES runs (id),
        taught_by TEXT REFERENCES runs (id),
        set_aside_by TEXT REFERENCES runs (id),
        PRIMARY KEY (family, example_seq)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE answers (
        gguf_sha256 TEXT NOT NULL,
        example_id TEXT NOT NULL,
        age INTEGER NOT NULL,
        answer TEXT NOT NULL,
        score REAL NOT NULL,
        correct INTEGER NOT NULL,
        PRIMARY KEY (gguf_sha256, example_id)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE versions (
        family TEXT NOT NULL,
        n INTEGER NOT NULL,
        run_id TEXT NOT NULL UNIQUE REFERENCES runs (id),
        age INTEGER NOT NULL,
        gguf TEXT NOT NULL,
        gguf_sha256 TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        asked INTEGER NOT NULL,
        correct INTEGER NOT NULL,
        examples INTEGER NOT NULL,
        accepted_at TEXT NOT NULL,
        PRIMARY KEY (family, n)
    ) STRICT, WITHOUT ROWID;

    -- The champion of each family.
    CREATE TABLE aliases (
        family TEXT PRIMARY KEY,
        n INTEGER NOT NULL,
        moved_at TEXT NOT NULL
    ) STRICT;

    -- What each Ollama server is known to hold.
    CREATE TABLE registrations (
        host TEXT NOT NULL,
        name TEXT NOT NULL,
        state TEXT NOT NULL,
        detail TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (host, name)
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE events (
        seq INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        kind TEXT NOT NULL,
        detail TEXT NOT NULL
    ) STRICT;
    """,
    """
    -- A quarantined line that somebody corrected (`thau retry`) is no longer listed.
    ALTER TABLE rejections ADD COLUMN resolved_at TEXT;

    -- Examples are found by 16 bytes of their id: at a million rows the random entries of an index cost more than the
    -- rows, and these are a third as long as the text.
    CREATE TABLE new_examples (
        seq INTEGER PRIMARY KEY,
        id TEXT NOT NULL,
        key BLOB NOT NULL UNIQUE,
        age INTEGER NOT NULL,
        side TEXT NOT NULL CHECK (side IN ('taught', 'held_out')),
        group_key TEXT NOT NULL,
        grader TEXT,
        content TEXT NOT NULL,
        metadata TEXT NOT NULL,
        file TEXT NOT NULL,
        line INTEGER NOT NULL,
        received_at TEXT NOT NULL
    ) STRICT;
    INSERT INTO new_examples SELECT
        seq, id, key_of(id), age, side, group_key, grader, content, metadata, file, line, received_at FROM examples;
    DROP TABLE examples;
    ALTER TABLE new_examples RENAME TO examples;

    -- How many members of a group are on each side; `hash` is the first 8 bytes of the key's SHA-256.
    CREATE TABLE groups (
        hash INTEGER PRIMARY KEY,
        taught INTEGER NOT NULL,
        held_out INTEGER NOT NULL
    ) STRICT;
    INSERT INTO groups SELECT
        group_hash(group_key), count(*) FILTER (WHERE side = 'taught'), count(*) FILTER (WHERE side = 'held_out')
        FROM examples GROUP BY 1 ORDER BY 1;

    -- Counted in the transaction that changes what is counted, so that nobody counts a million rows to know.
    CREATE TABLE example_counts (
        age INTEGER NOT NULL,
        side TEXT NOT NULL,
        n INTEGER NOT NULL,
        first_at TEXT NOT NULL,
        PRIMARY KEY (age, side)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO example_counts SELECT age, side, count(*), min(received_at) FROM examples GROUP BY age, side;

    -- Of the taught side: what a run tried, what a promoted version knows, what waits for no run (known or set aside).
    CREATE TABLE lesson_counts (
        family TEXT NOT NULL,
        age INTEGER NOT NULL,
        tried INTEGER NOT NULL,
        taught INTEGER NOT NULL,
        settled INTEGER NOT NULL,
        PRIMARY KEY (family, age)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO lesson_counts SELECT
        family, age, count(*), count(taught_by), count(coalesce(taught_by, set_aside_by))
        FROM lessons JOIN examples ON examples.seq = lessons.example_seq WHERE side = 'taught' GROUP BY family, age;

    -- Where examples were seen, as stretches: `count` lines from `line` on hold as many examples from `example_seq` on.
    CREATE TABLE sighted (
        file TEXT NOT NULL,
        line INTEGER NOT NULL,
        example_seq INTEGER NOT NULL REFERENCES examples (seq),
        count INTEGER NOT NULL,
        PRIMARY KEY (file, line, example_seq)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO sighted SELECT file, min(line), min(example_seq), count(*) FROM (
        SELECT file, line, example_seq, line - example_seq AS apart,
            line - row_number() OVER (PARTITION BY file, line - example_seq ORDER BY line) AS island FROM sightings
        ) GROUP BY file, apart, island;
    DROP TABLE sightings;
    CREATE VIEW sightings (file, line, example_seq) AS
        SELECT sighted.file, sighted.line + examples.seq - example_seq, examples.seq FROM sighted
        JOIN examples ON examples.seq BETWEEN example_seq AND example_seq + count - 1;

    -- A version's file is known from the ledger's folder on, so that a home may be moved.
    UPDATE versions SET gguf = 'versions/' || family || '-v' || n || '/model.gguf'
        WHERE gguf LIKE '%/versions/' || family || '-v' || n || '/model.gguf';
    """,
    """
    -- Which examples a run names, as JSON, apart from the rest of its spec: lists of runs are looked at all the time.
    CREATE TABLE run_ids (
        run_id TEXT NOT NULL UNIQUE REFERENCES runs (id),
        example_ids TEXT NOT NULL,
        exam_ids TEXT NOT NULL,
        recall_ids TEXT NOT NULL
    ) STRICT;
    INSERT INTO run_ids SELECT id, coalesce(json_extract(spec, '$.example_ids'), '[]'),
        coalesce(json_extract(spec, '$.exam_ids'), '[]'), coalesce(json_extract(spec, '$.recall_ids'), '[]')
        FROM runs WHERE json_valid(spec);
    UPDATE runs SET spec = json_remove(spec, '$.example_ids', '$.exam_ids', '$.recall_ids') WHERE json_valid(spec);
    """,
    """
    -- What a version's file is, the base under an adapter, and since when the file is given up for the room.
    ALTER TABLE versions ADD COLUMN kind TEXT NOT NULL DEFAULT 'f16';
    ALTER TABLE versions ADD COLUMN base_gguf TEXT;
    ALTER TABLE versions ADD COLUMN base_sha256 TEXT;
    ALTER TABLE versions ADD COLUMN pruned_at TEXT;
    UPDATE versions SET kind = coalesce(
        (SELECT json_extract(spec, '$.export_kind') FROM runs WHERE runs.id = run_id AND json_valid(spec)), 'f16');

    -- What a server showed of a model when it was made there: the file it runs, what it can do, how it renders (JSON).
    ALTER TABLE registrations ADD COLUMN report TEXT;
    """,
)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a ledger up to date. Raises HomeTooNewError for one from a newer THAU.

    Foreign keys are off until the end, as SQLite wants it where a table is made again; the caller turns them on.
    """
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    refuse_newer(found, path)
    connection.execute("PRAGMA foreign_keys=OFF")
    add_functions(connection)
    for number, script in enumerate(MIGRATIONS[found:], found + 1):
        try:
            reach("ledger.migrate.before")
            connection.executescript(f"BEGIN IMMEDIATE;{script};PRAGMA user_version={number};COMMIT;")
            reach("ledger.migrate.after")
        except (sqlite3.Error, OSError) as error:
            raise StorageError(f"cannot migrate {path} to schema {number}: {error}") from error
    if found < len(MIGRATIONS):
        with suppress(sqlite3.Error):  # no room yet: a later one will do
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log is as large as the ledger by now


def is_older(path: Path) -> bool:
    """Whether a ledger is there that will be migrated when the writer opens it, which takes a minute a million rows."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            (found,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error:
        return False  # opening it says why
    return bool(0 < found < len(MIGRATIONS))


def add_functions(connection: sqlite3.Connection) -> None:
    """The short keys, for SQL that makes or checks them. No index or view uses them, so that any SQLite reads on."""
    connection.create_function("key_of", 1, key_of, deterministic=True)
    connection.create_function("group_hash", 1, group_hash, deterministic=True)


def refuse_older(found: int, path: Path) -> None:
    """Raise HomeError where only the daemon, who migrates it, may read the schema."""
    if found < len(MIGRATIONS):
        raise HomeError(
            f"{path} has schema {found}, this THAU needs {len(MIGRATIONS)}: start the service once (`thau start`), or"
            " run `thau doctor --fix`, and it is brought up to date; where the service has just begun, wait for it"
        )


def cannot_open(path: Path, error: sqlite3.Error) -> StorageError:
    """What SQLite said of a ledger, and what to do: OperationalError is about the place, the others about the file."""
    if isinstance(error, sqlite3.OperationalError):
        return StorageError(f"cannot open {path}: {error}; see df and ls -l {path}")
    return StorageError(f"cannot open {path}: {error}; `thau doctor` says what is damaged and what to do")


def refuse_newer(found: int, path: Path) -> None:
    """Raise HomeTooNewError where the schema is newer than this program."""
    if found > len(MIGRATIONS):
        raise HomeTooNewError(
            f"{path} has schema {found}, this THAU knows {len(MIGRATIONS)}: upgrade THAU (a newer one wrote this home)"
        )
