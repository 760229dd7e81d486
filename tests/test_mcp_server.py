"""`thau mcp`, by a real client over standard streams: what it teaches is in the ledger, and nothing ends it."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from tests.agent.test_llama_cpp import TEMPLATE
from tests.seeded import freeze, make_home, open_ledger, promote, take_in
from tests.test_suspects import SECRETS
from tests.testkit.daemon import QUICK, look, running, wait_until
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.cli.desk import Desk
from thaud.cli.door import Door
from thaud.domain import Score
from thaud.errors import ModelError
from thaud.home import Home
from thaud.proposals import read_all

NEW = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-03-26", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path / "home")


def arguments(home: Home) -> list[str]:
    return ["-m", "thaud.cli", "--home", str(home.root), "mcp"]


@asynccontextmanager
async def client(home: Home) -> AsyncIterator[ClientSession]:
    ours = {**os.environ, **QUICK}
    server = StdioServerParameters(command=sys.executable, args=arguments(home), env=ours)
    with (home.root / "mcp.log").open("w") as log:
        async with stdio_client(server, errlog=log) as streams, ClientSession(*streams) as session:
            await session.initialize()
            yield session


async def call(session: ClientSession, tool: str, **values: Any) -> tuple[bool, Any]:
    """Whether it went well, and what was said: JSON where it did."""
    result = await session.call_tool(tool, values)
    text = result.content[0].text  # type: ignore[union-attr]
    return not result.isError, text if result.isError else json.loads(text)


def test_what_an_assistant_teaches_is_in_the_ledger(home: Home) -> None:
    """Queued with its id while no service runs, taken in by a real one, and known from then on."""

    async def taught() -> dict[str, Any]:
        async with client(home) as session:
            assert [tool.name for tool in (await session.list_tools()).tools] == ["teach", "ask", "status"]
            good, said = await call(session, "teach", instruction="¿Puerto de la API?", output="El 8765.")
            assert (good, said["status"], said["service"]) == (True, "queued", "stopped")
            assert (await call(session, "status"))[1]["family"] == "thau-nano"
            return dict(said)

    async def again() -> dict[str, Any]:
        async with client(home) as session:
            return dict((await call(session, "teach", instruction="¿Puerto de la API?", output="El 8765."))[1])

    said = anyio.run(taught)
    with running(home):
        wait_until(lambda: look(home, lambda ledger: ledger.known_ids([said["id"]])), what="the example")
        known = anyio.run(again)
    assert (known["status"], known["service"]) == ("known", "running")
    assert look(home, lambda ledger: ledger.one("SELECT count(*) FROM examples")) == 1


def test_what_is_no_example_is_refused_with_the_reason(home: Home) -> None:
    """As the drop-box would; a secret waits for a person; wrong calls are told; the server lives on."""

    async def talk() -> None:
        async with client(home) as session:
            for values, reason in (
                ({}, "this is no example"),
                ({"instruction": "¿?"}, "output is missing"),
                ({"messages": [{"role": "user", "content": "x"}]}, "ends with the assistant's"),
                ({"messages": "x"}, "'x' is not of type 'array'"),
                ({"instruction": "¿?", "output": "sí", "age": 999}, "age is the number 999"),
            ):
                good, said = await call(session, "teach", **values)
                assert (good, reason in said) == (False, True), said
            good, said = await call(session, "teach", instruction="¿?", output=SECRETS["AWS Access Key"])
            assert (good, said["status"]) == (True, "waiting")
            assert SECRETS["AWS Access Key"] not in json.dumps(said)
            assert [each.id for each in read_all(home.proposed)[0]] == [said["proposal"]]
            for tool, values, reason in (
                ("ask", {"question": "¿?"}, "no version of thau-nano yet"),
                ("ask", {}, "'question' is a required property"),
                ("remove_everything", {}, "no tool 'remove_everything'"),
            ):
                good, said = await call(session, tool, **values)
                assert (good, reason in said) == (False, True), said

    anyio.run(talk)
    assert list(home.queue.iterdir()) == []


def test_malformed_input_ends_nothing_and_only_protocol_is_on_standard_output(home: Home) -> None:
    """Lines that are no messages, and half a character; every line that comes back is JSON-RPC."""
    lines = [b"nonsense\n", b"\xff\xfe\n", b'{"jsonrpc": "2.0"}\n', b"[" * 5000 + b"\n", b"\n"]
    ask = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    server = subprocess.Popen(
        [sys.executable, *arguments(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **QUICK},
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(json.dumps(NEW).encode() + b"\n" + b"".join(lines))
    server.stdin.write(json.dumps(ready).encode() + b"\n" + json.dumps(ask).encode() + b"\n")
    server.stdin.flush()
    answered: list[dict[str, Any]] = []
    while 2 not in [each.get("id") for each in answered]:
        answered.append(json.loads(server.stdout.readline()))
    rest, _ = server.communicate(timeout=30)
    assert all(each["jsonrpc"] == "2.0" for each in [*answered, *map(json.loads, rest.splitlines())])
    assert server.returncode == 0


def test_a_home_that_is_none_is_said_before_anything_is_promised(tmp_path: Path) -> None:
    """With the usual exit code, and nothing on standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "thaud.cli", "--home", str(tmp_path), "mcp"],
        input=b"",
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"is no THAU home" in done.stderr


