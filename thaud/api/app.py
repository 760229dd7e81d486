"""The routes. Imports FastAPI and uvicorn, so it is imported only when somebody asks (server.py)."""

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import fastapi
import uvicorn
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from thaud import __version__
from thaud.api.guard import refusal
from thaud.api.page import docs_page
from thaud.config import Settings
from thaud.control import Request
from thaud.domain import Example, QueuedExample, Rejection
from thaud.dropbox import write_examples
from thaud.errors import HomeError, RejectedInputError, StorageError, ThauError, UsageError
from thaud.formats import example_to_line, parse_line, parse_object
from thaud.home import Home
from thaud.ledger import LedgerReader
from thaud.status import report_stats, report_status, with_daemon

MAX_BODY_BYTES = 8 << 20
DRAINED_BYTES = 8 * MAX_BODY_BYTES  # read on for a while, so that the client is still there to hear the refusal
CLOSED_BY_CLIENT = 499
STATUS_CODES: tuple[tuple[type[ThauError], int], ...] = (
    (RejectedInputError, 422),
    (UsageError, 422),
    (HomeError, 503),
    (StorageError, 503),
)
EXAMPLE = {"instruction": "¿Qué es un algoritmo?", "output": "Un conjunto de pasos ordenados", "age": 3}
QUEUED = {"id": "312d33cf87...", "status": "queued", "file": "api-eda68eb9e4f744f6.jsonl"}
REFUSED = {"error": "this is no example: the completion is empty: write the answer"}
BATCH = {
    "queued": 1,
    "rejected": 0,
    "file": "api-741fac954a3b43ed.jsonl",
    "results": [{"index": 0, "status": "queued", "id": "312d33cf87..."}],
}
PROGRESS = {"examples": 350, "min_examples": 500, "progress_pct": 70, "can_advance": False, "blockers": ["examples"]}
STATUS = {
    "model": "thau-1.5b-v3",
    "version": 3,
    "running": None,
    "paused": [],
    "cognitive": {"current_age": 3, "stage": "toddler", "progress": PROGRESS},
    "service": {"total_examples_trained": 750, "trainings_completed": 3, "pending": 0, "rejected_lines": 0},
}
ACCURACY = {"n": 50, "right": 41, "accuracy": 0.82}
SERVED = {"embedded": True, "ollama": []}
VERSION = {"name": "thau-1.5b-v3", "n": 3, "age": 3, "accuracy": ACCURACY, "kind": "f16", "served": SERVED}
STATS = {**STATUS, "versions": [VERSION], "metrics": {"examples_per_day": 40, "rejected_runs": 0}}
PENDING_ONE = {"id": "312d33cf87...", "age": 3, "file": "age_3_toddler.jsonl", "line": 1, "messages": []}
PENDING = {"total": 1, "by_age": {"3": 1}, "examples": [PENDING_ONE]}
Limit = Annotated[int, fastapi.Query(ge=1, le=1000)]


