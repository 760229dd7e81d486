"""What THAU asks of an Ollama server, one method for each exchange. Every failure is a ServerError.

Synchronous: the daemon calls it in a thread. Importing this module is light; the HTTP libraries are loaded by the first
exchange. Refuses to decide anything: what should be served is reconcile.py's, what a model must show proving.py's,
talking to a model ollama_runtime.py's.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
SHORT_S, WRITE_S, LOAD_S, CREATE_S = 30.0, 120.0, 600.0, 3600.0
NATIVE_TEMPLATES = (0, 30)
FILE_LINES = re.compile(r"^(?:FROM|ADAPTER) .*sha256[-:]([0-9a-f]{64})\s*$", re.MULTILINE)
UNREADABLE = re.compile(r"\bEOF\b|unexpected end of JSON|invalid character", re.IGNORECASE)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a model on the server is made from. Digests are bare hex; None leaves a part out.

    `adapter`: a GGUF LoRA that the server applies to `gguf`.
    """

    name: str
    gguf: Path
    gguf_sha256: str
    parameters: Mapping[str, Any]
    template: str | None = None
    system: str | None = None
    license: str | None = None
    adapter: Path | None = None
    adapter_sha256: str | None = None

    @property
    def digest(self) -> str:
        """The file's digest as the server writes it."""
        return f"sha256:{self.gguf_sha256}"

    @property
    def blobs(self) -> tuple[tuple[Path, str], ...]:
        """The files to be uploaded, with their digests as the server writes them."""
        own = ((self.gguf, self.digest),)
        return (*own, (self.adapter, f"sha256:{self.adapter_sha256}")) if self.adapter else own


@dataclass(frozen=True, slots=True)
class Shown:
    """What the server says of a model. `gguf` is the digest of the file it runs, which need not be the one uploaded;
    `adapter` that of the LoRA on it.
    """

    capabilities: frozenset[str]
    gguf: str | None
    license: str
    template: str
    adapter: str | None = None


class OllamaServer:
    """An Ollama server. `host` is whatever OLLAMA_HOST may hold."""

    def __init__(self, host: str) -> None:
        self.url = parse_host(host).url

    @contextmanager
    def _client(self, doing: str, timeout_s: float = SHORT_S) -> Iterator["ollama.Client"]:
        import ollama  # noqa: PLC0415 - heavy

        limits = connection(self.url) | {"timeout": patience(timeout_s)}
        with translated(self.url, doing), ollama.Client(self.url, **limits) as client:
            yield client

    @contextmanager
    def _http(self, doing: str, timeout_s: float = SHORT_S) -> Iterator["httpx.Client"]:
        import httpx  # noqa: PLC0415 - heavy

        with (
            translated(self.url, doing),
            httpx.Client(base_url=self.url, timeout=patience(timeout_s), **connection(self.url)) as client,
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
        stem = recipe.name.replace("/", "-").replace(":", "-")
        reach("ollama.create.before")
        with self._client(f"creating {recipe.name}", CREATE_S) as client:
            for line in client.create(
                recipe.name,
                files={f"{stem}.gguf": recipe.digest},
                adapters={f"{stem}-adapter.gguf": f"sha256:{recipe.adapter_sha256}"} if recipe.adapter else None,
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
        """What the server says of a model, or None where it has none of that name, or one whose manifest is broken."""
        with self._client(f"showing {name}") as client:
            try:
                answer = client.show(name)
            except _response_error() as error:
                if error.status_code == 404 or (error.status_code >= 500 and UNREADABLE.search(plain(error.error))):
                    return None
                raise
        files = [*FILE_LINES.findall(answer.modelfile or ""), None, None]
        return Shown(
            frozenset(answer.capabilities or ()),
            files[0],
            answer.license or "",
            answer.template or "",
            files[1],
        )

    def gguf_digest(self, name: str) -> str | None:
        """Bare hex digest of the file that a model runs, or None where there is no such model."""
        shown = self.show(name)
        return shown.gguf if shown else None

    def tags(self) -> dict[str, str]:
        """Full names of all models -> digest of the manifest: equal digests, equal models."""
        with self._client("listing its models") as client:
            return {full_name(model.model or ""): model.digest or "" for model in client.list().models}

    def size_of(self, names: Collection[str]) -> int:
        """What the models of these names take on the server, in bytes; two names of one model count once."""
        wanted = {full_name(name) for name in names}
        with self._client("listing its models") as client:
            models = client.list().models
        return sum(
            {each.digest: int(each.size or 0) for each in models if full_name(each.model or "") in wanted}.values()
        )

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

    def ask(self, name: str, messages: Sequence[Mapping[str, Any]], **more: Any) -> dict[str, Any]:
        """One whole answer of a chat, as the server gives it; `more` are further fields of the request.

        Nothing of what is asked is left out for want of room: that is a ServerError.
        """
        body = {"model": name, "messages": list(messages), "stream": False, "think": False}
        with self._http(f"trying {name}", LOAD_S) as client:
            answer: dict[str, Any] = client.post("/api/chat", json=body | whole() | more).raise_for_status().json()
        if "error" in answer:
            raise ServerError(f"Ollama at {self.url} refused while trying {name}: {refusal(answer['error'], 200)}")
        return answer


def whole() -> dict[str, bool]:
    """What keeps a server from cutting a prompt that does not fit, or from going on beyond its context."""
    return {"truncate": False, "shift": False}


def patience(answer_s: float) -> "httpx.Timeout":
    """How long to wait: to be let in, for each piece to be taken, and for each piece of an answer."""
    import httpx  # noqa: PLC0415 - heavy

    return httpx.Timeout(answer_s, connect=SHORT_S, write=WRITE_S, pool=SHORT_S)


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
    """A model's name as the server knows it: always with a tag, and whatever the case of its letters."""
    return (name if ":" in name.rpartition("/")[2] else f"{name}:latest").lower()
