"""How models write tool calls, one dialect a file with the same function: `parse(text, offered) -> Parsed`.

What stands in Hermes' tags was meant as a call, and is a call or a problem. The other dialects look like JSON that
people talk about; there a call is only what ends the reply, names an offered tool and validates. All else is text.
"""

from agent.dialects.curtain import Curtain, Screen
from agent.dialects.every import parse
from agent.dialects.reading import Offered, Parsed

__all__ = ["Curtain", "Offered", "Parsed", "Screen", "parse"]
