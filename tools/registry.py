"""THAU's own tools, named one by one, so that what a model can reach is what is read here. Others': plugins.py.

The order counts: a small context is offered the first ones.
"""

from tools import (
    calculator,
    code_analysis,
    current_time,
    edit_file,
    fetch_url,
    list_files,
    read_file,
    recall,
    run_python,
    run_shell,
    search_files,
    web_search,
    write_file,
)
from tools.base import Tool

TOOLS: tuple[Tool, ...] = (
    calculator.TOOL,
    current_time.TOOL,
    read_file.TOOL,
    web_search.TOOL,
    recall.TOOL,
    list_files.TOOL,
    search_files.TOOL,
    write_file.TOOL,
    edit_file.TOOL,
    run_python.TOOL,
    run_shell.TOOL,
    fetch_url.TOOL,
    code_analysis.TOOL,
)
