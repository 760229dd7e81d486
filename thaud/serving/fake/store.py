"""What the fake keeps on disk: blobs by digest, a manifest for each name. A restart on the same folder finds both."""

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from thaud.serving.fake.protocol import DIGEST, Name, Refusal

CHUNK_BYTES = 1 << 20
MEDIA = "application/vnd.ollama.image."


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model: its display name, its layers by media type, and when it was made."""

    name: str
    key: str
    layers: tuple[tuple[str, str, int], ...]
    modified_ns: int

    @property
    def digest(self) -> str:
        """Bare hex digest of what the name stands for; the name is no part of it."""
        return hashlib.sha256(json.dumps(self.layers).encode()).hexdigest()

    def layer(self, kind: str) -> str | None:
        """Digest of the first layer of a kind (model, template, system, params, license, messages)."""
        return next((digest for media, digest, _ in self.layers if media == MEDIA + kind), None)


@dataclass
class Store:
    """Blobs and manifests under one folder. Safe for several threads."""

    folder: Path
    lock: threading.RLock = field(default_factory=threading.RLock)

    def __post_init__(self) -> None:
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.manifests: dict[str, Manifest] = {}
        if self._index.exists():
            rows = json.loads(self._index.read_text())
            for row in rows:
                layers = tuple((media, digest, size) for media, digest, size in row.pop("layers"))
                self.manifests[row["key"]] = Manifest(layers=layers, **row)

    @property
    def blobs(self) -> Path:
        """Where the blobs are."""
        return self.folder / "blobs"

    @property
    def _index(self) -> Path:
        return self.folder / "manifests.json"

    def blob(self, digest: str) -> Path:
        """Where a blob is or would be. Raises Refusal on a digest that is none."""
        if not DIGEST.fullmatch(digest):
            raise Refusal(400, "invalid digest format")
        return self.blobs / digest.replace(":", "-")

    def receive(self, digest: str, chunks: Iterator[bytes]) -> None:
        """Store an upload. Raises Refusal on a wrong digest; the bytes stay, under their own."""
        self.blob(digest)
        taken = hashlib.sha256()
        temporary = self.blobs / f"upload-{threading.get_ident()}-{time.monotonic_ns()}"
        with temporary.open("wb") as sink:
            for chunk in chunks:
                taken.update(chunk)
                sink.write(chunk)
        actual = f"sha256:{taken.hexdigest()}"
        temporary.replace(self.blob(actual))
        if actual != digest:
            raise Refusal(400, f'digest mismatch, expected "{digest}", got "{actual}"')

    def keep(self, data: bytes) -> tuple[str, bool]:
        """Store bytes; their digest, and whether they were there."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = self.blob(digest)
        if existed := path.exists():
            return digest, existed
        path.write_bytes(data)
        return digest, False

    def find(self, name: Name) -> Manifest | None:
        """The manifest behind a name."""
        with self.lock:
            return self.manifests.get(name.key)

    def put(self, name: Name, layers: tuple[tuple[str, str, int], ...]) -> None:
        """Let a name stand for these layers; layers that nobody needs any more go at once."""
        self._change(lambda: self.manifests.__setitem__(name.key, self._manifest(name, layers)))

    def remove(self, name: Name) -> None:
        """Forget a name and the layers that only it needed."""
        self._change(lambda: self.manifests.pop(name.key))

    def _manifest(self, name: Name, layers: tuple[tuple[str, str, int], ...]) -> Manifest:
        return Manifest(name.shown, name.key, layers, time.time_ns())

    def _change(self, change: Callable[[], Any]) -> None:
        with self.lock:
            before = self._used()
            change()
            for digest in before - self._used():
                self.blob(digest).unlink(missing_ok=True)
            self._index.write_text(json.dumps([asdict(manifest) for manifest in self.manifests.values()]))

    def _used(self) -> set[str]:
        return {digest for manifest in self.manifests.values() for _, digest, _ in manifest.layers}

    def text(self, manifest: Manifest, kind: str) -> str | None:
        """A layer's text."""
        digest = manifest.layer(kind)
        return None if digest is None else self.blob(digest).read_text()

    def parameters(self, manifest: Manifest) -> dict[str, Any]:
        """A model's stored parameters, as they were sent."""
        parameters: dict[str, Any] = json.loads(self.text(manifest, "params") or "{}")
        return parameters
