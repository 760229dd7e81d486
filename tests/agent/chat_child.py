"""`thau chat` with a scripted model, to be driven from outside: `python -m tests.agent.chat_child SCENE FOLDER`."""

import itertools
import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.conversation import Choice, Equipment, Shelf
from agent.repl import run_chat
from agent.scripted import ScriptedRuntime, calls, says
from agent.setup import Setup
from tests.agent.teaching_double import Written
from thaud.domain import ToolCall
from thaud.serving.runtime import Delta, Runtime
from tools.base import Context, Risk, tool
from tools.registry import TOOLS


def send(context: Context, words: Annotated[str, Field(description="What.")]) -> str:
    """Send words away.

    Args:
        context: where.
        words: What is sent.
    """
    (context.workspace.root / "sent.txt").write_text(words)
    return "\n".join([f"sent {words}", *(f"line {n}" for n in range(2, 30))])


SEND = tool(send, Risk.SENDS, preview=lambda values, _: f"--- a\n+++ b\n@@ -1 +1 @@\n-nothing\n+{values['words']}")
SUM = calls(ToolCall("calculator", {"expression": "6*7"}))
MARKDOWN = """# Título

Un párrafo con **negrita**, `código` y [un enlace](https://example.com/muy/largo) que es bastante largo para romperse.

```python
def suma(a, b):
    return a + b
```

1. uno
2. dos
   - dentro

| a | b |
|---|---|
| 1 | 2 |

Fin.
"""


def thoughtful() -> Iterator[Delta]:
    """Thinks first."""
    yield from (Delta(thinking=f"Paso {n}: pienso un poco más en ello. ") for n in range(12))
    yield from says("Pensado: **42**.")


def counting() -> Iterator[Delta]:
    """Something new for ever."""
    yield Delta("bla bla bla ")
    yield from (Delta(f"bla {n} ") for n in itertools.count())


def slow(deltas: Iterable[Delta], seconds: float) -> Iterator[Delta]:
    """As a model says it, for eyes."""
    for delta in deltas:
        time.sleep(seconds)
        yield delta


SCENES: dict[str, list[Iterable[Delta]]] = {
    "sum": [SUM, says("Son 42.")],
    "endless": [slow(counting(), 0.002), says("Otra vez aquí.")],
    "send": [calls(ToolCall("send", {"words": "hello"})), says("Done with it.")],
    "markdown": [says(MARKDOWN)],
    "thoughts": [thoughtful(), says("Segunda.")],
    "show": [
        slow(thoughtful(), 0.1),
        slow(SUM, 0.5),
        slow(says(MARKDOWN, piece=8), 0.03),
        calls(ToolCall("send", {"words": "hello"})),
        says("Hecho."),
    ],
}


def shelf(scene: str) -> Shelf:
    """Two versions: the first says the scene, the second one line."""

    def open_version(n: int | None) -> Runtime:
        if n == 2:
            return ScriptedRuntime([says("Soy la segunda.")] * 9, name="thau-nano-v2")
        return ScriptedRuntime(SCENES[scene], name="thau-nano-v1", thinks=True)

    return Shelf("thau-nano-v1", lambda: [Choice(1, "thau-nano-v1"), Choice(2, "thau-nano-v2")], open_version)


def main(scene: str, folder: Path, language: str = "es") -> int:
    """Take the terminal and chat."""
    if sys.stdin.isatty():
        os.close(os.open(os.ttyname(0), os.O_RDWR))  # a session leader's first terminal: Ctrl-C comes from here
    setup = Setup(folder / "transcripts", folder / "workspace", language, (*TOOLS[:3], SEND))  # type: ignore[arg-type]
    kit = Equipment(shelf(scene), setup, Written(folder / "taught.jsonl"), history=folder / "history")
    return run_chat(kit)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
