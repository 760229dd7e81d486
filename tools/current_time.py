"""The date and time, in a zone. Owns nothing: the clock is the context's and the zones are the system's."""

from datetime import UTC, datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import Field

from thaud.errors import ToolError
from tools.base import Arguments, Context, Risk, Tool

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


class CurrentTimeArguments(Arguments):
    """What the model may ask."""

    timezone: Annotated[
        str | None,
        Field(description="IANA name such as Europe/Madrid; leave it out for the user's own zone", max_length=64),
    ] = None


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


def current_time(arguments: CurrentTimeArguments, context: Context) -> str:
    """The time now. Raises ToolError for an unknown zone."""
    now = context.clock()
    if arguments.timezone:
        return tell(now.astimezone(zone_named(arguments.timezone)), arguments.timezone)
    return tell(now, now.tzname() or "local time")


TOOL = Tool(
    name="current_time",
    description="The current date, weekday and time.",
    arguments=CurrentTimeArguments,
    risk=Risk.COMPUTES,
    action=current_time,
)
