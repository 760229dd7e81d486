"""What runs between THAU and a program behind walls: takes away what the program may not have, and becomes it.

Owns limits, capabilities, Landlock and seccomp in the child; run as `python -I -S -c SOURCE PLAN`, with nothing but the
standard library, so that it works inside walls where THAU's own code is not to be seen. PLAN is the JSON of plan.py.
With `supervise` it stays outside as the parent, to whom whatever escapes its own parent falls, and leaves nothing
alive: each new process and thread is asked of it (seccomp's user notification), so that it can count them, and while it
kills there are no new ones. Refuses to go on where any of it fails: the program is then not run.
"""

import ctypes
import errno
import json
import os
import resource
import select
import signal
import socket
import struct
import sys
from fcntl import ioctl
from types import FrameType
from typing import Any, NoReturn

FAILED = 125  # the walls did not stand; the program has not been run
NOT_FOUND = 127
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_SECUREBITS = 1, 22, 24, 28
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 36, 38, 47
SECCOMP_MODE_FILTER, PR_CAP_AMBIENT_CLEAR_ALL = 2, 4
SECCOMP = {"x86_64": 317, "aarch64": 277}
SET_MODE_FILTER, NEW_LISTENER, GO_ON = 1, 8, 1
NOTIF_RECV, NOTIF_SEND, NOTIF_BYTES = 0xC0502100, 0xC0182101, 80
REAP_MS = 100
NOROOT_LOCKED = 0b11 | 0b1100  # SECBIT_NOROOT, NO_SETUID_FIXUP, both locked
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # landlock_*, on every machine
LAST_CAPABILITY = 63
libc = ctypes.CDLL(None, use_errno=True)


def main() -> NoReturn:
    """Do as the plan says."""
    plan = json.loads(sys.argv[1])
    try:
        if plan["supervise"]:
            supervise(plan)
        become(plan)
    except OSError as error:
        sys.stderr.write(f"walls: {error}\n")
    os._exit(FAILED)


def supervise(plan: dict[str, Any]) -> NoReturn:
    """Run the program as a child; when it ends, or THAU ends or says so (SIGTERM), end all that came of it."""
    checked(libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")
    checked(libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0), "prctl")
    signal.signal(signal.SIGTERM, end_all)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != plan["parent"]:
        os._exit(FAILED)
    mine, its = socket.socketpair()
    child = os.fork()
    if child == 0:
        become_of_child(plan, its)
    its.close()
    with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123 - pathlib costs 5 ms here
        for number in range(3):
            os.dup2(nothing.fileno(), number)
    status = follow(child, mine, plan["tasks"])
    end_children()
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def follow(child: int, mine: socket.socket, most: int) -> int:
    """Answer who asks for another process until the child has ended; its wait status."""
    listeners = socket.recv_fds(mine, 1, 1)[1]
    waiting, known = select.poll(), 1
    for each in (os.pidfd_open(child), *listeners):
        waiting.register(each, select.POLLIN)
    while True:
        ready = dict(waiting.poll(REAP_MS))
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == child:
                return ended[1]
        for each in listeners:
            if ready.get(each, 0) & select.POLLIN:
                known = answer(each, known, most)


def answer(listener: int, known: int, most: int) -> int:
    """Let one be born where there are not too many, counted anew when it seems so; how many there are now, at most."""
    asked = bytearray(NOTIF_BYTES)
    try:
        ioctl(listener, NOTIF_RECV, asked)
        known = known if known < most else count_tasks()
        error, flags = (0, GO_ON) if known < most else (-errno.EAGAIN, 0)
        ioctl(listener, NOTIF_SEND, bytearray(struct.pack("=QqiI", *struct.unpack_from("=Q", asked), 0, error, flags)))
    except OSError:  # who asked has gone
        return known
    return known + 1


def count_tasks() -> int:
    """The threads of all that descends from this process."""
    parents, threads = {}, {}
    for name in os.listdir("/proc"):  # noqa: PTH208 - names are numbers
        if name.isdigit() and (fields := fields_of(name)):
            parents[int(name)], threads[int(name)] = int(fields[1]), int(fields[17])
    found, fresh = 0, {os.getpid()}
    while fresh := {pid for pid, parent in parents.items() if parent in fresh}:
        found += sum(threads[pid] for pid in fresh)
    return found