@dataclass(frozen=True, slots=True)
class Routes:
    """What each route does."""

    home: Home
    settings: Settings
    on_request: Callable[[Request], None]

    async def index(self) -> JSONResponse:
        """Where everything is."""
        return JSONResponse({"thau": __version__, "docs": "/docs", "status": "/status", "stats": "/stats"})

    async def add(self, request: fastapi.Request) -> JSONResponse:
        """Queue one example. Any accepted dialect will do: `instruction` and `output`, `prompt` and `completion`,
        `messages`, or `conversations`; `age`, `group`, `grader` and `metadata` may stand beside them.
        """
        example = parse_line(await read_body(request))
        if isinstance(example, Rejection):
            raise RejectedInputError(f"this is no example: {example.reason}")
        file = await asyncio.to_thread(self.queue, [example])
        return JSONResponse({"id": example.id, "status": "queued", "file": file})

    async def batch(self, request: fastapi.Request) -> JSONResponse:
        """Queue many examples: a list, or an object with it in `examples`. The good are queued, and `results` says of
        each what became of it; 422 where none is good.
        """
        items = [parse_object(row) for row in rows_in(await read_body(request))]
        good = [item for item in items if isinstance(item, Example)]
        file = await asyncio.to_thread(self.queue, good) if good else None
        results = [item_report(index, item) for index, item in enumerate(items)]
        body = {"queued": len(good), "rejected": len(items) - len(good), "file": file, "results": results}
        return JSONResponse(body if good else {"error": "none of them is an example", **body}, 200 if good else 422)

    def queue(self, examples: list[Example]) -> str:
        """Put examples into the drop-box; the file's name."""
        return write_examples(self.home.queue, map(example_to_line, examples), "api").name

    async def force(self) -> JSONResponse:
        """Train now, without waiting for enough examples or for the interval. `/status` shows what comes of it."""
        self.on_request(Request.TRAIN)
        return JSONResponse({"status": "requested"}, 202)

    async def status(self) -> JSONResponse:
        """The model, its age, what is missing for the next one, totals."""
        return JSONResponse({**await asyncio.to_thread(self.report, report_status), "daemon": True})

    async def stats(self) -> JSONResponse:
        """The status, and beside it every version, the latest runs and key figures."""
        return JSONResponse({**await asyncio.to_thread(self.report, report_stats), "daemon": True})

    def report(self, make: Callable[[LedgerReader, Settings], dict[str, Any]]) -> dict[str, Any]:
        """One of status.py's reports."""
        with LedgerReader.open(self.home.ledger) as ledger:
            return with_daemon(make(ledger, self.settings), self.home, datetime.now(UTC))

    async def pending(self, limit: Limit = 100) -> JSONResponse:
        """Examples that wait to be taught, oldest first, those of later ages included."""
        return JSONResponse(await asyncio.to_thread(self.read_pending, limit))

    def read_pending(self, limit: int) -> dict[str, Any]:
        """What waits, from the ledger."""
        family = self.settings.family
        with LedgerReader.open(self.home.ledger) as ledger:
            waiting = ledger.waiting_by_age(family)
            examples = [example_report(each) for each in ledger.pending_examples(family, limit)]
        by_age = {str(age): n for age, n in waiting.items()}
        return {"total": sum(waiting.values()), "by_age": by_age, "examples": examples}


def example_report(queued: QueuedExample) -> dict[str, Any]:
    """A waiting example."""
    where = {"id": queued.id, "age": queued.age, "file": queued.file, "line": queued.line}
    return {**where, **queued.example.content, "metadata": dict(queued.example.metadata)}


def item_report(index: int, item: Example | Rejection) -> dict[str, Any]:
    """What became of one item of a batch."""
    if isinstance(item, Rejection):
        return {"index": index, "status": "rejected", "error": item.reason}
    return {"index": index, "status": "queued", "id": item.id}


