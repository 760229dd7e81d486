import asyncio
import html
import json
import shlex
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.seeded import make_home, open_ledger, seed_guide_sample, take_in
from thaud.api.guard import refusal
from thaud.api.server import bind, serve_http, serve_on
from thaud.config import Api, Settings
from thaud.control import Request
from thaud.domain import Example
from thaud.errors import ConfigError
from thaud.formats import parse_line
from thaud.home import Home

MIB = 1 << 20
TIMEOUT_S = 20


@dataclass
class Running:
    """A door that is open on a free port."""

    home: Home
    url: str
    asked: list[Request]

    def get(self, path: str, **kwargs: Any) -> requests.Response:
        return requests.get(self.url + path, timeout=TIMEOUT_S, **kwargs)

    def post(self, path: str, **kwargs: Any) -> requests.Response:
        return requests.post(self.url + path, timeout=TIMEOUT_S, **kwargs)

    def queued(self) -> list[Example]:
        lines = [line for path in sorted(self.home.queue.iterdir()) for line in path.read_bytes().splitlines()]
        examples = [parse_line(line) for line in lines]
        assert all(isinstance(each, Example) for each in examples)
        return [each for each in examples if isinstance(each, Example)]


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Running]:
    """The real thing: serve_on in a loop of its own, uvicorn and all."""
    home, settings = make_home(tmp_path / "home", "1.5b"), Settings(size="1.5b", api=Api(port=0))
    asked: list[Request] = []
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    listener = bind(settings.api)
    host, port = listener.getsockname()
    work = serve_on(listener, home, settings, asked.append, stop)
    thread = threading.Thread(target=loop.run_until_complete, args=(work,))
    thread.start()
    try:
        yield Running(home, f"http://{host}:{port}", asked)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(TIMEOUT_S)
        listener.close()
        assert not thread.is_alive()
        loop.close()


# The guide


def test_the_guides_curl(door: Running) -> None:
    """The guide's curl command, as it stands but for the port, queues its example."""
    body = """{
    "instruction": "¿Qué es un algoritmo?",
    "output": "Un algoritmo es un conjunto de pasos ordenados para resolver un problema..."
  }"""
    response = door.post("/training/add", headers={"Content-Type": "application/json"}, data=body.encode())
    (example,) = door.queued()
    assert response.status_code == 200
    assert response.json()["status"] == "queued"
    assert response.json()["id"] == example.id
    assert example.prompt[0].content == "¿Qué es un algoritmo?"
    assert (door.home.queue / response.json()["file"]).is_file()


def test_the_guides_teach_thau(door: Running) -> None:
    """The guide's `requests` snippet works, and its metadata is kept."""

    def teach_thau(question: str, answer: str) -> None:
        requests.post(
            f"{door.url}/training/add",
            json={
                "instruction": question,
                "output": answer,
                "metadata": {"source": "project", "date": "2025-01-13"},
            },
            timeout=TIMEOUT_S,
        )

    teach_thau("¿Cómo funciona el módulo de autenticación?", "El módulo usa OAuth 2.0 con refresh tokens...")
    (example,) = door.queued()
    assert example.metadata == {"source": "project", "date": "2025-01-13"}


def test_the_guides_metrics(door: Running) -> None:
    """The guide's metrics snippet finds its fields in /stats, and /status has them too."""
    seed_guide_sample(door.home)
    for path in ("/stats", "/status"):
        stats = door.get(path).json()
        assert stats["cognitive"]["current_age"] == 3
        assert stats["cognitive"]["progress"]["progress_pct"] == 70
        assert stats["service"]["total_examples_trained"] == 750
        assert stats["daemon"] is True
    assert [version["name"] for version in door.get("/stats").json()["versions"]][-1] == "thau-1.5b-v3"


# Adding


@pytest.mark.parametrize(
    "body",
    [
        {"instruction": "2 + 2", "output": "4", "system": "Sé breve", "age": 1, "group": "sum"},
        {"prompt": "2 + 2", "completion": "4"},
        {"messages": [{"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}]},
        {"conversations": [{"from": "human", "value": "2 + 2"}, {"from": "gpt", "value": "4"}]},
    ],
)
def test_every_dialect_is_accepted(door: Running, body: dict[str, Any]) -> None:
    """/training/add takes what the drop-box takes."""
    assert door.post("/training/add", json=body).status_code == 200
    (example,) = door.queued()
    assert example.completion.content == "4"
    assert (example.age, example.group) == (body.get("age"), body.get("group"))


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"{broken", "not JSON"), (b'{"x": 1}', "no known dialect"), (b"[]", "list"), (b"", "not JSON")],
)
def test_what_is_no_example_is_refused(door: Running, body: bytes, said: str) -> None:
    """A bad example is a 422 with the reason in one line, and nothing is queued."""
    response = door.post("/training/add", data=body)
    assert response.status_code == 422
    assert response.json().keys() == {"error"}
    assert said in response.json()["error"]
    assert door.queued() == []