def become_of_child(plan: dict[str, Any], its: socket.socket) -> NoReturn:
    """The child's side of the fork: never comes back, whatever happens."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.setsid()
        become(plan, its)
    except BaseException as error:  # noqa: BLE001 - a second supervisor must not come of it
        sys.stderr.write(f"walls: {error}\n")
        sys.stderr.flush()
    os._exit(FAILED)


def end_all(number: int, _frame: FrameType | None) -> NoReturn:
    """THAU has gone, or wants it to end."""
    end_children()
    os._exit(128 + number)


def end_children() -> None:
    """Kill children until there are none; theirs fall to us. What is stopped first cannot fork meanwhile."""
    while children := find_children():
        for each in children:
            os.kill(each, signal.SIGSTOP)
        for each in children:
            os.kill(each, signal.SIGKILL)
        for each in children:
            os.waitpid(each, 0)


def find_children() -> list[int]:
    """This process's own children, dead ones too: unlike others, they cannot have become somebody else."""
    me = str(os.getpid()).encode()
    names = (name for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - names are numbers
    return [int(name) for name in names if (fields := fields_of(name)) and fields[1] == me]


def fields_of(pid: str) -> list[bytes]:
    """What /proc/PID/stat says after the name; nothing where it has gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs 5 ms here
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def become(plan: dict[str, Any], its: socket.socket | None = None) -> NoReturn:
    """Give up everything and run the program. Raises OSError where any of it cannot be given up.

    its: where the supervisor waits for the descriptor on which it is asked.
    """
    if plan["folder"]:
        os.chdir(plan["folder"])
    os.nice(plan["nice"])
    for name, most in plan["limits"].items():
        limit(getattr(resource, name), most)
    drop_capabilities()
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    if plan["landlock"]:
        restrict(plan["landlock"])
    install(bytes.fromhex(plan["filter"]), its)
    argv = plan["argv"]
    try:
        os.execvp(argv[0], argv)  # noqa: S606 - the program that was asked for
    except OSError as error:
        sys.stderr.write(f"{argv[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(NOT_FOUND)


def limit(kind: int, most: int) -> None:
    """Lower a limit for good; what is lower already stays."""
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def drop_capabilities() -> None:
    """None are left, and none come back with a program run as root."""
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    libc.prctl(PR_SET_SECUREBITS, NOROOT_LOCKED, 0, 0, 0)  # refused to who has no capabilities, and needs none
    for capability in range(LAST_CAPABILITY + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0))
    checked(libc.capset(header, ctypes.create_string_buffer(struct.pack("=6I", *[0] * 6))), "capset")


def restrict(rules: dict[str, Any]) -> None:
    """Landlock: nothing of what is handled, but what the rules allow."""
    handled = struct.pack("=3Q", rules["names"], rules["net"], rules["scoped"])
    size = 24 if rules["scoped"] else 16
    ruleset = checked(libc.syscall(CREATE_RULESET, handled, ctypes.c_size_t(size), 0), "landlock_create_ruleset")
    for path, allowed in rules["paths"]:
        at = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        rule = struct.pack("=Qi", allowed, at)
        checked(libc.syscall(ADD_RULE, ruleset, 1, rule, 0), f"landlock_add_rule {path}")
        os.close(at)
    checked(libc.syscall(RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    os.close(ruleset)


def install(program: bytes, its: socket.socket | None) -> None:
    """seccomp, from an array of struct sock_filter; where somebody waits to be asked, they get the descriptor."""
    instructions = ctypes.create_string_buffer(program, len(program))
    header = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions)))
    if its is None:
        checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0), "seccomp")
        return
    call = SECCOMP[os.uname().machine]
    listener = checked(libc.syscall(call, SET_MODE_FILTER, NEW_LISTENER, header), "seccomp")
    socket.send_fds(its, [b"."], [listener])


def checked(result: int, what: str) -> int:
    """What a call of libc gave. Raises OSError naming it."""
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")
    return result


if __name__ == "__main__":
    main()
