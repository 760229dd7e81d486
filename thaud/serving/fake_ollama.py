"""A strict fake of an Ollama server, for tests and for trying THAU without one: it refuses what the real one refuses.

    python -m thaud.serving.fake_ollama --port 11434 --generation old --folder ./fake

It keeps models, checks GGUF headers, runs the scripted GGUFs of tests/testkit, and behaves as one of two generations
of servers: 0.33 (rewrites files, runs their Jinja templates) or 0.24 (keeps files, wants a Go template). Other models
say a placeholder. It refuses to quantize, to pull, to embed, and to apply adapters.
"""

import argparse
import signal
import sys
from pathlib import Path

from thaud.serving.fake.protocol import Refusal, parse_name
from thaud.serving.fake.server import FakeOllama, Fault, Generation

__all__ = ["FakeOllama", "Fault", "Generation", "Refusal", "parse_name"]


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m thaud.serving.fake_ollama", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=11434)
    parser.add_argument("--generation", choices=("new", "old"), default="new")
    parser.add_argument("--folder", type=Path, help="where models are kept (default: a temporary folder)")
    asked = parser.parse_args(argv)
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with FakeOllama(asked.generation, asked.folder, asked.port) as server:
        sys.stdout.write(f"fake Ollama {server.version} at {server.url}\n")
        sys.stdout.flush()
        signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