@pytest.mark.parametrize("wrapped", [False, True], ids=["list", "object"])
def test_a_batch_queues_the_good_and_tells_the_bad(door: Running, wrapped: bool) -> None:  # noqa: FBT001 - parameter
    """/training/batch reports on each item, and puts the good ones into one file."""
    rows: list[Any] = [{"instruction": "a", "output": "b"}, {"x": 1}, 3, {"instruction": "c", "output": "d"}]
    response = door.post("/training/batch", json={"examples": rows} if wrapped else rows)
    report = response.json()
    assert response.status_code == 200
    assert (report["queued"], report["rejected"]) == (2, 2)
    assert [each["status"] for each in report["results"]] == ["queued", "rejected", "rejected", "queued"]
    assert [each.id for each in door.queued()] == [report["results"][0]["id"], report["results"][3]["id"]]
    assert len(list(door.home.queue.iterdir())) == 1


@pytest.mark.parametrize("body", [b"[]", b"{}", b"{", b'{"examples": 3}', b'[{"x": 1}]', b"[" * 100_000])
def test_a_batch_without_examples_is_refused(door: Running, body: bytes) -> None:
    """A batch in which nothing is an example is a 422, and nothing is queued."""
    response = door.post("/training/batch", data=body)
    assert response.status_code == 422
    assert response.json()["error"]
    assert door.queued() == []


def test_a_body_that_is_too_large_is_refused(door: Running) -> None:
    """8 MiB are the most that a request may carry, declared or chunked; the client hears it."""
    body = b"x" * (9 * MIB)
    for data in (body, iter([body])):
        response = door.post("/training/add", data=data)
        assert response.status_code == 413
        assert "drop-box" in response.json()["error"]


def test_a_drop_box_that_refuses_is_a_503(door: Running) -> None:
    """Where the disk refuses, the client hears it and may try again."""
    door.home.queue.rmdir()
    response = door.post("/training/add", json={"instruction": "a", "output": "b"})
    assert response.status_code == 503
    assert "drop-box" in response.json()["error"]


# The other routes


def test_force_asks_the_daemon(door: Running) -> None:
    """/training/force hands the request on and does not wait for the training."""
    response = door.post("/training/force")
    assert (response.status_code, response.json()) == (202, {"status": "requested"})
    assert door.asked == [Request.TRAIN]


def test_pending_lists_what_waits(door: Running) -> None:
    """/examples/pending counts all that waits and shows the oldest, those of later ages included."""
    with open_ledger(door.home) as ledger:
        take_in(ledger, 0, 5, "a.jsonl")
        take_in(ledger, 3, 2, "b.jsonl")
    report = door.get("/examples/pending", params={"limit": 6}).json()
    assert (report["total"], report["by_age"], len(report["examples"])) == (7, {"0": 5, "3": 2}, 6)
    first = report["examples"][0]
    assert (first["file"], first["line"], first["age"]) == ("a.jsonl", 1, 0)
    assert first["messages"][-1] == {"role": "assistant", "content": "respuesta 0"}
    assert door.get("/examples/pending", params={"limit": 0}).status_code == 422


def test_docs_need_no_network(door: Running) -> None:
    """/docs names every route and loads nothing from anywhere."""
    page = door.get("/docs")
    schema = door.get("/openapi.json").json()
    assert page.headers["content-type"].startswith("text/html")
    assert schema["paths"].keys() >= {"/training/add", "/training/batch", "/training/force", "/status", "/stats"}
    assert all(path in page.text for path in schema["paths"])
    assert "src=" not in page.text
    assert "<link" not in page.text


def test_commands_in_docs_can_be_pasted(door: Running) -> None:
    """The first command that /docs shows queues its example, wherever the door listens."""
    page = html.unescape(door.get("/docs").text)
    command = page[page.index("curl -X POST") : page.index("</pre>")]
    words = shlex.split(command.replace("\\\n", " "))
    url, body = words[words.index("POST") + 1], words[words.index("-d") + 1]
    assert url == f"{door.url}/training/add"
    assert requests.post(url, data=body.encode(), timeout=TIMEOUT_S).json()["status"] == "queued"
    (example,) = door.queued()
    assert example.prompt[0].content == "¿Qué es un algoritmo?"


