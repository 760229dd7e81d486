import socket
from collections.abc import Iterator

import pytest

from thaud.errors import ToolError
from tools.base import Context
from tools.web_search import TOOL, format_results


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """ddgs is told of a proxy that refuses every connection: no network, whatever the machine has."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("DDGS_PROXY", f"http://127.0.0.1:{taken.getsockname()[1]}")
        yield


@pytest.mark.usefixtures("nowhere")
def test_no_network_is_an_error(context: Context) -> None:
    """Where nothing can be reached the call fails and says so; it never returns an empty list of results."""
    with pytest.raises(ToolError, match=r"search unavailable: \w"):
        TOOL.run(TOOL.validate({"query": "capital of France"}), context)


def test_results_are_numbered_and_short() -> None:
    """Each result is a title, an address and one line of text that is cut where it is long."""
    rows = [{"title": "Paris", "href": "https://example.org", "body": "a\n b " + "x" * 400}, {"title": "Lyon"}]
    lines = format_results(rows).splitlines()
    assert lines[:2] == ["1. Paris", "   https://example.org"]
    assert lines[2].startswith("   a b xxx")
    assert lines[2].endswith("…")
    assert len(lines[2]) < 310
    assert lines[3] == "2. Lyon"


@pytest.mark.parametrize("arguments", [{}, {"query": ""}, {"query": "x", "max_results": 50}, {"query": "x", "page": 1}])
def test_arguments_are_bounded(arguments: dict[str, object]) -> None:
    """A search without words, with too many results or with unknown arguments is not made."""
    with pytest.raises(ToolError, match="web_search"):
        TOOL.validate(arguments)
