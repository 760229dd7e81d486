"""From an exchange to a proposal: what was said, as it was judged, and nothing that the model only thought."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.state import Ending, Exchange, Repair
from agent.teaching import Teacher, spoken
from agent.transcript import Transcript
from tests.test_proposals import CALLED, SEARCH, TOOL, model, user
from thaud.domain import Message
from thaud.errors import RejectedInputError, UsageError
from thaud.proposals import Kind, read_all

AT = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)
HELLO = Exchange((user("Hola"), replace(model("Hola, ¿qué tal?"), thinking="educado")), Ending.ANSWERED)
LOOKED_UP = Exchange(CALLED, Ending.ANSWERED, (TOOL,), foreign=("web_search",))
CUT = Exchange((user("¿Y?"), model("Pues")), Ending.CUT)
SILENT = Exchange((user("¿Y?"),), Ending.BROKEN)
FIXED = Message("assistant", "", (SEARCH,))
REPAIRED = replace(
    LOOKED_UP, repairs=(Repair((user("Hola"), CALLED[0]), "<think>a</think><tool_call>{", "bad", FIXED),)
)


@dataclass(frozen=True)
class Served:
    name: str = "thau-nano-v2"


@dataclass
class Chat:
    exchanges: tuple[Exchange, ...]
    transcript: Transcript
    system: str = ""
    runtime: Served = Served()


Talk = Callable[..., Chat]


@pytest.fixture
def talk(tmp_path: Path) -> Talk:
    """One conversation, as far as it is said to have come."""
    record = Transcript(tmp_path, lambda: AT, tmp_path / "20260301T123000Z-ab12cd34.jsonl")

    def as_far_as(exchanges: tuple[Exchange, ...], system: str = "") -> Chat:
        return Chat(exchanges, record, system)

    return as_far_as


@pytest.fixture
def teacher(tmp_path: Path) -> Teacher:
    return Teacher(tmp_path / "proposed", lambda: AT)


def test_a_corrected_answer_takes_the_place_of_the_bad_one(teacher: Teacher, talk: Talk) -> None:
    """The whole conversation with its calls and tools, the old answer beside it, where it comes from."""
    proposal = teacher.teach(talk((HELLO, LOOKED_UP), "Sé breve."), " Nieva. ")
    assert proposal.example.messages == (
        Message("system", "Sé breve."),
        user("Hola"),
        model("Hola, ¿qué tal?"),
        *CALLED[:3],
        model("Nieva."),
    )
    assert proposal.rejected == model("Llueve.")
    assert [tool["function"]["name"] for tool in proposal.example.tools] == ["web_search"]
    assert proposal.outside == {5: "web_search"}
    assert (proposal.origin.model, proposal.origin.question) == ("thau-nano-v2", 2)
    assert read_all(teacher.folder) == ([proposal], [])


def test_what_was_only_thought_is_in_none_of_it(teacher: Teacher, talk: Talk) -> None:
    """Neither apart from the text nor within it, on either side of the pair."""
    thought = Exchange((user("¿?"), model("<think>interior</think>Sí.")), Ending.ANSWERED)
    teacher.good(talk((HELLO, thought)))
    teacher.bad(talk((HELLO, thought)))
    teacher.mend(talk((REPAIRED,)))
    texts = [path.read_text("utf-8") for path in teacher.folder.iterdir()]
    assert len(texts) == 3
    assert not any("interior" in text or "educado" in text or "think" in text for text in texts)


def test_a_bad_answer_waits_for_a_good_one(teacher: Teacher, talk: Talk) -> None:
    """With a correction it is a pair at once; without, the proposal says that it lacks one, until one is taught."""
    chat = talk((HELLO,))
    waiting = teacher.bad(chat)
    assert waiting.needs_answer
    assert (waiting.kind, waiting.rejected) == (Kind.BAD, model("Hola, ¿qué tal?"))
    taught = teacher.teach(chat, "Buenas.")
    assert read_all(teacher.folder)[0] == [taught]
    assert teacher.bad(talk((LOOKED_UP,)), "Nieva.").example.completion == model("Nieva.")


def test_later_examples_learn_earlier_answers_as_they_were_judged(teacher: Teacher, talk: Talk) -> None:
    """A corrected answer stands corrected, a bad one goes with its question, an unfinished one was never said."""
    teacher.teach(talk((HELLO,)), "Buenas.")
    teacher.bad(talk((HELLO, LOOKED_UP)))
    last = Exchange((user("¿Y?"), model("Ya.")), Ending.ANSWERED)
    proposal = teacher.good(talk((HELLO, LOOKED_UP, CUT, last)))
    assert proposal.example.messages == (user("Hola"), model("Buenas."), *last.messages)
    resumed = Teacher(teacher.folder, lambda: AT)
    again = Exchange((user("¿Sí?"), model("Sí.")), Ending.ANSWERED)
    forgetful = resumed.good(talk((replace(HELLO, messages=tuple(map(spoken, HELLO.messages))), LOOKED_UP, again)))
    assert forgetful.example.messages == (user("Hola"), model("Buenas."), *again.messages)


def test_the_same_is_proposed_once(teacher: Teacher, talk: Talk) -> None:
    """Saying twice that an answer is good leaves one proposal."""
    assert teacher.good(talk((HELLO,))) == teacher.good(talk((HELLO,)))
    assert len(read_all(teacher.folder)[0]) == 1


def test_a_call_that_was_made_right_is_a_pair(teacher: Teacher, talk: Talk) -> None:
    """The question with the call as it should have been, and the reply that failed with what was wrong with it."""
    (proposal,) = teacher.mend(talk((HELLO, REPAIRED)))
    assert proposal.example.messages == (*HELLO_SPOKEN, CALLED[0], FIXED)
    assert (proposal.rejected, proposal.problem) == (model("<tool_call>{"), "bad")
    assert teacher.mend(talk((HELLO,))) == ()
    assert teacher.mend(talk(())) == ()


def test_a_repaired_call_stands_on_what_had_come_back(teacher: Teacher, talk: Talk) -> None:
    """Though the model was shown a summary and a shortened result, the whole result is in the proposal, marked."""
    second = Message("assistant", "", (replace(SEARCH, arguments={"query": "De fuera"}),))
    shown = (user("Resumen: nada.\n\n¿Qué tiempo hace?"), CALLED[1], replace(CALLED[2], content="De…"))
    turns = (*CALLED[:3], second, *CALLED[2:])
    mended = Exchange(turns, Ending.ANSWERED, (TOOL,), (Repair(shown, "<tool_call>{", "bad", second),))
    (proposal,) = teacher.mend(talk((mended,)))
    assert proposal.example.messages == turns[:4]
    assert proposal.outside == {2: "web_search"}


HELLO_SPOKEN = (user("Hola"), model("Hola, ¿qué tal?"))


def test_what_cannot_be_judged_is_told(teacher: Teacher, talk: Talk) -> None:
    """No question, no answer, an answer that was cut, a correction that says nothing: each has its words."""
    with pytest.raises(UsageError, match="nothing was asked"):
        teacher.teach(talk(()), "x")
    with pytest.raises(UsageError, match="not whole"):
        teacher.good(talk((CUT,)))
    with pytest.raises(UsageError, match="no answer that could be bad"):
        teacher.bad(talk((SILENT,)))
    for nothing in ("", "  ", "<|im_end|>"):
        with pytest.raises(RejectedInputError):
            teacher.teach(talk((HELLO,)), nothing)
    assert teacher.teach(talk((SILENT,)), "Sí.").rejected is None
    assert len(read_all(teacher.folder)[0]) == 1
