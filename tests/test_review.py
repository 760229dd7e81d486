"""`thau review`: what is accepted is in the drop-box once, what is not stays, and nothing is decided by accident."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tests.seeded import make_home
from tests.test_proposals import CALLED, PLAIN, model, proposal_of, user
from tests.test_suspects import SECRETS
from thaud.cli.door import Door
from thaud.cli.review_words import EN, ES
from thaud.cli.reviewing import Reviewing
from thaud.domain import Example
from thaud.formats import parse_line
from thaud.home import Home
from thaud.proposals import Kind, Proposal, answered, keep, read_all
from thaud.proposals.folder import withdraw

Invoke = Callable[..., tuple[int, str, str]]
GOOD = proposal_of(*CALLED, kind=Kind.GOOD)
WAITING = proposal_of(user("¿?"), kind=Kind.BAD, rejected=model("mal"))
SECRET = proposal_of(user("¿Clave?"), model(SECRETS["AWS Access Key"]))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


@pytest.fixture
def proposed(home: Home) -> Home:
    for each in (PLAIN, GOOD, WAITING, SECRET):
        keep(home.proposed, each)
    return home


def queued(home: Home) -> list[Example]:
    """What is in the drop-box, in any order."""
    lines = [line for path in home.queue.glob("*.jsonl") for line in path.read_bytes().splitlines()]
    examples = [parse_line(line) for line in lines]
    assert all(isinstance(each, Example) for each in examples)
    return [each for each in examples if isinstance(each, Example)]


def waiting(home: Home) -> set[str]:
    return {each.id for each in read_all(home.proposed)[0]}


def test_an_accepted_proposal_is_in_the_drop_box_and_waits_no_more(proposed: Home, thau: Invoke) -> None:
    """With where it came from; the others wait on."""
    code, out, err = thau("review", PLAIN.id, "--accept")
    assert (code, err) == (0, "")
    assert "Accepted: reviewed-" in out
    (example,) = queued(proposed)
    assert example.id == PLAIN.example.id
    assert example.metadata["source"] == "review"
    assert waiting(proposed) == {GOOD.id, WAITING.id, SECRET.id}


def test_words_from_outside_are_left_out_unless_kept(proposed: Home, thau: Invoke) -> None:
    """By default the call alone is taught; --lesson and --keep-outside say otherwise, and contradict each other."""
    assert thau("review", GOOD.id, "--accept", "--keep-outside", "--lesson", "calls")[0] == 2
    assert "the question and the first call" in thau("review", GOOD.id)[1]
    assert "the question and the final answer" in thau("review", GOOD.id, "--lesson", "answer")[1]
    assert thau("review", GOOD.id, "--accept")[0] == 0
    (example,) = queued(proposed)
    assert example.messages == CALLED[:2]
    keep(proposed.proposed, GOOD)
    assert thau("review", GOOD.id, "--accept", "--keep-outside")[0] == 0
    assert GOOD.example.messages in [each.messages for each in queued(proposed)]


def test_a_secret_needs_a_word_of_its_own(proposed: Home, thau: Invoke) -> None:
    """Without --with-secrets nothing is done, and neither list nor JSON shows it."""
    code, out, err = thau("review", SECRET.id, PLAIN.id, "--accept")
    assert code == 2
    assert "AWS Access Key in messages[1].content, line 1" in err
    assert queued(proposed) == []
    for shown in (("--list",), ("--json",), (SECRET.id,)):
        assert SECRETS["AWS Access Key"] not in thau("review", *shown)[1]
    assert SECRETS["AWS Access Key"] not in out + err
    assert thau("review", SECRET.id, "--accept", "--with-secrets")[0] == 0
    assert len(queued(proposed)) == 1


def test_a_bad_answer_needs_a_good_one(proposed: Home, thau: Invoke) -> None:
    """Without one it is refused and waits; --answer writes it, --accept takes it."""
    code, _, err = thau("review", WAITING.id, "--accept")
    assert code == 12
    assert "no good answer yet" in err
    assert thau("review", WAITING.id, "--answer", " ")[0] == 12
    assert thau("review", WAITING.id, "--answer", "bien")[0] == 0
    code, out, _ = thau("review", WAITING.id, "--accept", "--json")
    assert code == 0
    assert json.loads(out)[0]["status"] == "accepted"
    (example,) = queued(proposed)
    assert example.completion.content == "bien"
    assert example.metadata["rejected"]["content"] == "mal"


def test_a_dropped_proposal_is_gone(proposed: Home, thau: Invoke) -> None:
    """And nothing is in the drop-box of it."""
    assert thau("review", PLAIN.id, "--drop")[1] == f"Dropped: {PLAIN.id}\n"
    assert PLAIN.id not in waiting(proposed)
    assert queued(proposed) == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--accept",), "name the proposals"),
        (("nobody", "--accept"), "no proposal 'nobody' waits"),
        ((PLAIN.id, "--accept", "--drop"), "choose one"),
        ((PLAIN.id, "--accept", "--list"), "--list decides nothing"),
        ((PLAIN.id, GOOD.id, "--answer", "x"), "one proposal"),
    ],
)
def test_what_contradicts_itself_is_refused(
    proposed: Home, thau: Invoke, words: tuple[str, ...], complaint: str
) -> None:
    """With exit code 2, and everything waits on."""
    code, _, err = thau("review", *words)
    assert (code, complaint in err) == (2, True)
    assert len(waiting(proposed)) == 4


def test_the_list_names_what_is_to_be_looked_at(proposed: Home, thau: Invoke) -> None:
    """Kind, question, tools, secrets and missing answers; damaged files by name. Status and doctor say it too."""
    (proposed.proposed / "broken.json").write_text("{")
    code, out, _ = thau("review", "--list")
    assert code == 0
    for said in ("web_search", "AWS Access Key", "…?", "corrected answer", "broken.json cannot be read"):
        assert said in out
    report = json.loads(thau("review", "--list", "--json")[1])
    assert len(report["proposals"]) == 4
    assert report["damaged"][0]["file"] == "broken.json"
    remains = {each["id"]: each["remains"] for each in report["proposals"]}
    assert remains[GOOD.id]["lesson"] == "calls"
    assert "Proposals that wait for review: 5" in thau("status")[1]
    assert json.loads(thau("status", "--json")[1])["proposals"] == 5


def test_without_proposals_it_says_so(home: Home, thau: Invoke) -> None:
    """No folder, no error."""
    assert thau("review") == (0, "No proposals wait.\n", "")


def test_what_drives_terminals_is_shown_escaped_or_not_at_all(home: Home, thau: Invoke) -> None:
    """Neither the list, nor a proposal in full, nor JSON lets it through; JSON still says it."""
    driving = "rojo \x1b[31m \x9b31m \u202e fin"
    odd = proposal_of(user(driving), model(driving))
    keep(home.proposed, odd)
    for arguments in (("--list",), (odd.id,), ("--json",)):
        out = thau("review", *arguments)[1]
        assert "fin" in out
        assert not {"\x1b", "\x9b", "\u202e"} & set(out)
    assert json.loads(out)["proposals"][0]["example"]["messages"][0]["content"] == driving


# On a terminal


def reviewing(
    home: Home,
    keys: list[str],
    edits: tuple[str | None, ...] = (),
    change: Callable[[str], str | None] | None = None,
    order: list[Proposal] | None = None,
) -> tuple[str, list[str]]:
    """A review with these keys and these results of the editor; what was printed, and what the editor was given."""
    door = Door(home.root)
    door.console = Console(record=True, width=200, file=io.StringIO())
    typed, changed = iter(keys), iter(edits)
    given: list[str] = []

    def read(_: str) -> str:
        key = next(typed, None)
        if key is None:
            raise EOFError
        return key

    def hand_over(text: str) -> str | None:
        given.append(text)
        return next(changed)

    Reviewing(door, EN, order or read_all(home.proposed)[0], read, change or hand_over).run()
    return door.console.export_text(), given


def only(home: Home, proposal: Proposal) -> None:
    keep(home.proposed, proposal)


def test_a_review_shows_and_asks_one_after_another(proposed: Home, plain_environment: None) -> None:
    """Accept, drop with a second word, skip, quit: each does what it says, and the end counts."""
    order = [each.id for each in read_all(proposed.proposed)[0]]
    said, _ = reviewing(proposed, ["zz", "s", "d", "n", "d", "y", "q"])
    assert "Type one of these letters" in said
    assert "Accepted: 0; dropped: 1; waiting: 3." in said
    assert waiting(proposed) == {*order} - {order[1]}


def test_the_difference_is_shown(home: Home, plain_environment: None) -> None:
    """The bad answer beside the good one, and the end of input decides nothing."""
    only(home, PLAIN)
    said, _ = reviewing(home, [])
    assert "- Cuzco." in said
    assert "+ Lima." in said
    assert waiting(home) == {PLAIN.id}


def test_a_secret_is_asked_about_again(home: Home, plain_environment: None) -> None:
    """No is no; yes accepts; it is shown neither time."""
    only(home, SECRET)
    said, _ = reviewing(home, ["a", "n", "q"])
    assert "Looks like a secret: AWS Access Key" in said
    assert queued(home) == []
    again, _ = reviewing(home, ["a", "y"])
    assert len(queued(home)) == 1
    assert SECRETS["AWS Access Key"] not in said + again


def test_the_reviewer_hears_what_remains_and_chooses(home: Home, plain_environment: None) -> None:
    """The call by default, with l the answer, which stands on words that are not there; k keeps them all."""
    only(home, GOOD)
    said, _ = reviewing(home, ["l", "a"])
    assert "the question and the first call" in said
    assert "Careful: the answer stands on words that are not there any more." in said
    (example,) = queued(home)
    assert example.messages == (CALLED[0], CALLED[3])
    only(home, GOOD)
    reviewing(home, ["k"])
    assert GOOD.example.messages in [each.messages for each in queued(home)]


def test_an_edit_that_will_not_do_is_told_and_edited_again(home: Home, plain_environment: None) -> None:
    """The text is handed back as it was left; what is kept is what was good, and the old answer is the bad one."""
    only(home, proposal_of(user("¿?"), model("mal"), kind=Kind.GOOD))
    said, given = reviewing(home, ["e", "y", "a"], ("</s>", "bien"))
    assert "It will not do: this is no example: the completion is only special tokens" in said
    assert given == ["mal", "</s>"]
    (example,) = queued(home)
    assert (example.completion.content, example.metadata["rejected"]["content"]) == ("bien", "mal")


def test_what_ends_an_editor_does_not_end_the_review(home: Home, plain_environment: None) -> None:
    """Ctrl-C meant for it leaves the proposal as it was, and the next key is read."""
    only(home, PLAIN)

    def change(_: str) -> str:
        raise KeyboardInterrupt

    said, _ = reviewing(home, ["e", "a"], change=change)
    assert "Nothing was changed." in said
    assert [each.completion.content for each in queued(home)] == ["Lima."]


def test_everything_can_be_edited(home: Home, plain_environment: None) -> None:
    """As JSON; giving up leaves it as it was, and an answer that was missing can be written so."""
    only(home, WAITING)
    row = {"messages": [{"role": "user", "content": "¿2+2?"}, {"role": "assistant", "content": "4"}]}
    reviewing(home, ["a", "j", "n", "e", "q"], ("{", None))
    assert read_all(home.proposed)[0] == [WAITING]
    reviewing(home, ["j", "a"], (json.dumps(row),))
    (example,) = queued(home)
    assert example.completion.content == "4"


def test_what_somebody_else_decided_meanwhile_is_not_decided_again(proposed: Home, plain_environment: None) -> None:
    """Neither what is dropped comes back by an edit or an accept, nor is another's edit lost."""
    only(proposed, PLAIN)
    order = read_all(proposed.proposed)[0]
    at = order.index(PLAIN)
    edited = answered(PLAIN, "Lima, en la costa.")
    for meanwhile in (lambda: withdraw(proposed.proposed, PLAIN), lambda: keep(proposed.proposed, edited)):
        keep(proposed.proposed, PLAIN)

        def change(_: str, meanwhile: Callable[[], object] = meanwhile) -> str:
            meanwhile()
            return "Lima, creo."

        said, _ = reviewing(proposed, [*"s" * at, "e", "a", "q"], change=change, order=order)
        assert said.count("meanwhile") == 2
        assert "Lima, creo." not in str(read_all(proposed.proposed))
        assert queued(proposed) == []
    assert edited in read_all(proposed.proposed)[0]
    said, _ = reviewing(proposed, ["q"])
    assert "meanwhile" not in said


def test_both_languages_have_every_key() -> None:
    """Each decision has one letter in each language."""
    assert sorted(ES.keys.values()) == sorted(EN.keys.values())
    assert len(ES.keys) == len(set(ES.keys.values()))
    assert ES.kinds.keys() == EN.kinds.keys() == set(Kind)
