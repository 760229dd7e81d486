import pytest

from thaud.errors import ToolError
from tools.base import Context
from tools.current_time import TOOL


def test_it_tells_the_clock_it_was_given(context: Context) -> None:
    """The time is the context's, with weekday, offset and zone."""
    assert TOOL.perform(TOOL.accept({}), context) == "Sunday 2026-03-01 12:30:00+00:00 (UTC)"


@pytest.mark.parametrize(
    ("zone", "told"),
    [
        ("Europe/Madrid", "Sunday 2026-03-01 13:30:00+01:00 (Europe/Madrid)"),
        ("America/Bogota", "Sunday 2026-03-01 07:30:00-05:00 (America/Bogota)"),
        ("Pacific/Auckland", "Monday 2026-03-02 01:30:00+13:00 (Pacific/Auckland)"),
        ("utc", "Sunday 2026-03-01 12:30:00+00:00 (utc)"),
    ],
)
def test_it_tells_the_time_elsewhere(context: Context, zone: str, told: str) -> None:
    """An IANA zone moves the time, and the date where it must."""
    assert TOOL.perform(TOOL.accept({"timezone": zone}), context) == told


@pytest.mark.parametrize("zone", ["Atlantis/Capital", "../../etc/passwd", "/etc/localtime", "Europe", "\0", "CEST5"])
def test_an_unknown_zone_is_named(context: Context, zone: str) -> None:
    """A zone that is none gives a message, whatever it looks like."""
    with pytest.raises(ToolError, match="no time zone"):
        TOOL.perform(TOOL.accept({"timezone": zone}), context)
