"""Proposals: a file each that is whole or not there, nothing from outside unless it is kept, no secret unseen."""

import errno
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thaud.domain import Example, Message, Rejection, ToolCall
from thaud.errors import RejectedInputError, StorageError, UsageError
from thaud.formats import example_to_line, parse_line
from thaud.proposals import (
    Kind,
    Lesson,
    Origin,
    Proposal,
    answered,
    count_waiting,
    edited,
    example_of,
    find,
    keep,
    look_for_suspects,
    name_for,
    outside_of,
    read_all,
    remains_of,
    usual_lesson,
    waiting_like,
)
from thaud.proposals.folder import withdraw

AT = "2026-03-01T12:30:00+00:00"
ORIGIN = Origin("thau-nano-v2", "20260301T123000Z-ab12cd34.jsonl", 2)
SEARCH = ToolCall("web_search", {"query": "tiempo"})
TOOL = {"type": "function", "function": {"name": "web_search", "parameters": {"type": "object", "properties": {}}}}
MIB = 1 << 20
CALLED = (
    Message("user", "¿Qué tiempo hace?"),
    Message("assistant", "", (SEARCH,)),
    Message("tool", "De fuera: llueve.", tool_name="web_search"),
    Message("assistant", "Llueve."),
)


def proposal_of(*turns: Message, kind: Kind = Kind.TEACH, rejected: Message | None = None) -> Proposal:
    tools = (TOOL,) if any(turn.tool_calls for turn in turns) else ()
    example = Example(turns, tools)
    bare = Proposal("", AT, kind, example, ORIGIN, rejected, outside_of(example))
    return replace(bare, id=name_for(AT, bare), suspects=look_for_suspects(bare))


def user(text: str) -> Message:
    return Message("user", text)


def model(text: str) -> Message:
    return Message("assistant", text)


PLAIN = proposal_of(user("¿Capital de Perú?"), model("Lima."), rejected=model("Cuzco."))


# The folder


def test_a_proposal_comes_back_as_it_was(tmp_path: Path) -> None:
    """All of it, readable by its user alone, under a name that says when and what."""
    kept = proposal_of(*CALLED, kind=Kind.GOOD)
    path = keep(tmp_path / "proposed", kept)
    assert read_all(path.parent) == ([kept], [])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.name.startswith("20260301T123000Z-")
    assert count_waiting(path.parent) == 1


def test_thinking_is_in_no_proposal(tmp_path: Path) -> None:
    """What the model said to itself is not written, whoever hands it over."""
    thought = replace(model("Lima."), thinking="secreto interior")
    path = keep(tmp_path, proposal_of(user("¿?"), thought, rejected=thought))
    assert "interior" not in path.read_text("utf-8")


DAMAGE: dict[str, str] = {
    "no JSON": "{",
    "no object": "[]",
    "another format": '{"format": 99}',
    "no example": json.dumps({**PLAIN.to_json(), "example": {"messages": []}}),
    "an answer that is none": json.dumps({**PLAIN.to_json(), "example": {"messages": [{"role": "assistant"}]}}),
    "a turn from outside that is not said to be": json.dumps({**proposal_of(*CALLED).to_json(), "outside": {}}),
    "a turn that is not there": json.dumps({**PLAIN.to_json(), "outside": {"9": "x"}}),
    "another's identity": json.dumps({**PLAIN.to_json(), "id": "20260301T123000Z-00000000"}),
    "a kind that nobody knows": json.dumps({**PLAIN.to_json(), "kind": "odd"}),
    "too deep": "[" * 100_000,
}


@pytest.mark.parametrize("text", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_named_and_stays(tmp_path: Path, text: str) -> None:
    """The others are read all the same, and the file is as it was."""
    keep(tmp_path, PLAIN)
    damaged = tmp_path / "20260101T000000Z-11111111.json"
    damaged.write_text(text, encoding="utf-8")
    proposals, found = read_all(tmp_path)
    assert proposals == [PLAIN]
    assert [each.name for each in found] == [damaged.name]
    assert found[0].reason
    assert damaged.read_text("utf-8") == text


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    """Nobody has proposed anything yet: that is no error."""
    assert read_all(tmp_path / "none") == ([], [])
    assert count_waiting(tmp_path / "none") == 0


@pytest.mark.parametrize("when", ["before", "between"])
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, points: Callable[[str], None], when: str) -> None:
    """Neither the new one nor half of it; an edit that finds no room leaves the one before."""
    keep(tmp_path, PLAIN)
    points(f"file.proposal.{when}=enospc")
    with pytest.raises(StorageError, match=rf"cannot write the proposal .*{PLAIN.id}"):
        keep(tmp_path, replace(PLAIN, problem="another"))
    assert read_all(tmp_path) == ([PLAIN], [])


