"""The fake's HTTP: routes, statuses, streams, faults on demand. A real socket on 127.0.0.1; standard library alone."""

import ipaddress
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, ClassVar, Literal, Self

from thaud.serving.fake.faults import Fault, at_once, faulty, faulty_upload
from thaud.serving.fake.gojson import go_json
from thaud.serving.fake.making import create
from thaud.serving.fake.protocol import BrokenConnection, Refusal
from thaud.serving.fake.reading import copied, deleted, embedded, listed, running, shown
from thaud.serving.fake.scripts import Script
from thaud.serving.fake.speaking import Speaker
from thaud.serving.fake.store import CHUNK_BYTES, Store

Generation = Literal["new", "old"]
VERSIONS = {"new": "0.33.0", "old": "0.24.0"}
Line = dict[str, Any]


class FakeOllama:
    """A running fake server; use it as a context manager. `folder` keeps blobs and models over restarts.

    `requests` lists what was asked, as (method, path), `asked` the bodies of chats; `left` the paths of the requests
    whose client went away before the end. `faults` are consumed in order by the routes they name, `scripts` by chats.
    """

    def __init__(self, generation: Generation = "new", folder: Path | None = None, port: int = 0) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="fake-ollama-") if folder is None else None
        self.store = Store(folder or Path(self._temporary.name if self._temporary else ""))
        self.generation: Generation = generation
        self.speaker = Speaker(self.store, generation == "new")
        self.faults: list[Fault] = []
        self.scripts: list[Script] = []
        self.asked: list[Line] = []
        self.left: list[str] = []
        self.requests: list[tuple[str, str]] = []
        self.ended = Event()
        self.lock = Lock()
        handler = type("Handler", (_Handler,), {"fake": self})
        self._server = _Server(("127.0.0.1", port), handler)
        self._server.daemon_threads = True
        self._thread = Thread(target=self._server.serve_forever, args=(0.02,), name="fake-ollama", daemon=True)

    @property
    def version(self) -> str:
        """What /api/version says."""
        return VERSIONS[self.generation]

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> Self:
        """Begin to answer."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop answering and close the socket; a temporary folder goes. Whatever hangs is let go."""
        self.ended.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self.speaker.presses.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def fault_for(self, route: str) -> Fault | None:
        """The next fault of a route, which is used up by asking."""
        with self.lock:
            fault = next((fault for fault in self.faults if fault.route == route), None)
            if fault is not None:
                self.faults.remove(fault)
            return fault

    def next_script(self) -> Script | None:
        """The next script, which is used up by asking."""
        with self.lock:
            return self.scripts.pop(0) if self.scripts else None


