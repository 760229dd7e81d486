"""The gate: may a challenger take the champion's place? Pure: reports in, Verdict out.

Both were asked the same held-out items. A challenger is refused where the evidence says that it is worse, on the
current stage or on an earlier one; noise alone does not refuse it (McNemar 1947, exact form: the sign test on the items
that one answered and the other did not).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb

from thaud.domain import Answer, ExamReport, Score, Verdict, percent, score_answers


@dataclass(frozen=True, slots=True)
class Duel:
    """What two models answered to the same items."""

    challenger: Score
    champion: Score
    wins: int
    losses: int

    @property
    def p_worse(self) -> float:
        """One-sided p of losing this often if both were equal."""
        discordant = self.wins + self.losses
        as_often = sum(comb(discordant, k) for k in range(self.losses, discordant + 1))
        return float(as_often / 2**discordant)


def compare(challenger: tuple[Answer, ...], champion: tuple[Answer, ...]) -> Duel:
    """Pair the answers by example; items that only one was asked do not count."""
    theirs = {answer.example_id: answer for answer in champion}
    pairs = [(mine, theirs[mine.example_id]) for mine in challenger if mine.example_id in theirs]
    wins = sum(mine.correct and not other.correct for mine, other in pairs)
    losses = sum(other.correct and not mine.correct for mine, other in pairs)
    return Duel(score_answers([mine for mine, _ in pairs]), score_answers([other for _, other in pairs]), wins, losses)


def judge(
    challenger: ExamReport, champion: ExamReport | None, bars: Mapping[int, float], *, alpha: float, min_items: int
) -> Verdict:
    """Decide. `bars` maps each age to its accuracy; a stage with fewer than `min_items` items has no bar to break."""
    if champion is None:
        return judge_first(challenger, min_items)
    reasons: list[str] = []
    for age in sorted({answer.age for answer in challenger.held_out}):
        duel = compare(at(challenger, age), at(champion, age))
        if complaint := find_fault(duel, age, challenger.age, bars.get(age, 0.0), alpha=alpha, min_items=min_items):
            reasons.append(complaint)
    if reasons:
        return Verdict(accepted=False, reasons=tuple(reasons))
    duel = compare(at(challenger, challenger.age), at(champion, challenger.age))
    if not duel.champion.n:
        return Verdict(accepted=True, reasons=(f"nothing to compare: no held-out items at age {challenger.age}",))
    said = f"no worse than the champion: {say(duel.challenger)} against {say(duel.champion)} at age {challenger.age}"
    return Verdict(accepted=True, reasons=(said,))


def judge_first(challenger: ExamReport, min_items: int) -> Verdict:
    """The first version has nobody to be worse than, but it must answer, and not everything wrong."""
    if challenger.held_out and not any(answer.answer.strip() for answer in challenger.held_out):
        return Verdict(accepted=False, reasons=("every answer is empty",))
    score = challenger.accuracy
    if score.n >= min_items and not score.right:
        return Verdict(accepted=False, reasons=(f"none of {score.n} held-out answers is right",))
    return Verdict(accepted=True, reasons=(f"first version: {say(score)} at age {challenger.age}",))


def find_fault(duel: Duel, age: int, current_age: int, bar: float, *, alpha: float, min_items: int) -> str | None:
    """Why this age speaks against the challenger, or None."""
    if duel.losses > duel.wins and duel.p_worse < alpha:
        return (
            f"worse at age {age}: {say(duel.challenger)} against the champion's {say(duel.champion)} "
            f"({duel.losses} lost, {duel.wins} won, p = {duel.p_worse:.3f})"
        )
    enough = duel.champion.n >= min_items
    held_bar = duel.champion.accuracy >= bar > duel.challenger.accuracy
    if age < current_age and enough and held_bar:
        return f"age {age} forgotten: {say(duel.challenger)}, under its bar of {bar:.0%}; champion {say(duel.champion)}"
    return None


def at(report: ExamReport, age: int) -> tuple[Answer, ...]:
    """The held-out answers of one age."""
    return tuple(answer for answer in report.held_out if answer.age == age)


def say(score: Score) -> str:
    """A score in words: `32/34 (94%)`."""
    return f"{score.right}/{score.n} ({percent(score.accuracy)})"
