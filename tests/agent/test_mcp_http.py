"""The MCP client against a real server on streamable HTTP."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from tests.agent.mcp_server import make
from tests.agent.test_mcp import Client, call
from tests.testkit.daemon import wait_until
from thaud.config import McpServer
from thaud.errors import ToolError


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """A streamable HTTP server on loopback."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = uvicorn.Server(
            uvicorn.Config(
                make(stateless_http=False).streamable_http_app(), log_level="error", ws="none", lifespan="on"
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [taken]}, daemon=True)
        thread.start()
        wait_until(lambda: server.started)
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/mcp"
        server.should_exit = True
        server.force_exit = True
        thread.join()


def test_a_server_on_http_is_called(tmp_path: Path, site: str) -> None:
    """Over streamable HTTP the same tools do the same, where the user allows private addresses."""
    with Client(tmp_path)(web=McpServer(url=site, allow_private=True)) as connected:
        assert connected.warnings == ()
        assert call(connected, "web__add", first=40, second=2) == "42"
        with pytest.raises(ToolError, match="no such thing"):
            call(connected, "web__fail")
        assert call(connected, "web__add", first=1) == "2"


def test_a_server_on_http_may_not_be_private_by_itself(tmp_path: Path, site: str) -> None:
    """The same address is refused where the user did not allow private ones: it goes through the guarded transport."""
    with Client(tmp_path)(web=McpServer(url=site)) as connected:
        assert connected.tools == ()
        assert "refused: 127.0.0.1: this machine; `allow_private = true` permits" in connected.warnings[0]