class _Server(ThreadingHTTPServer):
    """A client that is killed in the middle of an exchange is no error of the server's."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say only what is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """One connection. Answers come as the real server writes them: chunked NDJSON streams, single JSON bodies."""

    fake: ClassVar[FakeOllama]
    protocol_version = "HTTP/1.1"
    timeout = 60
    routes: ClassVar[dict[str, tuple[str, ...]]] = {
        "/": ("GET", "HEAD"),
        "/api/version": ("GET", "HEAD"),
        "/api/tags": ("GET", "HEAD"),
        "/api/ps": ("GET",),
        "/api/create": ("POST",),
        "/api/show": ("POST",),
        "/api/copy": ("POST",),
        "/api/delete": ("DELETE",),
        "/api/chat": ("POST",),
        "/api/generate": ("POST",),
        "/api/embed": ("POST",),
        "/api/pull": ("POST",),
    }

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Keep quiet."""

    def do_GET(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        self.fake.requests.append((self.command, self.path))
        try:
            self._route()
        except Refusal as refusal:
            self._refuse(refusal)
        except BrokenConnection:
            self.close_connection = True
        except (BrokenPipeError, ConnectionResetError):
            self.fake.left.append(self.path)
            self.close_connection = True

    def _route(self) -> None:
        if not local_host(self.headers.get("Host", "")):
            raise Refusal(403, None)
        blob = self.path.startswith("/api/blobs/")
        methods = ("HEAD", "POST") if blob else self.routes.get(self.path)
        if methods is None:
            self.close_connection = True  # The request's body is unread.
            self._answer(404, b"404 page not found", "text/plain")
        elif self.command not in methods:
            allowed = ", ".join(methods)
            self.close_connection = True
            self._answer(405, b"405 method not allowed", "text/plain", {"Allow": allowed})
        elif blob:
            self._blob(self.path.removeprefix("/api/blobs/"))
        else:
            self._call(self.path.removeprefix("/api/").strip("/"))

    def _blob(self, digest: str) -> None:
        path = self.fake.store.blob(digest)
        if self.command == "HEAD":
            self._answer(200 if path.exists() else 404, b"")
            return
        if path.exists():
            self.close_connection = True  # The upload is not read: the connection closes under the sender.
            self._answer(200, b"")
            return
        chunks, fault = self._body(), self.fake.fault_for("blobs")
        if fault is not None:
            at_once(fault, self.fake.ended)
            chunks = faulty_upload(chunks, fault, self.fake.ended)
        self.fake.store.receive(digest, chunks)
        self._answer(201, b"")

    def _body(self) -> Iterator[bytes]:
        left = int(self.headers.get("Content-Length") or 0)
        while left:
            chunk = self.rfile.read(min(CHUNK_BYTES, left))
            if not chunk:
                raise BrokenConnection
            left -= len(chunk)
            yield chunk

    def _call(self, route: str) -> None:
        fake = self.fake
        plain: dict[str, Callable[[], Any]] = {
            "version": lambda: {"version": fake.version},
            "tags": lambda: listed(fake.speaker),
            "ps": lambda: running(fake.speaker),
            "show": lambda: shown(fake.speaker, self._json()),
            "copy": lambda: copied(fake.store, self._json()),
            "delete": lambda: deleted(fake.store, self._json()),
            "embed": lambda: embedded(fake.speaker, self._json()),
        }
        fault = fake.fault_for(route)
        if fault is not None:
            at_once(fault, fake.ended)
            self._break_off(fault, route in plain)
        if not route:
            self._answer(200, b"Ollama is running", "text/plain; charset=utf-8")
        elif route in plain:
            with fake.store.lock:  # A list is not torn by a model that goes meanwhile.
                answer = plain[route]()
            body = b"" if answer is None else go_json(answer).encode()
            self._answer(200, body, "application/json; charset=utf-8")
        elif route == "chat":
            self._chat(self._json(), fault)
        else:
            self._stream(route, self._json(), fault)

    def _chat(self, body: Line, fault: Fault | None) -> None:
        self.fake.asked.append(body)
        script = self.fake.next_script()
        if script is None:
            self._stream("chat", body, fault)
        elif script.status != 200:
            self.close_connection = True
            self._answer(script.status, b"".join(script.pieces), "application/json; charset=utf-8")
        else:
            self._begin_stream()
            for piece in script.pieces:
                self._chunk(piece)
            if script.drops:
                raise BrokenConnection
            self._chunk(b"")

    def _json(self) -> Line:
        data = b"".join(self._body())
        if not data:
            raise Refusal(400, "missing request body")
        try:
            body = json.loads(data)
        except json.JSONDecodeError:
            raise Refusal(400, "unexpected EOF") from None
        if not isinstance(body, dict):
            raise Refusal(400, "json: cannot unmarshal array into Go value of type api.ChatRequest")
        return body

    def _break_off(self, fault: Fault, single: bool) -> None:  # noqa: FBT001 - one caller
        """A single answer has no lines behind which to go wrong."""
        if single and fault.kind in {"drop", "cut"}:
            raise BrokenConnection
        if single and fault.kind in {"error", "full"}:
            list(faulty(iter(()), fault, self.fake.ended))

    def _lines(self, route: str, body: Line) -> Iterator[Line]:
        if route == "create":
            return create(self.fake.store, body, new=self.fake.generation == "new")
        if route == "pull":
            return not_pulled()
        return self.fake.speaker.answer(body, chat=route == "chat")

    def _stream(self, route: str, body: Line, fault: Fault | None) -> None:
        lines = self._lines(route, body)
        lines = lines if fault is None else faulty(lines, fault, self.fake.ended)
        if body.get("stream") is False or body.get("_debug_render_only"):
            self._answer(200, go_json(joined(list(lines))).encode(), "application/json; charset=utf-8")
            return
        first = list(itertools.islice(lines, 1))  # An error before the first line still has a status of its own.
        self._begin_stream()
        for line in error_as_line(itertools.chain(first, lines)):
            self._chunk(go_json(line).encode() + b"\n")
        self._chunk(b"")

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def _refuse(self, refusal: Refusal) -> None:
        self.close_connection = True  # Part of the request may be unread.
        body = b"" if refusal.error is None else go_json({"error": refusal.error}).encode()
        self._answer(refusal.status, body, "application/json; charset=utf-8")

    def _answer(self, status: int, body: bytes, kind: str | None = None, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        if kind is not None and body:
            self.send_header("Content-Type", kind)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def local_host(header: str) -> bool:
    """Whether a Host header is one that a server bound to loopback listens to."""
    host = header.rpartition(":")[0] if header.count(":") == 1 else header.strip("[]")
    if host == "localhost" or host.endswith((".local", ".localhost", ".internal")):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False


def error_as_line(lines: Iterator[Line]) -> Iterator[Line]:
    """Once a line was sent, an error can only be the last one."""
    try:
        yield from lines
    except Refusal as refusal:
        yield {"error": refusal.error}


def joined(lines: list[Line]) -> Line:
    """What `stream: false` answers: the last line, with all the text and all the calls."""
    last: Line = dict(lines[-1]) if lines else {"done": False}
    if "response" in last:
        last["response"] = "".join(line.get("response", "") for line in lines)
    elif "message" in last:
        messages = [line["message"] for line in lines if "message" in line]
        calls = [call for message in messages for call in message.get("tool_calls", ())]
        thoughts = "".join(message.get("thinking", "") for message in messages)
        content = "".join(message.get("content", "") for message in messages)
        extra = {"thinking": thoughts, "tool_calls": calls}
        last["message"] = {"role": "assistant", "content": content, **{k: v for k, v in extra.items() if v}}
    if sure := [token for line in lines for token in line.get("logprobs", ())]:
        last["logprobs"] = sure
    return last


def not_pulled() -> Iterator[Line]:
    """There is no registry behind the fake."""
    yield {"status": "pulling manifest"}
    raise Refusal(500, "pull model manifest: file does not exist")