@pytest.mark.parametrize("path", ["/status", "/stats", "/examples/pending"])
def test_docs_show_what_is_answered(door: Running, path: str) -> None:
    """Every field of an answer that /docs shows is in the answer itself."""

    def fields(value: Any) -> set[str]:
        own = set(value) if isinstance(value, dict) else set()
        return own.union(*map(fields, value.values())) if isinstance(value, dict) else own

    responses = door.get("/openapi.json").json()["paths"][path]["get"]["responses"]
    shown = responses["200"]["content"]["application/json"]["example"]
    seed_guide_sample(door.home)
    assert fields(shown) - {"3"} <= fields(door.get(path).json())


def test_errors_are_one_line_of_json(door: Running) -> None:
    """An unknown path, a wrong method and a missing ledger are {"error": ...} with the right status."""
    door.home.ledger.unlink()
    assert door.get("/nowhere").json() == {"error": "there is no GET /nowhere: see /docs"}
    for code, response in (
        (404, door.get("/nowhere")),
        (405, door.get("/training/add")),
        (503, door.get("/status")),
        (200, door.get("/")),
    ):
        assert response.status_code == code
        assert ("error" in response.json()) == (code != 200)


# Who may ask


def test_pages_of_other_sites_may_not_write(door: Running) -> None:
    """A browser's post on behalf of another site is refused; our own pages and programs are not."""
    row = {"instruction": "a", "output": "b"}
    for origin in ("http://evil.example", "null", "https://127.0.0.1:1"):
        assert door.post("/training/add", json=row, headers={"Origin": origin}).status_code == 403
    assert door.queued() == []
    assert door.post("/training/add", json=row, headers={"Origin": door.url}).status_code == 200


def test_a_name_that_was_pointed_here_is_refused(door: Running) -> None:
    """DNS rebinding: a Host that is no name of this machine is refused, for reading too."""
    assert door.get("/status", headers={"Host": "evil.example"}).status_code == 403
    assert door.get("/status", headers={"Host": "localhost:8000"}).status_code == 200


@pytest.mark.parametrize(
    ("bound_to", "host", "refused"),
    [
        ("127.0.0.1", "localhost:8000", False),
        ("127.0.0.1", "127.0.0.1:8000", False),
        ("127.0.0.1", "[::1]:8000", False),
        ("127.0.0.1", "", True),
        ("127.0.0.1", "[", True),
        ("127.0.0.1", "localhost.evil.example", True),
        ("0.0.0.0", "thau.example:8000", False),
    ],
)
def test_hosts(bound_to: str, host: str, refused: bool) -> None:  # noqa: FBT001 - a parameter of the table
    """Names of this machine are known in all their forms; who binds to all addresses chose to."""
    assert (refusal("GET", {"host": host}, bound_to) is not None) == refused


# The socket


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    """A port that is taken is named, with the variable that changes it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = Settings(api=Api(port=port))
        with pytest.raises(ConfigError, match=rf"port {port}.*THAU_API__PORT"):
            asyncio.run(serve_http(Home(tmp_path), settings, lambda _: None, asyncio.Event()))


def test_nobody_asks_and_nothing_is_loaded(tmp_path: Path) -> None:
    """FastAPI and uvicorn come with the first connection, and stop ends a door that nobody has knocked at."""
    script = """
        import asyncio, json, sys, urllib.request
        from pathlib import Path
        from thaud.api.server import bind, serve_on
        from thaud.config import Api, Settings
        from thaud.home import Home

        async def live(home, knock):
            stop, listener = asyncio.Event(), bind(Api(port=0))
            url = "http://%s:%d/" % listener.getsockname()
            async with asyncio.TaskGroup() as group:
                group.create_task(serve_on(listener, home, Settings(), print, stop))
                await asyncio.sleep(0)
                if knock:
                    await asyncio.to_thread(lambda: urllib.request.urlopen(url).read())
                stop.set()
            return sorted({"fastapi", "uvicorn", "starlette"} & sys.modules.keys())

        home = Home(Path(sys.argv[1]))
        found = [asyncio.run(live(home, False)), asyncio.run(live(home, True))]
        print(json.dumps(found))
    """
    words = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(words, check=True, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout.splitlines()[-1]) == [[], ["fastapi", "starlette", "uvicorn"]]
