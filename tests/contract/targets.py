"""The servers that the contract suite speaks to, and the models it makes there.

Every model is made under a name with this process' number and deleted at the end, so that the suite may be run on a
server that is in use. Uploaded files stay there until its next start, as there is no way to delete one.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np

from tests.serving.kit import HERMES, Forge
from thaud.domain import Message
from thaud.errors import ServerError
from thaud.serving.ollama import OllamaServer, Recipe
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import Receipt, register
from thaud.serving.runtime import Delta
from thaud.serving.templates import go_template_of

VARIABLE = "THAU_TEST_OLLAMA_HOST"
# A scripted model's text is a token a byte, and a tool's definition is some hundred bytes long.
CONTEXT = 1024
HELLO = [Message("user", "hello")]
ASK = {"messages": [{"role": "user", "content": "hello"}]}


@dataclass(frozen=True)
class Target:
    """A server under test, with models of its own."""

    server: OllamaServer
    native: bool
    forge: Forge

    @property
    def name(self) -> str:
        """The name that single models are made under."""
        return f"{self.forge.family}-single"

    def http(self) -> httpx.Client:
        """For requests that THAU itself never makes."""
        return httpx.Client(base_url=self.server.url, timeout=60, trust_env=False)

    def get(self, route: str) -> Any:
        """One short answer."""
        with self.http() as client:
            return client.get(f"/api/{route}").json()

    def post(self, route: str, body: Mapping[str, Any]) -> httpx.Response:
        """One raw request."""
        with self.http() as client:
            return client.post(f"/api/{route}", json=body)

    def rows(self, route: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The lines of a stream."""
        return [json.loads(line) for line in self.post(route, body).text.splitlines()]

    def push(self, path: Path) -> str:
        """Upload a file; its digest as the server writes it."""
        digest = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
        self.server.push_blob(path, digest)
        return digest

    def serve(self, script: Sequence[str], template: str | None = HERMES, *, repeat: bool = False) -> Receipt:
        """Register version 1, which says `script`."""
        return register(self.server, self.forge.version(1, script, template, repeat=repeat), CONTEXT, ["<|im_end|>"])

    def make(
        self,
        script: Sequence[str],
        *,
        go: bool,
        template: str | None = HERMES,
        parameters: dict[str, Any] | None = None,
        repeat: bool = False,
    ) -> str:
        """A model with or without a Go template, whatever the server's generation would want."""
        version = self.forge.version(9, script, template, repeat=repeat)
        path = Path(version.gguf)
        sent = go_template_of(path) if go else None
        recipe = Recipe(self.name, path, version.gguf_sha256, parameters or {"num_ctx": CONTEXT}, sent)
        self.server.push_blob(path, recipe.digest)
        self.server.create(recipe)
        self.server.unload(self.name)
        return self.name

    def runtime(self, name: str | None = None) -> OllamaRuntime:
        """The served model (version 1, where no name is given)."""
        return OllamaRuntime(self.server.url, name or f"{self.forge.family}-v1", CONTEXT)

    def leave(self) -> None:
        """Delete what was made, and unload what is left of it."""
        for name in self.server.tags():
            if name.startswith(self.forge.family):
                with suppress(ServerError):  # one that cannot be loaded cannot be unloaded either
                    self.server.unload(name)
                self.server.delete(name)


def text_of(deltas: Sequence[Delta]) -> str:
    """What was said."""
    return "".join(delta.text for delta in deltas)


def write_adapter(path: Path, base: Path, *, tensor: str = "blk.0.attn_q.weight", rank: int = 2) -> Path:
    """A GGUF LoRA of zeros on one tensor of a scripted base."""
    width = int(next(t for t in gguf.GGUFReader(base).tensors if t.name == "blk.0.attn_q.weight").shape[0])
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 4.0)
    writer.add_tensor(f"{tensor}.lora_a", np.zeros((rank, width), np.float32))
    writer.add_tensor(f"{tensor}.lora_b", np.zeros((width, rank), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
