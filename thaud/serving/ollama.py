"""What THAU asks of an Ollama server, one method for each exchange. Every failure is a ServerError.

Synchronous: the daemon calls it in a thread. Importing this module is light; the HTTP libraries are loaded by the first
exchange. Refuses to decide anything: what should be served is reconcile.py's, talking to a model ollama_runtime.py's.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from thaud.errors import ServerError, StorageError
from thaud.failpoints import reach
from thaud.serving.address import parse_host, reachable
from thaud.serving.ollama_errors import connection, plain, refusal, translated

if TYPE_CHECKING:
    import httpx
    import ollama

__all__ = ["OllamaServer", "Progress", "Recipe", "Shown", "full_name", "reachable"]

CHUNK_BYTES = 1 << 20
SHORT_S, LOAD_S, CREATE_S = 30.0, 600.0, 3600.0
NATIVE_TEMPLATES = (0, 30)
FROM_LINE = re.compile(r"^FROM .*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model on the server is made from. `gguf_sha256` is bare hex; None leaves a part out."""

    name: str
    gguf: Path
    gguf_sha256: str
    parameters: Mapping[str, Any]
    template: str | None = None
    system: str | None = None
    license: str | None = None

    @property
    def digest(self) -> str:
        """The file's digest as the server writes it."""
        return f"sha256:{self.gguf_sha256}"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server says of a model. `gguf` is the digest of the file it runs, which need not be the one uploaded."""

    capabilities: frozenset[str]
    gguf: str | None
    license: str
    template: str


class OllamaServer:
    """An Ollama server. `host` is whatever OLLAMA_HOST may hold."""

    def __init__(self, host: str) -> None:
        self.url = parse_host(host).url

    @contextmanager
    def _client(self, doing: str, timeout_s: float = SHORT_S) -> Iterator["ollama.Client"]:
        import ollama  # noqa: PLC0415 - heavy

        with translated(self.url, doing), ollama.Client(self.url, timeout=timeout_s, **connection(self.url)) as client:
            yield client

    @contextmanager
    def _http(self, doing: str, timeout_s: float = SHORT_S) -> Iterator["httpx.Client"]:
        import httpx  # noqa: PLC0415 - heavy

        with (
            translated(self.url, doing),
            httpx.Client(base_url=self.url, timeout=timeout_s, **connection(self.url)) as client,
        ):
            yield client

    def version(self) -> str:
        """The server's version, e.g. `0.33.0`."""
        with self._http("asking for its version") as client:
            answer = client.get("/api/version").raise_for_status().json()["version"]
            return str(answer)

    def has_blob(self, digest: str) -> bool:
        """Whether the server holds the file with this `sha256:...` digest."""
        with self._http("looking for an uploaded file") as client:
            answer = client.head(f"/api/blobs/{digest}")
        if answer.status_code not in {200, 404}:
            raise ServerError(f"Ollama at {self.url} answered {answer.status_code} when asked for the blob {digest}")
        return answer.status_code == 200

    def push_blob(self, path: Path, digest: str, progress: Progress | None = None) -> bool:
        """Upload a file unless the server has it; True when bytes were sent. `progress` gets (sent, all) in bytes."""
        if self.has_blob(digest):
            return False
        reach("ollama.push.before")
        try:
            size = path.stat().st_size
            with self._http(f"receiving {path.name}", CREATE_S) as client:
                answer = client.post(
                    f"/api/blobs/{digest}",
                    content=read_chunks(path, size, progress),
                    headers={"Content-Length": str(size), "Content-Type": "application/octet-stream"},
                )
        except OSError as error:
            raise StorageError(f"cannot read {path}: {error.strerror}") from error
        if answer.status_code not in {200, 201}:
            reason = refusal(answer.text, answer.status_code)
            raise ServerError(f"Ollama at {self.url} refused the upload of {path.name}: {reason}")
        reach("ollama.push.after")
        return True

    def create(self, recipe: Recipe, progress: Callable[[str], None] | None = None) -> None:
        """Make a model of an uploaded file; one of that name is replaced. `progress` gets the server's status lines."""
        status = ""
        reach("ollama.create.before")
        with self._client(f"creating {recipe.name}", CREATE_S) as client:
            for line in client.create(
                recipe.name,
                files={f"{recipe.name.replace(':', '-')}.gguf": recipe.digest},
                template=recipe.template,
                system=recipe.system,
                license=recipe.license,
                parameters=dict(recipe.parameters),
                stream=True,
            ):
                status = line.status or ""
                if progress is not None:
                    progress(status)
        if status != "success":
            raise ServerError(f"Ollama at {self.url} stopped creating {recipe.name} after {plain(status)!r}: try again")
        reach("ollama.create.after")

    def show(self, name: str) -> Shown | None:
        """What the server says of a model, or None where it has none of that name."""
        with self._client(f"showing {name}") as client:
            try:
                answer = client.show(name)
            except _response_error() as error:
                if error.status_code == 404:
                    return None
                raise
        source = FROM_LINE.search(answer.modelfile or "")
        return Shown(
            frozenset(answer.capabilities or ()),
            source and source[1],
            answer.license or "",
            answer.template or "",
        )

    def gguf_digest(self, name: str) -> str | None:
        """Bare hex digest of the file that a model runs, or None where there is no such model."""
        shown = self.show(name)
        return shown.gguf if shown else None

    def tags(self) -> dict[str, str]:
        """Full names of all models -> digest of the manifest: equal digests, equal models."""
        with self._client("listing its models") as client:
            return {model.model or "": model.digest or "" for model in client.list().models}

    def copy(self, source: str, destination: str) -> None:
        """Give a model a second name; one that had it loses it."""
        reach("ollama.copy.before")
        with self._client(f"copying {source} to {destination}") as client:
            client.copy(source, destination)
        reach("ollama.copy.after")

    def delete(self, name: str) -> bool:
        """Delete a name; False where there was none."""
        reach("ollama.delete.before")
        with self._client(f"deleting {name}") as client:
            try:
                client.delete(name)
            except _response_error() as error:
                if error.status_code == 404:
                    return False
                raise
        reach("ollama.delete.after")
        return True

    def unload(self, name: str) -> None:
        """Stop a model's runner, so that the next question meets what was created last, not what was loaded before."""
        reach("ollama.unload.before")
        with self._client(f"unloading {name}", LOAD_S) as client:
            client.generate(name, keep_alive=0)
        reach("ollama.unload.after")

    def smoke(self, name: str, context_tokens: int) -> None:
        """Have a model say one token through its chat template, with a fresh runner that is stopped afterwards."""
        self.unload(name)
        with self._client(f"trying {name}", LOAD_S) as client:
            answer = client.chat(
                name,
                [{"role": "user", "content": "1"}],
                options={"num_predict": 1, "temperature": 0.0, "num_ctx": context_tokens},
                think=False,
                keep_alive=0,
            )
        if not (answer.done and answer.eval_count):
            raise ServerError(f"Ollama at {self.url} made {name}, but it says nothing: see the server's log")


def _response_error() -> type["ollama.ResponseError"]:
    import ollama  # noqa: PLC0415 - heavy

    return ollama.ResponseError


def read_chunks(path: Path, size: int, progress: Progress | None) -> Iterator[bytes]:
    """A file's bytes, piece by piece, telling how far it has come."""
    sent = 0
    with path.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            yield chunk
            sent += len(chunk)
            if progress is not None:
                progress(sent, size)


def has_native_templates(version: str) -> bool:
    """Whether a server of this version runs the GGUF's own template. A development build (0.0.0) is taken as new."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    return numbers >= NATIVE_TEMPLATES or numbers == (0, 0) or not numbers


def full_name(name: str) -> str:
    """A model's name as the server lists it: always with a tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
