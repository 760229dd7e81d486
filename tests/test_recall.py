"""The memory on a real SQLite file, a real ledger and transcripts."""

import json
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from thaud.domain import Example, Message, Side
from thaud.errors import ToolError
from thaud.ledger import Ledger, NewExample, NewFile
from thaud.recall import Recall
from tools.base import Context
from tools.recall import TOOL
from tools.workspace import Workspace

Teach = Callable[..., None]


@pytest.fixture
def memory(tmp_path: Path) -> Recall:
    return Recall(tmp_path / "recall.sqlite3", tmp_path / "ledger.sqlite3", tmp_path / "transcripts")


def teach(memory: Recall, *pairs: tuple[str, str], name: str = "a.jsonl", side: Side = Side.TAUGHT) -> None:
    """Put examples into the ledger."""
    rows = []
    for line, (asked, told) in enumerate(pairs, start=1):
        turns = (Message("system", "hush"), Message("user", asked), Message("assistant", told))
        example = Example(turns)
        rows.append(NewExample(example, example.id, 0, side, f"prompt:{asked}", line))
    with Ledger.open(memory.ledger, lambda: datetime(2026, 1, 2, tzinfo=UTC)) as ledger:
        ledger.take_in(NewFile(name, "{}", True, tuple(rows), [(row.line, row.id) for row in rows], ()))


def chat(memory: Recall, stem: str, *pairs: tuple[str, str], end: bool = True) -> Path:
    """Add exchanges to a transcript."""
    path = memory.transcripts / f"{stem}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with path.open("a", encoding="utf-8") as sink:
        for asked, told in pairs:
            rows = [{"event": "message", "message": {"role": "user", "content": asked}}]
            rows += [{"event": "result", "tool": "web_search", "text": "spam from the web"}]
            rows += [{"event": "message", "message": {"role": "tool", "content": "spam from the web"}}]
            rows += [{"event": "end", "ending": "answered", "text": told}] if end else []
            sink.writelines(json.dumps({"at": "2026-03-01T12:00:00.000+00:00", **row}) + "\n" for row in rows)
    return path


def found(memory: Recall, query: str, limit: int = 10) -> list[str]:
    return [each.text for each in memory.search(query, limit)]


def test_examples_and_chats_are_found(memory: Recall) -> None:
    """What was taught and what was said comes back with where and when; system prompts and tools' words do not."""
    teach(memory, ("¿Cómo se llama mi gata?", "Nube"), ("¿Capital de Perú?", "Lima"))
    chat(memory, "20260301T123000Z-ab", ("Plan a trip to Lima", "Fly in May."))
    (example,) = memory.search("gata", 5)
    assert example.text == "¿Cómo se llama mi gata?\nNube"
    assert example.where.startswith("example ")
    assert example.when == "2026-01-02T00:00:00.000+00:00"
    assert {each.where.split()[0] for each in memory.search("lima", 5)} == {"example", "chat"}
    assert found(memory, "spam") == found(memory, "hush") == []


def test_accents_and_case_do_not_matter(memory: Recall) -> None:
    """Words are found however they are written, longer ones by their beginning."""
    teach(memory, ("¿Dónde está el BALCÓN?", "En Málaga"))
    for query in ("balcon", "Balcón", "MALAGA", "málag", "dónde", "el balcón de málaga"):
        assert len(found(memory, query)) == 1, query
    assert found(memory, "balcx") == []
    teach(memory, ("Wo ist die große Straße?", "Dort"), name="b.jsonl")
    for query in ("Straße", "STRASSE Straße", "große"):
        assert len(found(memory, query)) == 1, query


def test_what_the_exam_asks_is_not_found(memory: Recall) -> None:
    """Held-out examples stay out: their answers would come back as lessons. Those beside them are found."""
    teach(memory, ("river of Lima", "Rímac"), side=Side.HELD_OUT)
    teach(memory, ("river of Paris", "Seine"), name="b.jsonl")
    assert found(memory, "river") == ["river of Paris\nSeine"]
    assert memory.update() == 0


def test_the_best_come_first_and_no_more_than_asked(memory: Recall) -> None:
    """A text with more of the rarer words is before one with fewer."""
    teach(memory, *((f"tea number {number}", "tea") for number in range(9)), ("green tea from Uji", "matcha"))
    assert found(memory, "green tea Uji", 3)[0].startswith("green tea from Uji")
    assert len(found(memory, "tea", 3)) == 3


