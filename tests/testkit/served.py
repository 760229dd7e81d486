"""Homes with promoted versions of scripted models, and what an Ollama server holds of them."""

import hashlib
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.seeded import freeze
from tests.testkit.daemon import look, make_home
from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.domain import Message, Score, Version
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.ollama_runtime import OllamaRuntime

FAMILY = "thau-nano"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HELLO = [Message("user", "hola")]


def served_home(root: Path, *scripts: Sequence[str], padding: int = 0) -> Home:
    """A new nano home whose ledger holds a promoted version for each script."""
    home = make_home(root)
    for n, script in enumerate(scripts, 1):
        promote(home, n, script, padding)
    return home


def promote(home: Home, n: int, script: Sequence[str], padding: int = 0) -> Version:
    """Version `n`, which says `script` and is the champion from now on. `padding`: bytes behind its last tensor."""
    gguf = home.versions / f"{FAMILY}-v{n}" / "model.gguf"
    gguf.parent.mkdir(parents=True)
    write_scripted_gguf(gguf, script, chat_template=TEMPLATE)
    with gguf.open("ab") as sink:
        sink.truncate(gguf.stat().st_size + padding)
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    with Ledger.open(home.ledger) as ledger:
        run_id = freeze(ledger, [], 0, FAMILY).id
        size, at = gguf.stat().st_size, f"2026-01-0{n}T00:00:00+00:00"
        version = Version(FAMILY, n, run_id, 0, str(gguf), digest, size, Score(30, 25), 2, at)
        ledger.accept(version, ["fine"], {})
        ledger.promote(version, None)
    return version


def with_server(server: FakeOllama, namespace: str = "") -> dict[str, str]:
    """The environment of a daemon, or of a command, that looks at a server often."""
    return {
        "THAU_SERVING__OLLAMA_ENABLED": "true",
        "OLLAMA_HOST": server.url,
        "THAU_SERVING__RETRY_S": "0.3",
        "THAU_SERVING__NAMESPACE": namespace,
    }


def held(home: Home) -> dict[str, str]:
    """What the ledger knows of the server, by name."""
    return {row["name"]: row["state"] for row in look(home, LedgerReader.registrations)}


def report_of(home: Home, name: str) -> dict[str, Any]:
    """What the ledger remembers of a name's proof."""
    rows = {row["name"]: row for row in look(home, LedgerReader.registrations)}
    report: dict[str, Any] = rows[name]["report"]
    return report


def answer(server: FakeOllama, name: str) -> str:
    """What a name on the server says."""
    return "".join(delta.text for delta in OllamaRuntime(server.url, name, 4096).chat(HELLO))


def wait_for_death(daemon: subprocess.Popen[bytes]) -> int:
    """How a daemon ended that was to die."""
    return daemon.wait(60)
