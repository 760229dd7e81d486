"""The agent apart from its model: whether all calls are valid, what that costs, and how late the first token is.

usage: python -m tests.bench.bench_agent [--schemas N] [--rounds N] [--json]
- Validity: sampled decoding (temperature 1) on random weights, tools of generated schemas; jsonschema judges every
  call. Embedded in tags and as actions, and through `format` on the fake Ollama. Once more with as many tokens as
  Qwen's vocabulary has, on a hundredth of the schemas.
- Time: each call beside free decoding of as many tokens, by a twin of the same size, in turns.
- First token: the loop and its runtime beside llama-cpp-python on the same prompts, in turns, medians. Once with all
  of a prompt but its last token in either's cache, so that little but the loop is left; once with none of it.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from agent.loop import Agent
from agent.setup import Setup, open_agent
from agent.state import Silence
from tests.serving.kit import HERMES, Forge
from tests.testkit.random_gguf import write_random_gguf
from tests.testkit.scripted_gguf import write_scripted_gguf
from tests.testkit.validity import Tally, judge, sampled
from thaud.domain import Message
from thaud.rendering import CHATML
from thaud.serving.embedded import EmbeddedRuntime
from thaud.serving.fake_ollama import FakeOllama
from thaud.serving.ollama import OllamaServer
from thaud.serving.ollama_runtime import OllamaRuntime
from thaud.serving.reconcile import register
from tools.registry import TOOLS

CONTEXT, THREADS = 16384, 1
LARGE = 151_936
AIM_MS = 15.0
ANSWER = ("Hola, ", "¿qué tal estás hoy?")
Figures = dict[str, Any]


class First(Silence):
    """Notes when the first text comes."""

    at = 0.0

    def text(self, piece: str) -> None:
        """Note the time of the first piece."""
        self.at = self.at or perf_counter()


def each_seed(count: int) -> Iterator[int]:
    """The seeds, and on standard error how far they are: a thousand take minutes."""
    for seed in range(count):
        if seed and seed % 100 == 0:
            sys.stderr.write(f"  {seed:,} of {count:,}\n")
        yield seed


def held_beside_free(folder: Path, count: int, vocabulary: int, template: str) -> Figures:
    """Validity on the embedded runtime, and each reply's time beside a free one of as many tokens."""
    paths = folder / "held.gguf", folder / "free.gguf"
    for path in paths:
        write_random_gguf(path, template, vocabulary=vocabulary, endless=path == paths[1])
    tally, ratios, free_s = Tally(), [], 0.0
    with (
        EmbeddedRuntime(paths[0], "held", CONTEXT, THREADS) as held,
        EmbeddedRuntime(paths[1], "free", CONTEXT, THREADS) as free,
    ):
        for seed in each_seed(count):
            tokens, seconds = tally.tokens, tally.seconds
            judge(held, seed, tally)
            if more := tally.tokens - tokens:
                begun = perf_counter()
                for _ in sampled(free, seed, None, more):
                    pass
                took = perf_counter() - begun
                free_s += took
                ratios.append((tally.seconds - seconds) / took)
    return {**asdict(tally), "said": str(tally), "free_s": free_s, "ratio": median(ratios)}


def through_format(folder: Path, count: int) -> Figures:
    """Validity through `format` on the server's double, whose file says nonsense too."""
    path = folder / "thau-nano-v1.gguf"
    write_random_gguf(path, CHATML)
    tally = Tally()
    with FakeOllama("new", folder / "ollama") as server:
        version = Forge(folder).of_file(1, path)
        register(OllamaServer(server.url), version, CONTEXT)
        runtime = OllamaRuntime(server.url, version.name, CONTEXT)
        if runtime.calling != "schema":
            raise SystemExit(f"the double's model calls {runtime.calling}, not by format")
        for seed in each_seed(count):
            judge(runtime, seed, tally)
    return {**asdict(tally), "said": str(tally)}