def test_long_texts_are_told_in_part(memory: Recall) -> None:
    """Of a long text the part around the words is told."""
    teach(memory, ("x " * 500 + "needle" + " y" * 500, "end"))
    (told,) = found(memory, "needle")
    assert "needle" in told
    assert len(told) < 400


@pytest.mark.parametrize(
    "query",
    [
        '"',
        '""',
        "a AND",
        "NEAR(",
        "col:x",
        "*",
        "gata*",
        "-gata",
        "(gata",
        "gata OR",
        "'; DROP TABLE notes; --",
        "\0",
        "^",
        "{a}",
    ],
)
def test_no_text_is_a_wrong_query(memory: Recall, query: str) -> None:
    """Operators of the query language are words like any others."""
    teach(memory, ("mi gata", "Nube"))
    assert found(memory, query) == (["mi gata\nNube"] if "gata" in query else [])
    assert found(memory, "gata") == ["mi gata\nNube"]


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(alphabet='"*():^-+{}ANDORT né\0\u0301漢', max_size=30))
def test_any_text_can_be_asked(memory: Recall, query: str) -> None:
    """No text makes a search fail."""
    assert len(memory.search(query, 3)) <= 3


def test_what_is_new_is_added_and_nothing_twice(memory: Recall) -> None:
    """Each search takes in what came since, once."""
    teach(memory, ("uno", "gato"))
    chat(memory, "a", ("dos", "gato"))
    assert len(found(memory, "gato")) == 2
    teach(memory, ("tres", "gato"), name="b.jsonl")
    chat(memory, "a", ("cuatro", "gato"))
    chat(memory, "b", ("cinco", "gato"))
    for _ in range(2):
        assert sorted(each.split("\n")[0] for each in found(memory, "gato")) == [
            "cinco",
            "cuatro",
            "dos",
            "tres",
            "uno",
        ]


def test_a_half_written_exchange_waits(memory: Recall) -> None:
    """A turn under way, and a line that is not whole, are taken when they end; a broken line stops nothing."""
    path = chat(memory, "a", ("primera pregunta", "respuesta"))
    chat(memory, "a", ("segunda pregunta", ""), end=False)
    whole = '{"event": "end", "text": "hecho"}'
    with path.open("a") as sink:
        sink.write(f"no json\n[1]\n{whole[:10]}")
    assert len(found(memory, "pregunta")) == 1
    with path.open("a") as sink:
        sink.write(f"{whole[10:]}\n")
    assert sorted(found(memory, "pregunta")) == ["primera pregunta\nrespuesta", "segunda pregunta\nhecho"]


def test_a_deleted_chat_is_forgotten(memory: Recall) -> None:
    """What a person deletes is not found any more, and no row of the index holds it."""
    path = chat(memory, "a", ("my unmistakable secret", "kept"))
    chat(memory, "b", ("another", "one"))
    assert found(memory, "unmistakable")
    path.unlink()
    assert found(memory, "unmistakable") == []
    assert found(memory, "another")
    with closing(sqlite3.connect(memory.index)) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (1,)


def test_another_ledger_replaces_the_first(memory: Recall) -> None:
    """Where the ledger is a new one, what the old one held is forgotten."""
    teach(memory, ("viejo", "gato"), ("viejo dos", "gato"))
    assert len(found(memory, "gato")) == 2
    for path in memory.ledger.parent.glob("ledger.sqlite3*"):
        path.unlink()
    teach(memory, ("nuevo", "gato"), ("nuevo dos", "gato"))
    assert sorted(found(memory, "gato")) == sorted(["nuevo dos\ngato", "nuevo\ngato"])


def test_a_first_search_is_bounded(memory: Recall) -> None:
    """A large ledger is taken in over several searches, the newest first; what is not yet in is counted."""
    teach(memory, *((f"example {number} w{number:04}", "x") for number in range(3500)))
    ticks = iter(range(100))
    slow = Recall(memory.index, memory.ledger, memory.transcripts, 0.5, lambda: float(next(ticks)))
    assert found(slow, "w3499")
    assert not found(slow, "w0003")
    while slow.update():
        pass
    assert found(slow, "w0003")


