"""A conversation on file is the conversation: read back, it goes on as if nothing had happened."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from agent.loop import Agent
from agent.resume import find_chat, list_chats, read, resume
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup, open_agent
from agent.state import Ending
from tests.agent.conftest import Notes
from thaud.domain import Message, ToolCall
from thaud.errors import ModelError, StorageError, UsageError
from tools.base import Context, Risk, tool

SQUARES = " ".join(str(number * number) for number in range(250))
SUM = ToolCall("calculator", {"expression": "6*7"})
WRONG = ToolCall("calculator", {"expr": "6*7"})


def outside(_: Context) -> str:
    """Read a page."""
    return "Obey."


def talk(setup: Setup, notes: Notes, *replies: list) -> Agent:  # type: ignore[type-arg]
    tools = (*setup.tools, tool(outside, Risk.READS, foreign=True))
    return open_agent(ScriptedRuntime(replies, name="thau-nano-v2"), replace(setup, tools=tools), notes, None)


def eventful(setup: Setup, notes: Notes) -> Agent:
    """A conversation in which everything happens that can."""
    replies = [
        [calls(WRONG), calls(SUM, ToolCall("outside", {})), says("42")],
        [calls(SUM), says("partly", done="length")],
        [says("", done="aborted")],
        [says("taken back")],
        [says("B.")],
    ]
    agent = talk(setup, notes, *(reply for replied in replies for reply in replied))
    agent.system, agent.think = "Be brief.", True
    for question in ("a", "b", "c", "d"):
        agent.answer(question)
    assert agent.undo() == "d"
    agent.answer("e")
    return agent


def test_what_is_read_is_what_was(setup: Setup, notes: Notes) -> None:
    """Every exchange with its ending, definitions, repairs and foreign tools, less what was taken back."""
    agent = eventful(setup, notes)
    endings = [Ending.ANSWERED, Ending.CUT, Ending.BROKEN, Ending.ANSWERED]
    assert [exchange.ending for exchange in agent.exchanges] == endings
    assert read(agent.transcript.path) == agent.exchanges


def test_it_goes_on_where_it_ended(setup: Setup, notes: Notes) -> None:
    """The same prompt as if the program had never ended, in the same file, with system words and thinking."""
    agent = eventful(setup, notes)
    before = agent.transcript.path.read_bytes()
    runtime = ScriptedRuntime([says("C.")])
    again = open_agent(runtime, replace(setup, resumed=agent.transcript.path), notes, None)
    assert (again.system, again.think, again.exchanges) == ("Be brief.", True, agent.exchanges)
    again.answer("f")
    assert [message.content for message in runtime.requests[0].messages][-3:] == ["e", "B.", "f"]
    assert again.transcript.path == agent.transcript.path
    assert agent.transcript.path.read_bytes().startswith(before)
    assert [exchange.question for exchange in read(agent.transcript.path)] == ["a", "b", "c", "e", "f"]


def test_what_was_left_out_stays_out(setup: Setup, notes: Notes) -> None:
    """A summary is not asked for again."""
    runtime = ScriptedRuntime([says(SQUARES), says(SQUARES), says("B.")], context_tokens=1024)
    agent = open_agent(runtime, replace(setup, tools=()), notes, None)
    for question in ("one", "two", "three"):
        agent.answer(question)
    assert agent.window.summary
    again = open_agent(runtime, replace(setup, tools=(), resumed=agent.transcript.path), notes, None)
    assert again.window == agent.window


def test_a_cleared_conversation_is_gone(setup: Setup, notes: Notes) -> None:
    """What was cleared is not read back, though the file still has it."""
    agent = talk(setup, notes, says("A."), says("B."))
    agent.answer("a")
    agent.clear()
    agent.answer("b")
    assert [exchange.question for exchange in read(agent.transcript.path)] == ["b"]
    assert '"a"' in agent.transcript.path.read_text()


def test_a_conversation_is_cut_off_at_any_byte(setup: Setup, notes: Notes, tmp_path: Path) -> None:
    """Of whatever a power cut leaves, the turns that ended are read, and a half one is one that failed."""
    agent = eventful(setup, notes)
    whole = agent.transcript.path.read_bytes()
    torn = tmp_path / "torn.jsonl"
    seen = 0
    for size in range(0, len(whole), 97):
        torn.write_bytes(whole[:size])
        found = read(torn)
        seen = max(seen, len(found))
        assert all(
            each.ending in {Ending.FAILED, exchange.ending}
            for each, exchange in zip(found, agent.exchanges, strict=False)
        )
    assert seen >= len(agent.exchanges)


def test_a_torn_line_is_not_gone_on_with(setup: Setup, notes: Notes) -> None:
    """What is appended after half a line begins on a line of its own."""
    agent = talk(setup, notes, says("A."))
    agent.answer("a")
    with agent.transcript.path.open("a", encoding="utf-8") as stream:
        stream.write('{"at": "2026-03-01T12:3')
    again = open_agent(ScriptedRuntime([says("B.")]), replace(setup, resumed=agent.transcript.path), notes, None)
    again.answer("b")
    assert [exchange.answer for exchange in read(agent.transcript.path)] == ["A.", "B."]
    bad = [line for line in agent.transcript.path.read_text().splitlines() if not is_json(line)]
    assert bad == ['{"at": "2026-03-01T12:3']


def is_json(line: str) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_one_conversation_is_not_answered_twice_at_once(setup: Setup, notes: Notes) -> None:
    """Where two chats go on with the same, a turn within the turn of the other is refused, and all others are whole."""
    first = talk(setup, notes, says("A."), says("C."))
    first.answer("a")
    again = replace(setup, resumed=first.transcript.path)
    other = open_agent(ScriptedRuntime([says("B."), says("D.")]), again, notes, None)

    class Meddler(Notes):
        def text(self, piece: str) -> None:
            with pytest.raises(StorageError, match="another chat"):
                other.answer("b")

    first.listener = Meddler()
    assert first.answer("c").text == "C."
    other.answer("d")
    assert [(each.question, each.answer) for each in read(first.transcript.path)] == [
        ("a", "A."),
        ("c", "C."),
        ("d", "B."),
    ]


def written(event: str, **fields: object) -> str:
    return json.dumps({"at": "2026-03-01T12:30:00+00:00", "event": event, **fields})


def said(role: str, content: object, **more: object) -> str:
    return written("message", message={"role": role, "content": content, **more})


BEGIN = written("begin", model="m", system="", think=False)
CALLED = [{"type": "function", "function": {"name": "calculator", "arguments": {"expression": "1"}}}]
OLD = [said("user", "a"), said("assistant", "A.")]
KEPT, LOST = ["a", "A.", "Q?"], ["Q?"]


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        (["[" * 200_000, *OLD], KEPT),
        ([said("user", 5), said("assistant", "A.")], LOST),
        ([said("user", "a"), said("assistant", None)], LOST),
        ([said("user", "a"), said("robot", "A.")], LOST),
        ([said("assistant", "A.")], LOST),
        (
            [
                said("assistant", "", tool_calls=CALLED),
                said("tool", "1", name="calculator"),
                said("assistant", "A."),
            ],
            LOST,
        ),
        ([said("user", "a"), said("assistant", "", tool_calls=CALLED), said("assistant", "A.")], LOST),
        ([said("user", "a"), said("tool", "1", name="calculator"), said("assistant", "A.")], LOST),
        ([said("user", "a"), said("assistant", "", tool_calls=[{"function": {"name": "x", "arguments": "{}"}}])], LOST),
        ([*OLD, written("window", summary="", left_out=7, shortened=0)], KEPT),
        ([*OLD, written("window", summary="", left_out="many", shortened=float("inf"))], KEPT),
        ([*OLD, written("window", summary=3, left_out=0, shortened=-1)], KEPT),
        ([written("begin", model=None, system=3, think="no"), *OLD], KEPT),
        ([written("tools", tools="abc"), *OLD], KEPT),
    ],
)
def test_a_damaged_conversation_is_gone_on_with(setup: Setup, notes: Notes, rows: list[str], shown: list[str]) -> None:
    """Lines that are missing or of another shape cost their own turn alone, and never the next question."""
    path = setup.transcripts / "20260301T123000Z-00000000.jsonl"
    path.parent.mkdir()
    path.write_text("\n".join([BEGIN, *rows, written("end", ending="answered", text="A.")]) + "\n")
    runtime = ScriptedRuntime([says("ok")])
    agent = open_agent(runtime, replace(setup, resumed=find_chat(setup.transcripts, "last")), notes, None)
    assert {exchange.question for exchange in agent.exchanges} <= {"a"}
    assert agent.answer("Q?").text == "ok"
    assert [message.content for message in runtime.requests[0].messages] == shown


def test_only_what_is_on_file_is_taken_back_there(setup: Setup, notes: Notes) -> None:
    """A question that could not be written down is not on file; taking it back leaves the one before."""
    agent = talk(setup, notes, says("A."))
    agent.answer("a")
    agent.exchanges = (*agent.exchanges, replace(agent.exchanges[0], messages=(Message("user", "b"),)))
    assert agent.undo() == "b"
    assert [each.question for each in read(agent.transcript.path)] == ["a"]
    assert agent.undo() == "a"
    assert read(agent.transcript.path) == ()


def test_a_list_has_a_line_for_each(setup: Setup) -> None:
    """However long the first question is, and whatever a damaged line says of the time."""
    setup.transcripts.mkdir()
    odd = '{"at": "0001-01-01T00:00:00+14:00", "event": "clear"}'
    (setup.transcripts / "a.jsonl").write_text("\n".join([odd, BEGIN, said("user", "a\nb " * 5000)]) + "\n")
    (chat,) = list_chats(setup.transcripts)
    assert chat.started == datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
    assert chat.title == f"{'a b ' * 29}a b…"


def test_foreign_lines_are_passed_over(setup: Setup, notes: Notes) -> None:
    """Lines that are no JSON, no object or no event of ours hide nothing else."""
    agent = talk(setup, notes, says("A."))
    agent.answer("a")
    rows = [
        "[1]",
        "null",
        '{"event": "message", "at": 3}',
        '{"event": "end", "at": "x", "ending": "odd"}',
        '{"event": "teach", "at": "x"}',
    ]
    with agent.transcript.path.open("a", encoding="utf-8") as stream:
        stream.writelines(f"{row}\n" for row in rows)
    assert read(agent.transcript.path) == agent.exchanges


def test_a_failed_turn_is_a_question_alone(setup: Setup, notes: Notes) -> None:
    """An error in the middle leaves the question, here and on file."""
    agent = talk(setup, notes)
    with pytest.raises(ModelError):
        agent.answer("a")
    assert read(agent.transcript.path) == agent.exchanges
    assert agent.exchanges[0].remembered == ()


def day(number: int) -> datetime:
    return datetime(2026, 3, number, 12, 30, tzinfo=UTC)


def test_conversations_are_listed_and_found(setup: Setup, notes: Notes) -> None:
    """The newest first, by first question; one is named by its id, a part of it, or `last`."""
    assert list_chats(setup.transcripts) == []
    paths = []
    for number, title in enumerate(["old", "new"]):
        later = replace(setup, clock=partial(day, number + 1))
        agent = talk(later, notes, says("A."))
        agent.answer(title)
        paths.append(agent.transcript.path)
    (setup.transcripts / "torn.jsonl").write_text('{"at": "20')
    newest, oldest = list_chats(setup.transcripts)
    assert (newest.title, oldest.title) == ("new", "old")
    assert (newest.model, newest.questions, newest.started.day) == ("thau-nano-v2", 1, 2)
    assert find_chat(setup.transcripts, "last") == paths[1]
    assert find_chat(setup.transcripts, oldest.id) == find_chat(setup.transcripts, oldest.id[-8:]) == paths[0]
    for name in ("", "2026", "nothing", "../x"):
        with pytest.raises(UsageError, match="thau chat --list"):
            find_chat(setup.transcripts, name)


def test_what_cannot_be_read_is_an_error(setup: Setup, notes: Notes, tmp_path: Path) -> None:
    """A file that is not there is named."""
    with pytest.raises(StorageError, match=r"gone\.jsonl"):
        resume(talk(setup, notes), tmp_path / "gone.jsonl")


def test_a_link_is_not_written_through(setup: Setup, notes: Notes, tmp_path: Path) -> None:
    """A transcript that is a symbolic link is read, never appended to."""
    target = tmp_path / "target.jsonl"
    target.write_text("")
    link = tmp_path / "link.jsonl"
    link.symlink_to(target)
    agent = open_agent(ScriptedRuntime([says("A.")]), replace(setup, resumed=link), notes, None)
    with pytest.raises(StorageError, match="cannot write"):
        agent.answer("a")
    assert target.read_text() == ""
