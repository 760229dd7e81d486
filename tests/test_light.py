"""The daemon stays light: what a fresh process has loaded after importing it."""

import json
import subprocess
import sys

import pytest

HEAVY = {"torch", "transformers", "peft", "numpy", "llama_cpp", "gguf", "safetensors", "tokenizers", "huggingface_hub"}


def modules_after(statement: str) -> set[str]:
    """Top-level modules that a fresh interpreter has after a statement."""
    program = (
        f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{name.split('.')[0] for name in sys.modules}})))"
    )
    out = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return set(json.loads(out.splitlines()[-1]))


@pytest.mark.parametrize("module", ["thaud.daemon", "thaud.cli", "thaud.api", "agent", "tools"])
def test_a_fresh_process_loads_nothing_heavy(module: str) -> None:
    """Importing the daemon, the CLI, the HTTP door, the agent or the tools loads no numerical library."""
    loaded = modules_after(f"import {module}")
    assert module.split(".", maxsplit=1)[0] in loaded
    assert not loaded & HEAVY


def test_the_idle_daemon_has_no_web_stack() -> None:
    """FastAPI, uvicorn and httpx come with the first request or the first server, not with the daemon."""
    assert not modules_after("import thaud.daemon") & {"fastapi", "uvicorn", "starlette", "httpx", "ollama"}