def test_a_damaged_index_is_made_again(memory: Recall) -> None:
    """The index holds nothing of its own: what is no database, or of another schema, is made again."""
    teach(memory, ("uno", "gato"))
    assert found(memory, "gato")
    memory.index.write_bytes(b"no database at all, and long enough to be looked at" * 100)
    assert found(memory, "gato") == ["uno\ngato"]
    with closing(sqlite3.connect(memory.index)) as connection:
        connection.execute("PRAGMA user_version=99")
    assert found(memory, "gato") == ["uno\ngato"]


@pytest.mark.parametrize(
    "harm",
    [
        "DROP TABLE notes",
        "DROP TABLE words",
        "DROP TABLE sources",
        "DELETE FROM words_data",
        "UPDATE sources SET state = 'junk'",
        "UPDATE sources SET state = '{}'",
        "UPDATE sources SET state = '[]'",
        "PRAGMA user_version = 7",
    ],
)
def test_an_index_without_its_parts_is_made_again(memory: Recall, harm: str) -> None:
    """Whatever was done to its tables, the memory does not stay broken."""
    teach(memory, ("red house", "yes"))
    assert len(found(memory, "house")) == 1
    with closing(sqlite3.connect(memory.index)) as connection, connection:
        connection.execute(harm)
    assert len(found(memory, "house")) == 1


def test_half_a_character_in_a_chat_does_no_harm(memory: Recall) -> None:
    """What a terminal sent that is no text is found without it."""
    chat(memory, "one", ("red \udcff house", "yes"))
    assert found(memory, "house") == ["red ? house\nyes"]


def test_the_index_is_the_users_alone(memory: Recall) -> None:
    """Nobody else may read it, as with the transcripts."""
    chat(memory, "a", ("uno", "dos"))
    found(memory, "uno")
    for path in memory.index.parent.glob("recall.sqlite3*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_there_is_nothing_found(memory: Recall) -> None:
    """Without ledger and transcripts there is nothing, and no error; a place that cannot hold an index is one."""
    assert found(memory, "gato") == []
    with pytest.raises(ToolError, match="cannot be read"):
        Recall(memory.index.parent / "none" / "x", memory.ledger, memory.transcripts).search("gato", 1)


def test_two_processes_may_use_it_at_once(memory: Recall) -> None:
    """Several searches at the same time take everything in once, and none fails."""
    teach(memory, *((f"example {number}", "gato") for number in range(300)))
    code = (
        "import sys; from pathlib import Path; from thaud.recall import Recall; folder = Path(sys.argv[1]);"
        "memory = Recall(folder / 'recall.sqlite3', folder / 'ledger.sqlite3', folder / 'transcripts', 30.0);"
        "print(len(memory.search('gato', 1000)))"
    )
    argv = [sys.executable, "-c", code, str(memory.index.parent)]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for each in running:
        _, error = each.communicate(timeout=120)
        assert each.returncode == 0, error
    assert len(found(memory, "gato", 1000)) == 300


def test_while_another_writes_what_there_is_is_searched(memory: Recall) -> None:
    """A search does not fail because another process takes its time over the index."""
    teach(memory, ("uno", "gato"))
    found(memory, "gato")
    teach(memory, ("dos", "gato"), name="b.jsonl")
    with closing(sqlite3.connect(memory.index, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert found(replace(memory, busy_s=0.05), "gato") == ["uno\ngato"]
        other.execute("ROLLBACK")
    assert len(found(memory, "gato")) == 2


def test_the_tool_tells_what_is_found(memory: Recall, tmp_path: Path) -> None:
    """The model reads where and when each thing was; without a memory it is told so."""
    chat(memory, "a", ("¿Mi gata?", "Nube"))
    context = Context(Workspace(tmp_path), lambda: datetime(2026, 3, 1, tzinfo=UTC), memory=memory)
    assert TOOL.perform({"query": "gata"}, context) == "1. [chat a, 2026-03-01] ¿Mi gata?\nNube"
    assert TOOL.perform({"query": "perro"}, context).startswith("[nothing found")
    with pytest.raises(ToolError, match="no memory"):
        TOOL.perform({"query": "gata"}, Context(Workspace(tmp_path), context.clock))
