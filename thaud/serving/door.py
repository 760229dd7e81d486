"""From the configuration's choice to a Runtime: the one place that knows both backends."""

from pathlib import Path
from typing import Literal

from thaud.domain import Version
from thaud.serving.provenance import served_name
from thaud.serving.runtime import Runtime

Backend = Literal["embedded", "ollama"]


def open_runtime(
    backend: Backend, ollama_host: str, version: Version, context_tokens: int, threads: int = 0, *, namespace: str = ""
) -> Runtime:
    """Serve a version. Its files' paths must open from here; an Ollama server must hold it under `namespace`.

    Raises ModelError where a file cannot be loaded; a server's failures come with the first question.
    """
    if backend == "ollama":
        from thaud.serving.ollama_runtime import OllamaRuntime  # noqa: PLC0415 - only the backend that was chosen

        return OllamaRuntime(ollama_host, served_name(namespace, version.name), context_tokens)
    from thaud.serving.embedded import EmbeddedRuntime  # noqa: PLC0415

    base = Path(version.base_gguf) if version.base_gguf is not None else None
    return EmbeddedRuntime(Path(version.gguf), version.name, context_tokens, threads, base)