@contextmanager
def peer(gguf: Path) -> Iterator[subprocess.Popen[str]]:
    """llama-cpp-python with the same file, loaded."""
    command = [sys.executable, "-m", "tests.bench.agent_peer", str(gguf), "4096", str(THREADS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        if not process.stdout or process.stdout.readline() != "ready\n":
            raise SystemExit("the peer did not start")
        yield process
        if process.stdin:
            process.stdin.close()


def first_tokens(folder: Path, rounds: int, *, cached: bool) -> Figures:
    """Milliseconds to the first text: the agent's and the peer's, in turns, on the same prompts of as many tokens.

    cached: the prompt is that of the round before; else they share no beginning.
    """
    path = folder / "scripted.gguf"
    write_scripted_gguf(path, ANSWER, chat_template=HERMES)
    ours, theirs = [], []
    with EmbeddedRuntime(path, "scripted", 4096, THREADS) as runtime, peer(path) as direct:
        first = First()
        agent = open_agent(runtime, Setup(folder / "transcripts", folder / "workspace", tools=TOOLS), first, None)
        for number in range(rounds + 2):
            agent.clear()
            agent.system, question = f"Round {0 if cached else number}: be brief.", "What is 6*7?"
            first.at, begun = 0.0, perf_counter()
            usage = agent.answer(question).usage
            ours.append(first.at - begun)
            seconds, tokens = ask_peer(direct, prompt_of(runtime, agent, question))
            theirs.append(seconds)
            if not usage or usage.prompt_tokens != tokens:
                raise SystemExit(f"the peer was asked {tokens} tokens, the agent {usage}: nothing to compare")
    pair = [1000 * median(times[2:]) for times in (ours, theirs)]  # the first ones warm both up
    more = 1000 * median(one - other for one, other in zip(ours[2:], theirs[2:], strict=True))
    offered = len(agent.toolbox.tools)
    return {"ours_ms": pair[0], "direct_ms": pair[1], "more_ms": more, "tools": offered, "prompt_tokens": tokens}


def prompt_of(runtime: EmbeddedRuntime, agent: Agent, question: str) -> str:
    """The text of the prompt that the agent showed."""
    messages = [Message("system", agent.system), Message("user", question)]
    pieces = runtime._model.renderer.prompt(messages, agent.toolbox.definitions)
    return "".join(piece.text for piece in pieces)


def ask_peer(process: subprocess.Popen[str], prompt: str) -> tuple[float, int]:
    """Seconds to the peer's first text, and the tokens that its prompt had."""
    if not process.stdin or not process.stdout:
        raise SystemExit("the peer is gone")
    process.stdin.write(json.dumps(prompt) + "\n")
    process.stdin.flush()
    seconds, tokens = process.stdout.readline().split()
    return float(seconds), int(tokens)


def report(name: str, figures: Figures) -> Iterator[str]:
    """Figures in words."""
    if "ours_ms" in figures:
        word = "met" if figures["more_ms"] <= AIM_MS else "MISSED"
        yield (
            f"{name}: {figures['ours_ms']:.1f} ms, llama.cpp directly {figures['direct_ms']:.1f} ms: "
            f"{figures['more_ms']:+.1f} ms (median of the pairs; aim: at most {AIM_MS:.0f}, {word}), "
            f"{figures['prompt_tokens']:,} tokens, {figures['tools']} tools offered"
        )
        return
    yield f"{name}: {figures['said']}"
    yield from (f"  WRONG {each}" for each in figures["wrong"][:5])
    yield from (f"  REFUSED {each}" for each in figures["refused"][:5])
    if "ratio" in figures:
        each = [1000 * figures[key] / max(1, figures["calls"]) for key in ("seconds", "free_s")]
        yield f"  a call {each[0]:.1f} ms, free {each[1]:.1f} ms; median of the ratios {figures['ratio']:.2f}"


def parts(folder: Path, schemas: int, rounds: int) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """What is measured, quickest first."""
    yield "first token, prompt cached", lambda: first_tokens(folder, rounds, cached=True)
    yield "first token, new prompt", lambda: first_tokens(folder, max(1, rounds // 4), cached=False)
    yield "through format", lambda: through_format(folder, schemas)
    yield "as actions", lambda: held_beside_free(folder, schemas, 0, CHATML)
    yield "in tags", lambda: held_beside_free(folder, schemas, 0, HERMES)
    yield f"in tags, {LARGE} tokens", lambda: held_beside_free(folder, max(1, schemas // 100), LARGE, HERMES)


def main() -> int:
    """Measure and print. 1 where a call was not valid."""
    parser = argparse.ArgumentParser(description="Valid calls, their price, and the first token.")
    parser.add_argument("--schemas", type=int, default=1000, help="sets of tools with generated schemas")
    parser.add_argument("--rounds", type=int, default=40, help="first tokens of either side")
    parser.add_argument("--json", action="store_true", help="every figure, for scripts")
    asked = parser.parse_args()
    found: dict[str, Figures] = {}
    with tempfile.TemporaryDirectory(prefix="thau-agent-") as name:
        for part, measure in parts(Path(name), asked.schemas, asked.rounds):
            found[part] = measure()
            if not asked.json:
                sys.stdout.write("\n".join(report(part, found[part])) + "\n")
                sys.stdout.flush()
    if asked.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return int(any(figures.get("wrong") or figures.get("refused") for figures in found.values()))


if __name__ == "__main__":
    sys.exit(main())
