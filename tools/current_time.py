"""The date and time, in a zone. Owns nothing: the clock is the context's and the zones are the system's."""

from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Context, Risk, tool

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def zone_named(name: str) -> tzinfo:
    """The zone of an IANA name. Raises ToolError for a name that the system does not know."""
    if name.upper() in {"UTC", "GMT", "Z"}:
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise ToolError(f"no time zone {name!r}: use an IANA name such as Europe/Madrid or America/Bogota") from error


def tell(moment: datetime, zone: str) -> str:
    """A moment with its weekday, offset from UTC and zone, the same under every locale."""
    return f"{WEEKDAYS[moment.weekday()]} {moment.isoformat(sep=' ', timespec='seconds')} ({zone})"


def current_time(context: Context, timezone: Annotated[str, Field(max_length=64)] | None = None) -> str:
    """The current date, weekday and time.

    Raises ToolError for an unknown zone.

    Args:
        timezone: IANA name such as Europe/Madrid; leave it out for the user's own zone
    """
    now = context.clock()
    if timezone:
        return tell(now.astimezone(zone_named(timezone)), timezone)
    return tell(now, now.tzname() or "local time")


TOOL = tool(current_time, Risk.COMPUTES)
