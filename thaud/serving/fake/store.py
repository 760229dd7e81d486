"""What the fake keeps on disk, laid out as the real server's folder: `blobs/sha256-...`, a manifest file for each name.

Manifests are read anew each time, so one that somebody emptied or deleted by hand is seen. At start, blobs and
temporary files that no manifest needs and that are older than PRUNE_S go, unless a manifest cannot be read.
"""

import errno
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from thaud.serving.fake.protocol import DIGEST, LIBRARY, REGISTRY, Name, Refusal, parse_name

CHUNK_BYTES = 1 << 20
PRUNE_S = 3600.0
MEDIA = "application/vnd.ollama.image."
CONFIG = "application/vnd.docker.container.image.v1+json"
SCHEMA = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
FULL = "no space left on device"

Layer = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model: its display name, its layers (media type, digest, bytes) and config, the digest of its manifest file."""

    name: str
    layers: tuple[Layer, ...]
    config: Layer
    digest: str
    modified_ns: int

    def layer(self, kind: str) -> str | None:
        """Digest of the first layer of a kind (model, adapter, template, system, params, messages)."""
        return next(iter(self.all(kind)), None)

    def all(self, kind: str) -> tuple[str, ...]:
        """Digests of every layer of a kind."""
        return tuple(digest for media, digest, _ in self.layers if media == MEDIA + kind)

    @property
    def size(self) -> int:
        """Bytes of all it needs."""
        return self.config[2] + sum(size for _, _, size in self.layers)

    @property
    def digests(self) -> set[str]:
        """All blobs that it needs."""
        return {self.config[1], *(digest for _, digest, _ in self.layers)}


@dataclass
class Store:
    """Blobs and manifests under one folder. Safe for several threads. While `full` is set, every write fails."""

    folder: Path
    lock: threading.RLock = field(default_factory=threading.RLock)
    full: bool = False

    def __post_init__(self) -> None:
        self.blobs.mkdir(parents=True, exist_ok=True)
        self.prune()

    @property
    def blobs(self) -> Path:
        """Where the blobs are."""
        return self.folder / "blobs"

    def blob(self, digest: str) -> Path:
        """Where a blob is or would be. Raises Refusal on a digest that is none."""
        if not DIGEST.fullmatch(digest):
            raise Refusal(400, "invalid digest format")
        return self.blobs / digest.replace(":", "-")

    def manifest(self, name: Name) -> Path:
        """Where a name's manifest is or would be; letters' case does not matter where it is."""
        parts = (name.host, name.namespace, name.model, name.tag)
        path = self.folder / "manifests"
        for part in parts:
            there = path.iterdir() if path.is_dir() else ()
            path = next((p for p in there if p.name.lower() == part.lower()), path / part)
        return path

    def room(self, path: Path) -> None:
        """Raises Refusal where the disk is said to be full, in the words of the system."""
        if self.full:
            raise Refusal(500, f"write {path}: {FULL}")

    def receive(self, digest: str, chunks: Iterator[bytes]) -> None:
        """Store an upload. Raises Refusal on a wrong digest (the bytes stay, under their own) and on a full disk."""
        self.blob(digest)
        taken = hashlib.sha256()
        temporary = self.blobs / f"sha256-{threading.get_ident()}{time.monotonic_ns()}"
        try:
            with temporary.open("wb") as sink:
                for chunk in chunks:
                    self.room(temporary)
                    taken.update(chunk)
                    sink.write(chunk)
        except OSError as error:
            raise Refusal(500, f"write {temporary}: {_words(error)}") from error
        actual = f"sha256:{taken.hexdigest()}"
        temporary.replace(self.blob(actual))
        if actual != digest:
            raise Refusal(400, f'digest mismatch, expected "{digest}", got "{actual}"')

    def keep(self, data: bytes) -> tuple[str, bool]:
        """Store bytes; their digest, and whether they were there. Raises Refusal on a full disk."""
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        path = self.blob(digest)
        if existed := path.exists():
            return digest, existed
        self.room(path)
        path.write_bytes(data)
        return digest, False

    def find(self, name: Name) -> Manifest | None:
        """What stands behind a name. Raises Refusal where its manifest is there and cannot be read."""
        with self.lock:
            return self._read(self.manifest(name))

    def every(self) -> list[Manifest]:
        """All models, newest first; a manifest that cannot be read is passed over, as the real server does."""
        with self.lock:
            found = [manifest for path in self._files() if (manifest := self._readable(path))]
        return sorted(found, key=lambda manifest: manifest.modified_ns, reverse=True)

    def put(self, name: Name, layers: tuple[Layer, ...], config: bytes) -> None:
        """Let a name stand for these layers; layers that nobody needs any more go at once."""
        digest, _ = self.keep(config)
        described = _row((CONFIG, digest, len(config)))
        text = json.dumps({**SCHEMA, "config": described, "layers": list(map(_row, layers))}) + "\n"
        self._write(name, text.encode())

    def copy(self, source: Name, destination: Name) -> bool:
        """Give a manifest a second name, byte for byte and unread; False where there is none."""
        with self.lock:
            path = self.manifest(source)
            if not path.is_file():
                return False
            if self.manifest(destination) != path:
                self._write(destination, path.read_bytes())
        return True

    def remove(self, name: Name) -> None:
        """Forget a name and the layers that only it needed."""
        self._change(self.manifest(name), lambda path: path.unlink())

    def prune(self) -> None:
        """What the real server does at start with what nobody needs."""
        try:
            needed = {digest for path in self._files() for digest in (self._read(path) or _nothing()).digests}
        except Refusal:
            return
        kept = {self.blob(digest).name for digest in needed}
        for path in self.blobs.iterdir():
            if path.name not in kept and time.time() - path.stat().st_mtime > PRUNE_S:
                path.unlink(missing_ok=True)

    def text(self, manifest: Manifest, kind: str) -> str | None:
        """The text of all layers of a kind."""
        digests = manifest.all(kind)
        return "\n".join(self.blob(digest).read_text() for digest in digests) if digests else None

    def parameters(self, manifest: Manifest) -> dict[str, Any]:
        """A model's stored parameters, as they were sent."""
        parameters: dict[str, Any] = json.loads(self.text(manifest, "params") or "{}")
        return parameters

    def config(self, manifest: Manifest) -> dict[str, Any]:
        """What a model's config blob says."""
        config: dict[str, Any] = json.loads(self.blob(manifest.config[1]).read_bytes())
        return config

    def _files(self) -> list[Path]:
        return [path for path in (self.folder / "manifests").glob("*/*/*/*") if path.is_file()]

    def _readable(self, path: Path) -> Manifest | None:
        try:
            return self._read(path)
        except Refusal:
            return None

    def _read(self, path: Path) -> Manifest | None:
        if not path.is_file():
            return None
        data = path.read_bytes()
        try:
            row = json.loads(data)
            layers = tuple(map(_layer, row["layers"]))
            config = _layer(row["config"])
        except (ValueError, KeyError, TypeError) as error:
            raise Refusal(500, "EOF" if not data.strip() else "unexpected EOF") from error
        digest = hashlib.sha256(data).hexdigest()
        return Manifest(_shown(path), layers, config, digest, path.stat().st_mtime_ns)

    def _write(self, name: Name, data: bytes) -> None:
        def write(path: Path) -> None:
            self.room(path)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        self._change(self.manifest(name), write)

    def _change(self, path: Path, change: Callable[[Path], None]) -> None:
        with self.lock:
            before = self._readable(path)
            change(path)
            if before is not None:
                needed = {digest for manifest in self.every() for digest in manifest.digests}
                for digest in before.digests - needed:
                    self.blob(digest).unlink(missing_ok=True)


def _shown(path: Path) -> str:
    host, namespace, model, tag = path.parts[-4:]
    shortened = {(REGISTRY, LIBRARY): model}.get((host, namespace), f"{namespace}/{model}")
    name = parse_name(f"{'' if host == REGISTRY else f'{host}/'}{shortened}:{tag}")
    return name.shown if name else path.name


def _row(layer: Layer) -> dict[str, Any]:
    return dict(zip(("mediaType", "digest", "size"), layer, strict=True))


def _layer(row: dict[str, Any]) -> Layer:
    return row["mediaType"], row["digest"], row["size"]


def _nothing() -> Manifest:
    return Manifest("", (), ("", "", 0), "", 0)


def _words(error: OSError) -> str:
    return FULL if error.errno == errno.ENOSPC else (error.strerror or str(error)).lower()
