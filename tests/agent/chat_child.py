"""`thau chat` with a scripted model, to be driven from outside: `python -m tests.agent.chat_child SCENE FOLDER`."""

import itertools
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from agent.repl import run_chat
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup
from thaud.domain import ToolCall
from thaud.serving.runtime import Delta
from tools.base import Arguments, Context, Risk, Tool
from tools.registry import TOOLS


class SendArguments(Arguments):
    """What is sent."""

    words: str


def send(arguments: SendArguments, context: Context) -> str:
    """Leave a file behind, so that a test sees whether it ran."""
    (context.workspace.root / "sent.txt").write_text(arguments.words)
    return "sent"


SEND = Tool("send", "Send words away.", SendArguments, Risk.SENDS, send)
SUM = calls(ToolCall("calculator", {"expression": "6*7"}))
SCENES: dict[str, list[Iterable[Delta]]] = {
    "sum": [SUM, says("Son 42.")],
    "endless": [(Delta("bla ") for _ in itertools.count()), says("Otra vez aquí.")],
    "send": [calls(ToolCall("send", {"words": "hello"})), says("Done with it.")],
}


def teach(question: str, answer: str, folder: Path) -> Path:
    """What the command line does: an example in the drop-box."""
    path = folder / "taught.jsonl"
    path.write_text(json.dumps({"instruction": question, "output": answer}, ensure_ascii=False) + "\n")
    return path


def main(scene: str, folder: Path) -> int:
    """Take the terminal and chat."""
    if sys.stdin.isatty():
        os.close(os.open(os.ttyname(0), os.O_RDWR))  # a session leader's first terminal: Ctrl-C comes from here
    setup = Setup(folder / "transcripts", folder / "workspace", "es", (*TOOLS, SEND))
    runtime = ScriptedRuntime(SCENES[scene], name="thau-nano-v1")
    return run_chat(runtime, setup, teach=lambda question, answer: teach(question, answer, folder))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
