"""The gate's verdicts, on answers made up for each case."""

from thaud.domain import Answer, ExamReport, Score, percent
from thaud.gate import Duel, compare, judge

BARS = {0: 0.70, 1: 0.75}


def answers(age: int, right: str) -> tuple[Answer, ...]:
    """One answer for each character: 1 is right, 0 wrong, _ empty."""
    return tuple(
        Answer(f"{age}-{number}", age, "" if mark == "_" else "x", float(mark == "1"), mark == "1")
        for number, mark in enumerate(right)
    )


def report(age: int, **by_age: str) -> ExamReport:
    held_out = tuple(answer for name, right in by_age.items() for answer in answers(int(name[1:]), right))
    return ExamReport("digest", age, held_out)


def verdict(challenger: ExamReport, champion: ExamReport | None) -> tuple[bool, str]:
    word = judge(challenger, champion, BARS, alpha=0.05, min_items=20)
    return word.accepted, " ".join(word.reasons)


def test_first_version_is_accepted_when_it_answers() -> None:
    """With no champion, one right answer is enough."""
    assert verdict(report(0, a0="1" + "0" * 33), None)[0]


def test_first_version_that_says_nothing_or_nothing_right_is_refused() -> None:
    """Empty answers, or none right among twenty, refuse even the first; so few as five prove nothing."""
    assert verdict(report(0, a0="_" * 8), None) == (False, "every answer is empty")
    assert verdict(report(0, a0="0" * 20), None)[0] is False
    assert verdict(report(0, a0="0" * 5), None)[0] is True


def test_first_version_without_an_exam_is_accepted() -> None:
    """Where nothing is held out yet there is no evidence against it."""
    assert verdict(report(0), None)[0]


def test_clearly_worse_is_refused_with_the_figures() -> None:
    """Six lost and none won (p = 1/64) refuses, and says so."""
    accepted, reason = verdict(report(0, a0="0" * 6 + "1" * 24), report(0, a0="1" * 30))
    assert not accepted
    assert "worse at age 0: 24/30 (80%)" in reason
    assert "p = 0.016" in reason


def test_noise_does_not_refuse() -> None:
    """One lost, or five lost and four won, is what chance does to an equal."""
    assert verdict(report(0, a0="0" + "1" * 29), report(0, a0="1" * 30))[0]
    assert verdict(report(0, a0="000001111" + "1" * 21), report(0, a0="111110000" + "1" * 21))[0]


def test_forgetting_an_earlier_stage_refuses() -> None:
    """A champion that meets an earlier bar is not replaced by one that does not, though the loss is small."""
    champion = report(1, a0="1" * 21 + "0" * 9, a1="0" * 30)
    challenger = report(1, a0="1" * 20 + "0" * 10, a1="1" * 30)
    accepted, reason = verdict(challenger, champion)
    assert not accepted
    assert "age 0 forgotten: 20/30 (67%)" in reason


def test_a_bar_counts_only_with_evidence() -> None:
    """With fewer than twenty items an earlier stage's bar refuses nothing."""
    champion = report(1, a0="1" * 8 + "0" * 2, a1="0" * 30)
    challenger = report(1, a0="1" * 6 + "0" * 4, a1="1" * 30)
    assert verdict(challenger, champion)[0]


def test_nothing_to_compare_is_said() -> None:
    """Where the stage has no held-out item the challenger is accepted, and the reason does not claim more."""
    assert verdict(report(1, a0="1" * 30), report(1, a0="1" * 30)) == (
        True,
        "nothing to compare: no held-out items at age 1",
    )


def test_hundred_percent_is_said_of_all_alone() -> None:
    """199 of 200 are not 100%."""
    assert (percent(199 / 200), percent(1.0), percent(0.824)) == ("99%", "100%", "82%")


def test_only_common_items_are_compared() -> None:
    """Items that the champion was not asked neither help nor harm."""
    duel = compare(answers(0, "1111"), answers(0, "10"))
    assert duel == Duel(Score(2, 2), Score(2, 1), wins=1, losses=0)


def test_sign_test_is_exact() -> None:
    """p of 5 losses in 6 discordant items is (6 + 1) / 64."""
    assert Duel(Score(9, 4), Score(9, 8), wins=1, losses=5).p_worse == 7 / 64
