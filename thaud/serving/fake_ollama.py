"""A strict fake of an Ollama server, for tests and for trying THAU without one: it refuses what the real one refuses.

    python -m thaud.serving.fake_ollama --port 11434 --generation old --folder ./fake

It keeps models in a folder laid out as the real one's, checks GGUF headers, renders prompts by Jinja or Go templates,
runs the scripted GGUFs of tests/testkit, and behaves as one of two generations of servers: 0.33 (rewrites files, runs
their Jinja templates) or 0.24 (keeps files, wants a Go template). Other models say a placeholder, but under `format`
every file is run by llama.cpp, with a grammar (fake/held.py). Adapters are kept, shown and checked against their base,
and change nothing that is said. It refuses to quantize, convert, pull and embed.

`--fault ROUTE:KIND[:AFTER[:SECONDS]]`, as often as wanted, makes the next request on a route go wrong: see
fake/faults.py.
"""

import argparse
import signal
import sys
from pathlib import Path

from thaud.serving.fake.faults import Fault, read_fault
from thaud.serving.fake.protocol import Refusal, parse_name
from thaud.serving.fake.scripts import Script
from thaud.serving.fake.server import FakeOllama, Generation

__all__ = ["FakeOllama", "Fault", "Generation", "Refusal", "Script", "parse_name", "read_fault"]


def main(argv: list[str] | None = None) -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m thaud.serving.fake_ollama", description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=11434)
    parser.add_argument("--generation", choices=("new", "old"), default="new")
    parser.add_argument("--folder", type=Path, help="where models are kept (default: a temporary folder)")
    parser.add_argument("--fault", type=read_fault, action="append", default=[], help="ROUTE:KIND[:AFTER[:SECONDS]]")
    asked = parser.parse_args(argv)
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with FakeOllama(asked.generation, asked.folder, asked.port) as server:
        server.faults += asked.fault
        sys.stdout.write(f"fake Ollama {server.version} at {server.url}\n")
        sys.stdout.flush()
        signal.sigwait(signals)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