def test_what_cannot_be_removed_waits_on(tmp_path: Path, points: Callable[[str], None]) -> None:
    """An error of the disk is said, and the proposal is there still."""
    keep(tmp_path, PLAIN)
    points("remove.proposal.before=eio")
    with pytest.raises(StorageError, match="cannot remove the proposal") as raised:
        withdraw(tmp_path, PLAIN)
    assert isinstance(raised.value.__cause__, OSError)
    assert raised.value.__cause__.errno == errno.EIO
    assert read_all(tmp_path) == ([PLAIN], [])


def test_the_same_is_proposed_once(tmp_path: Path) -> None:
    """What waits already is found by what it says; another kind or another answer is another."""
    keep(tmp_path, PLAIN)
    assert waiting_like(tmp_path, replace(PLAIN, at="2030-01-01T00:00:00+00:00")) == PLAIN
    assert waiting_like(tmp_path, replace(PLAIN, kind=Kind.GOOD)) is None
    assert waiting_like(tmp_path, replace(PLAIN, rejected=None)) is None


def test_a_proposal_is_found_by_the_end_of_its_name(tmp_path: Path) -> None:
    """Or its beginning, as long as it names one; else what to do is said."""
    other = proposal_of(user("¿Y de Chile?"), model("Santiago."))
    for each in (PLAIN, other):
        keep(tmp_path, each)
    assert find(tmp_path, PLAIN.id[-8:]) == find(tmp_path, PLAIN.id) == PLAIN
    for named, complaint in (("20260301", "names 2"), ("nothing", "no proposal"), ("../x", "no proposal"), ("", "no")):
        with pytest.raises(UsageError, match=complaint):
            find(tmp_path, named)


@pytest.mark.parametrize("identity", ["../../x", ".x", ""])
def test_a_name_leads_nowhere_else(tmp_path: Path, identity: str) -> None:
    """An identity from a file cannot make us write or remove elsewhere."""
    with pytest.raises(UsageError, match="no identity"):
        withdraw(tmp_path, replace(PLAIN, id=identity))


# Words from outside


def test_by_default_the_model_s_words_teach_the_call_and_a_person_s_the_answer() -> None:
    """Of a good answer the first call is left, of a corrected one the person's own words, and it is said which."""
    good, taught = proposal_of(*CALLED, kind=Kind.GOOD), proposal_of(*CALLED, rejected=model("Nieva."))
    calls = remains_of(good, usual_lesson(good))
    assert calls.example is not None
    assert calls.example.messages == CALLED[:2]
    assert calls.example.tools == (TOOL,)
    assert (calls.lesson, calls.turns_left_out, calls.on_left_out) == (Lesson.CALLS, 2, False)
    answer = remains_of(taught, usual_lesson(taught))
    assert answer.example is not None
    assert answer.example.messages == (CALLED[0], CALLED[3])
    assert answer.example.tools == ()
    assert (answer.lesson, answer.on_left_out) == (Lesson.ANSWER, True)


def test_kept_it_is_the_whole_conversation() -> None:
    """With its calls, their results and the tools, as the drop-box takes it."""
    whole = proposal_of(*CALLED, kind=Kind.GOOD)
    remains = remains_of(whole, Lesson.WHOLE)
    assert remains.example == whole.example
    assert isinstance(parse_line(example_to_line(example_of(whole, remains, MIB))), Example)


def test_an_earlier_question_goes_as_a_whole() -> None:
    """What the model made of words from outside goes with them, and the reviewer is told how many."""
    proposal = proposal_of(*CALLED, user("¿Y en Lima?"), model("No lo sé."))
    remains = remains_of(proposal, usual_lesson(proposal))
    assert remains.example is not None
    assert remains.example.messages == proposal.example.messages[4:]
    assert remains.exchanges_left_out == 1
    assert remains.on_left_out


def test_what_the_model_said_after_words_from_outside_goes_with_them() -> None:
    """A later question may be answered with what an earlier one brought in: such an answer is taught only if it is
    chosen, a call never, a rejected answer not even as metadata.
    """
    copied = (user("¿Cómo era?"), model("De fuera: llueve."))
    middle = remains_of(proposal_of(*CALLED, *copied, user("¿Y?"), model("Ya.")), Lesson.ANSWER)
    assert middle.example is not None
    assert middle.example.messages == (user("¿Y?"), model("Ya."))
    good = proposal_of(user("Hola"), model("Buenas."), *CALLED, *copied, kind=Kind.GOOD)
    assert remains_of(good, usual_lesson(good)).example is None
    called = proposal_of(*CALLED, user("Búscalo"), Message("assistant", "", (SEARCH,)), kind=Kind.REPAIR)
    assert remains_of(called, usual_lesson(called)).example is None
    taught = proposal_of(*CALLED, copied[0], model("Nieva."), rejected=copied[1])
    example = example_of(taught, remains_of(taught, usual_lesson(taught)), MIB)
    assert "llueve" not in example_to_line(example)


