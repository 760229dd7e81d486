"""From the configuration's choice to a Runtime: the one place that knows both backends."""

from pathlib import Path
from typing import Literal

from thaud.domain import Version
from thaud.serving.runtime import Runtime

Backend = Literal["embedded", "ollama"]


def open_runtime(
    backend: Backend, ollama_host: str, version: Version, context_tokens: int, threads: int = 0
) -> Runtime:
    """Serve a version. `version.gguf` must be a path that opens from here; an Ollama server must hold the version.

    Raises ModelError where the file cannot be loaded; a server's failures come with the first question.
    """
    if backend == "ollama":
        from thaud.serving.ollama_runtime import OllamaRuntime  # noqa: PLC0415 - only the backend that was chosen

        return OllamaRuntime(ollama_host, version.name, context_tokens)
    from thaud.serving.embedded import EmbeddedRuntime  # noqa: PLC0415

    return EmbeddedRuntime(Path(version.gguf), version.name, context_tokens, threads)
