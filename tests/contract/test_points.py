"""The table of the contract's points names tests that exist."""

import importlib

import pytest

from tests.contract.points import POINTS, REASONS


def test_every_point_is_there() -> None:
    """All fifteen, in order, and reasons for points only."""
    assert list(POINTS) == list(range(1, 16))
    assert REASONS.keys() <= POINTS.keys()


@pytest.mark.parametrize("point", POINTS)
def test_point_has_its_tests(point: int) -> None:
    """Each named test exists, says its point's number, and runs on every target unless a reason is given."""
    _, names = POINTS[point]
    assert names
    for name in names:
        module, _, function = name.partition(".")
        test = getattr(importlib.import_module(f"tests.contract.{module}"), function)
        assert f"{point}." in (test.__doc__ or ""), name
        assert "target" in test.__code__.co_varnames or point in REASONS, name
