"""The tools there are, named one by one: nothing is discovered, so what a model can reach is what is read here."""

from typing import Any

from tools import calculator, current_time, read_file, web_search
from tools.base import Tool

TOOLS: tuple[Tool[Any], ...] = (calculator.TOOL, current_time.TOOL, read_file.TOOL, web_search.TOOL)