def test_a_repaired_call_that_stands_on_a_result_needs_it() -> None:
    """Without the words from outside the call that was made right is not reached: nothing is left to teach."""
    first = proposal_of(*CALLED[:2], kind=Kind.REPAIR, rejected=model("<tool_call>{"))
    assert remains_of(first, usual_lesson(first)).example == first.example
    second = proposal_of(*CALLED[:3], Message("assistant", "", (SEARCH,)), kind=Kind.REPAIR)
    remains = remains_of(second, usual_lesson(second))
    assert remains.example is None
    with pytest.raises(RejectedInputError, match="nothing is left"):
        example_of(second, remains, MIB)


WORDS = st.sampled_from(["hola", "sí", "no lo sé", "42"])
RESULT = "DE FUERA"


@st.composite
def exchanges(draw: st.DrawFn) -> list[Message]:
    """One question with so many rounds of calls, and its answer."""
    turns = [user(draw(WORDS))]
    for _ in range(draw(st.integers(0, 3))):
        calls = draw(st.integers(1, 2))
        turns.append(Message("assistant", draw(st.sampled_from(["", "busco"])), (SEARCH,) * calls))
        turns += [Message("tool", RESULT, tool_name="web_search")] * calls
    return [*turns, model(draw(WORDS))]


@given(
    st.lists(exchanges(), min_size=1, max_size=4),
    st.sampled_from(list(Kind)),
    st.sampled_from([Lesson.CALLS, Lesson.ANSWER]),
)
def test_nothing_from_outside_is_left_and_no_call_without_its_result(
    said: list[list[Message]], kind: Kind, lesson: Lesson
) -> None:
    """Whatever the conversation: no result, no earlier call that lacks one, and an example that the drop-box takes."""
    proposal = proposal_of(*(turn for each in said for turn in each), kind=kind)
    remains = remains_of(proposal, lesson)
    if remains.example is None:
        return
    turns = remains.example.messages
    assert RESULT not in example_to_line(remains.example)
    assert not any(turn.tool_calls for turn in turns[:-1])
    assert not isinstance(parse_line(example_to_line(remains.example)), Rejection)
    if turns[-1].tool_calls:
        assert remains.example.tools
    before = proposal.example.messages[: min(proposal.outside, default=len(proposal.example.messages))]
    assert remains.on_left_out == (bool(proposal.outside) and not turns[-1].tool_calls)
    assert all(turn in before for turn in turns if turn.tool_calls or (turn is not turns[-1] and turn.role != "user"))


# Accepting


def test_what_is_accepted_says_where_it_comes_from() -> None:
    """Model, transcript, question and the rejected answer are in the metadata; none of it changes what it is."""
    example = example_of(PLAIN, remains_of(PLAIN, Lesson.WHOLE), MIB)
    assert example.id == PLAIN.example.id
    assert example.metadata["rejected"] == {"role": "assistant", "content": "Cuzco."}
    assert example.metadata["transcript"] == ORIGIN.transcript
    assert (example.metadata["question"], example.metadata["model"]) == (2, "thau-nano-v2")


def test_the_rejected_side_goes_where_the_answer_is_not_taught() -> None:
    """A rejected answer that was made of words from outside does not come in through the metadata."""
    taught = proposal_of(*CALLED, rejected=model("De fuera: nieva."))
    for lesson in (Lesson.CALLS, Lesson.ANSWER):
        assert "rejected" not in example_of(taught, remains_of(taught, lesson), MIB).metadata


def test_without_an_answer_or_over_the_limit_it_is_refused() -> None:
    """Before anything is written, with the reason."""
    waiting = proposal_of(user("¿?"), kind=Kind.BAD, rejected=model("mal"))
    with pytest.raises(RejectedInputError, match="no good answer yet"):
        example_of(waiting, remains_of(waiting, Lesson.WHOLE), MIB)
    with pytest.raises(RejectedInputError, match="over the limit of 100"):
        example_of(PLAIN, remains_of(PLAIN, Lesson.WHOLE), 100)


def test_an_edit_makes_a_pair_and_is_looked_at_again() -> None:
    """The answer that was replaced is the rejected one; what is from outside and what is secret is found anew."""
    good = proposal_of(user("¿?"), model("mal"), kind=Kind.GOOD)
    after = answered(good, "bien, password = 'hunter22'")
    assert after.rejected == model("mal")
    assert [each.kind for each in after.suspects] == ["Secret Keyword"]
    assert after.id == good.id
    longer = edited(good, json.dumps({"messages": [turn.to_json() for turn in CALLED], "tools": [TOOL]}))
    assert longer.outside == {2: "web_search"}
    for text in ("{", "[]", "{}", '{"messages": []}', '{"messages": [{"content": "x"}]}'):
        with pytest.raises(RejectedInputError, match="no example"):
            edited(good, text)
