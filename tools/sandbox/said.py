"""What came of a program, in words for a model: its output, its exit code if not 0, which bound ended it."""

from signal import Signals

from tools.outside import Finished

STOPPED = {
    "time": "it took too long",
    "cpu": "it used too much processor time",
    "memory": "it used too much memory",
    "processes": "it made too many processes",
    "disk": "it wrote too much, or made folders that cannot be looked into",
    "output": "it printed too much",
    "interrupt": "the user stopped it",
}


def said(finished: Finished) -> str:
    """The result's text."""
    lines = [finished.output.rstrip("\n")] if finished.output.strip() else []
    if finished.stopped is not None:
        lines.append(f"[stopped after {finished.seconds:.1f} s: {STOPPED.get(finished.stopped, finished.stopped)}]")
    elif finished.code:
        lines.append(f"[{ending(finished.code)}]")
    return "\n".join(lines) or "[it printed nothing]"


def ending(code: int) -> str:
    """An exit code, or the signal that a negative one is."""
    if code > 0:
        return f"exit code {code}"
    try:
        return f"ended by {Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"