def rows_in(body: bytes) -> list[Any]:
    """The items of a batch. Raises RejectedInputError where there is no list."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RejectedInputError(f"the body is not JSON: {error}") from error
    rows = value.get("examples") if isinstance(value, dict) else value
    if not isinstance(rows, list) or not rows:
        raise RejectedInputError('the body holds no examples: send a list, or {"examples": [...]}')
    return rows


async def read_body(request: fastapi.Request) -> bytes:
    """The body, if it is not too large. Raises HTTPException 413."""
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY_BYTES:
            body += chunk
        elif size > DRAINED_BYTES:
            break
    if size > MAX_BODY_BYTES:
        raise HTTPException(413, f"the body is over {MAX_BODY_BYTES} bytes: copy a file into the drop-box instead")
    return bytes(body)


def make_app(home: Home, settings: Settings, *, on_request: Callable[[Request], None]) -> fastapi.FastAPI:
    """The application of one home."""
    app = fastapi.FastAPI(
        title="THAU",
        version=__version__,
        description=(
            'Queue training examples, and see how THAU grows. Every error is `{"error": "one line"}`: 403 a page of '
            "another site or a foreign host name, 413 a body over 8 MiB, 422 no example, 503 the disk or the ledger."
        ),
        docs_url=None,
        redoc_url=None,
    )
    add_routes(app, Routes(home, settings, on_request))
    add_error_handlers(app)

    @app.middleware("http")
    async def guard(
        request: fastapi.Request, go_on: Callable[[fastapi.Request], Awaitable[fastapi.Response]]
    ) -> fastapi.Response:
        if reason := refusal(request.method, request.headers, settings.api.host):
            return JSONResponse({"error": reason}, 403)
        return await go_on(request)

    return app


def add_routes(app: fastapi.FastAPI, routes: Routes) -> None:
    """Every route, in the order in which /docs shows them."""
    add, batch = answer(200, QUEUED) | answer(422, REFUSED), answer(200, BATCH)
    app.add_api_route("/training/add", routes.add, methods=["POST"], openapi_extra=body_of(EXAMPLE), responses=add)
    app.add_api_route(
        "/training/batch",
        routes.batch,
        methods=["POST"],
        openapi_extra=body_of({"examples": [EXAMPLE]}),
        responses=batch,
    )
    force = answer(202, {"status": "requested"})
    app.add_api_route("/training/force", routes.force, methods=["POST"], status_code=202, responses=force)
    app.add_api_route("/status", routes.status, methods=["GET"], responses=answer(200, STATUS))
    app.add_api_route("/stats", routes.stats, methods=["GET"], responses=answer(200, STATS))
    app.add_api_route("/examples/pending", routes.pending, methods=["GET"], responses=answer(200, PENDING))
    app.add_api_route("/", routes.index, methods=["GET"])

    async def docs(request: fastapi.Request) -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi(), str(request.base_url).rstrip("/")))

    app.add_api_route("/docs", docs, methods=["GET"], include_in_schema=False)


def body_of(example: Any) -> dict[str, Any]:
    """A body for the schema; what is accepted is decided by formats, not by the schema."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": {}, "example": example}}}}


def answer(code: int, example: Any) -> dict[int | str, dict[str, Any]]:
    """An answer for the schema."""
    return {code: {"content": {"application/json": {"example": example}}}}


def add_error_handlers(app: fastapi.FastAPI) -> None:
    """Every error as one line of JSON."""

    async def on_ours(_: fastapi.Request, error: Exception) -> JSONResponse:
        code = next((code for kind, code in STATUS_CODES if isinstance(error, kind)), 500)
        return JSONResponse({"error": str(error)}, code)

    async def on_http(request: fastapi.Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        unknown = f"there is no {request.method} {request.url.path}: see /docs"
        said = unknown if error.status_code in {404, 405} else error.detail
        return JSONResponse({"error": said}, error.status_code, error.headers)

    async def on_parameter(_: fastapi.Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return JSONResponse({"error": f"{first['loc'][-1]} = {first.get('input')!r}: {first['msg'].lower()}"}, 422)

    async def on_ledger(_: fastapi.Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"the ledger cannot be read now: {error}"}, 503)

    async def on_gone(_: fastapi.Request, __: Exception) -> JSONResponse:
        return JSONResponse({"error": "the client closed the connection"}, CLOSED_BY_CLIENT)

    app.add_exception_handler(ThauError, on_ours)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_parameter)
    app.add_exception_handler(sqlite3.Error, on_ledger)
    app.add_exception_handler(ClientDisconnect, on_gone)


def make_server(app: fastapi.FastAPI, stop: asyncio.Event) -> uvicorn.Server:
    """A server that ends with `stop`, leaves the signals to the daemon, and does not wake up ten times a second."""
    return QuietServer(
        uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            log_level="warning",
            access_log=False,
            date_header=False,
            server_header=False,
            timeout_graceful_shutdown=2,
        ),
        stop,
    )


class QuietServer(uvicorn.Server):
    """uvicorn without its own signals and timer: `stop` is all it waits for."""

    def __init__(self, config: uvicorn.Config, stop: asyncio.Event) -> None:
        super().__init__(config)
        self.stop = stop

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The daemon handles signals."""
        yield

    async def main_loop(self) -> None:
        """Wait for the end."""
        await self.on_tick(0)
        await self.stop.wait()
