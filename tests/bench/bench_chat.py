"""How long until `thau chat` shows its prompt, beside the smallest prompt_toolkit program.

    python -m tests.bench.bench_chat

Each is started in a pseudo-terminal, and the clock stops when its prompt is there; the model is still loading then.
"""

import os
import pty
import select
import statistics
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

from tests.testkit.served import served_home
from tools.sanitise import strip_controls

ROUNDS = 7
PEER = "from prompt_toolkit import PromptSession; PromptSession().prompt('> ')"


def seconds_to_prompt(command: list[str]) -> float:
    """From the start of a process to its prompt."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 80))
    environment = {**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", "LC_ALL": "C.UTF-8"}
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
    ) as child:
        os.close(slave)
        shown = ""
        while ">" not in strip_controls(shown):
            if select.select([master], [], [], 30)[0]:
                shown += os.read(master, 65536).decode(errors="replace")
        took = time.perf_counter() - began
        child.kill()
    os.close(master)
    return took


def main() -> None:
    """Print the medians and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        home = served_home(Path(folder) / "home", ["Hola."])
        ours = [sys.executable, "-m", "thaud.cli", "--home", str(home.root), "chat"]
        figures = {"thau chat": ours, "prompt_toolkit": [sys.executable, "-c", PEER]}
        medians = {
            name: statistics.median(seconds_to_prompt(command) for _ in range(ROUNDS))
            for name, command in figures.items()
        }
    for name, seconds in medians.items():
        print(f"{name:16} {seconds:.3f} s to the prompt")
    print(f"ratio            {medians['thau chat'] / medians['prompt_toolkit']:.1f}")


if __name__ == "__main__":
    main()
