"""Run as a program: `python leash.py PARENT COMMAND...`. Owns the death of a server with the process that wants it.

The server gets our standard streams. Where the parent is gone, killed even, this process, the server and what it
started in its group are killed; where the server ends, this ends with its status. Imports the standard library alone.
"""

import ctypes
import os
import signal
import sys
from types import FrameType

PR_SET_PDEATHSIG = 1
NOT_STARTED = 127


def die_with_parent(number: int) -> None:
    """Ask the kernel for a signal when the parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def kill_all(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
    """Kill the whole group, oneself included."""
    os.killpg(0, signal.SIGKILL)


def become(command: list[str]) -> None:
    """In the child: the server, with the signals of a fresh program. Does not return."""
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent(signal.SIGKILL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is what is wanted
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(NOT_STARTED)


def main(parent: int, command: list[str]) -> int:
    """Start the server and wait for its end. Its exit status."""
    signal.signal(signal.SIGUSR1, kill_all)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # meant for the server; its end is ours
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(signal.SIGUSR1)
    if os.getppid() != parent:
        return NOT_STARTED
    child = os.fork()
    if child == 0:
        become(command)
    for stream in (0, 1):
        os.close(stream)  # or the server's end would not be seen
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
