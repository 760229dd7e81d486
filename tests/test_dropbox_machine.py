"""Any order of what writers, crashes and the daemon do: at least 2,000 steps of tests/dropbox_machine.py."""

from tests.dropbox_machine import STEPS, run
from tests.dropbox_model import POINTS
from thaud.failpoints import POINTS as ALL_POINTS

RULES = {
    "write",
    "append",
    "append_half",
    "append_rest",
    "truncate",
    "overwrite",
    "replace",
    "rename",
    "copy",
    "delete",
    "pack",
    "complete",
    "look",
    "restart",
    "crash",
    "killed",
    "train",
}


def test_two_thousand_steps() -> None:
    """After each look of 2,000 steps in any order: nothing lost, nothing doubled, no file of a user changed; every
    kind of step was among them, and processes did die.
    """
    before = STEPS.copy()
    assert run(2_000, long=False) >= 2_000
    done = STEPS - before
    assert {rule for rule in RULES if not done[rule]} == set()


def test_its_fail_points_are_ours() -> None:
    """A renamed fail-point is a renamed one here: a crash that never comes would prove nothing."""
    assert set(POINTS) <= set(ALL_POINTS)