@pytest.fixture
def speaking(home: Home, tmp_path: Path) -> Home:
    """A home whose champion says one thing."""
    gguf = tmp_path / "1.gguf"
    write_scripted_gguf(gguf, ["Hola, soy ñandú."], chat_template=f"{TEMPLATE}{{% endif %}}")
    with open_ledger(home) as ledger:
        spec = freeze(ledger, take_in(ledger, 0, 3, "1.jsonl"), 0, "thau-nano")
        promote(ledger, spec, 1, Score(3, 3), None, str(gguf))
    return home


def test_an_assistant_asks_the_champion(speaking: Home) -> None:
    """It is loaded with the first question, whatever llama.cpp prints meanwhile, and its answers are bounded."""

    async def talk() -> None:
        async with client(speaking) as session:
            good, said = await call(session, "ask", question="Hola")
            assert (good, said["answer"], said["complete"]) == (True, "Hola, soy ñandú.", True)
            good, said = await call(session, "ask", question="Hola", max_tokens=1)
            assert (good, said["complete"], said["version"]) == (True, False, "thau-nano-v1")

    anyio.run(talk)


def test_a_question_has_its_time(speaking: Home, plain_environment: None) -> None:
    """A model that takes too long, and one that is busy, are said to be; afterwards the desk answers again."""
    desk = Desk(Door(speaking.root), ask_s=0.0, wait_s=0.01)
    with pytest.raises(ModelError, match="took more than 0 s"):
        desk.ask("Hola")
    desk.ask_s = 60.0
    with desk._answering, pytest.raises(ModelError, match="another question"):
        desk.ask("Hola")
    stop = threading.Event()
    stop.set()
    with pytest.raises(ModelError, match="nobody waits"):
        desk.ask("Hola", stop=stop)
    assert desk.ask("Hola")["complete"]
    desk.close()


def test_a_model_that_speaks_is_not_freed(home: Home, plain_environment: None) -> None:
    """A client that goes in the middle of an answer ends the desk, but only after the model has fallen silent."""
    desk, freed = Desk(Door(home.root)), threading.Event()
    desk._stack.callback(freed.set)
    closing = threading.Thread(target=desk.close)
    with desk._answering:
        closing.start()
        assert not freed.wait(0.1)
    closing.join(10)
    assert freed.is_set()


def test_a_client_that_goes_in_the_middle_of_an_answer_leaves_a_clean_end(speaking: Home) -> None:
    """Whatever the model was doing: exit status 0, no crash."""
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    asked = {"method": "tools/call", "params": {"name": "ask", "arguments": {"question": "Hola"}}, "jsonrpc": "2.0"}
    server = subprocess.Popen(
        [sys.executable, *arguments(speaking)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **QUICK},
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(b"".join(json.dumps(each).encode() + b"\n" for each in (NEW, ready, {**asked, "id": 2})))
    server.stdin.flush()
    while json.loads(server.stdout.readline())["id"] != 2:
        pass
    server.stdin.write(b"".join(json.dumps({**asked, "id": n}).encode() + b"\n" for n in range(3, 9)))
    server.stdin.flush()
    server.stdout.close()
    server.stdin.close()
    assert server.wait(30) == 0
