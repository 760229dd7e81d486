"""Which system calls a program behind walls may not make, as a seccomp program (BPF, seccomp(2)).

Owns the lists and the assembler; refuses machines whose numbers it does not know. The filter is the second wall: names
and processes are kept in by namespaces or Landlock, and this takes away what those leave open. It is a deny-list,
because an interpreter's needs change with its release and a broken allow-list would be turned off.
"""

import errno
import platform
import struct
from collections.abc import Mapping

from thaud.errors import ToolError

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
# name: number on x86_64, on aarch64; None where there is no such call
NUMBERS: Mapping[str, tuple[int | None, int | None]] = {
    "ioctl": (16, 29),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "socket": (41, 198),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "semget": (64, 190),
    "msgget": (68, 186),
    "fcntl": (72, 25),
    "kill": (62, 129),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "utime": (132, None),
    "mknod": (133, None),
    "uselib": (134, None),
    "setpriority": (141, 140),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "acct": (163, 89),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "tkill": (200, 130),
    "sched_setaffinity": (203, 122),
    "lookup_dcookie": (212, 18),
    "tgkill": (234, 131),
    "utimes": (235, None),
    "mbind": (237, 235),
    "set_mempolicy": (238, 237),
    "mq_open": (240, 180),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "ioprio_set": (251, 30),
    "inotify_init": (253, None),
    "inotify_add_watch": (254, 27),
    "migrate_pages": (256, 238),
    "fchownat": (260, 54),
    "futimesat": (261, None),
    "fchmodat": (268, 53),
    "unshare": (272, 97),
    "move_pages": (279, 239),
    "utimensat": (280, 88),
    "inotify_init1": (294, 26),
    "perf_event_open": (298, 241),
    "fanotify_init": (300, 262),
    "prlimit64": (302, 261),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "sched_setattr": (314, 274),
    "memfd_create": (319, 279),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "clone3": (435, 435),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "quotactl_fd": (443, 443),
    "memfd_secret": (447, 447),
    "process_mrelease": (448, 448),
    "fchmodat2": (452, 452),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "open_tree_attr": (467, 467),
    "file_setattr": (469, 469),
}


def words(text: str) -> tuple[str, ...]:
    """Names in a row."""
    return tuple(text.split())


FORBIDDEN = words(
    "ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd process_madvise process_mrelease "
    "mount umount2 pivot_root chroot open_tree move_mount fsopen fsconfig fsmount fspick mount_setattr open_tree_attr "
    "unshare setns "
    "add_key request_key keyctl bpf perf_event_open userfaultfd fanotify_init lookup_dcookie open_by_handle_at "
    "name_to_handle_at kexec_load kexec_file_load init_module finit_module delete_module iopl ioperm swapon swapoff "
    "reboot acct syslog quotactl quotactl_fd uselib migrate_pages move_pages"
)
UNOWNED = words("memfd_create memfd_secret shmget shmat shmctl semget msgget mq_open")  # memory that is no process's
ABSENT = words("clone3 io_uring_setup io_uring_enter io_uring_register")  # programs fall back where there is none
# Landlock looks at no mode, owner, time or attribute, and not at who watches a file: as the owner of files outside, a
# program could open them up. Changing them is answered with "done" and does nothing, so that cp -p, tar and touch work.
UNGUARDED = words(
    "chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes futimesat utimensat setxattr lsetxattr "
    "fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr"
)
WATCHING = words("inotify_init inotify_init1 inotify_add_watch")
OF_OTHERS = words("prlimit64 sched_setparam sched_setscheduler sched_setattr sched_setaffinity")  # (pid, ...), 0: own
SIGNALS = words("kill tkill tgkill pidfd_send_signal")  # where Landlock does not keep them in (ABI < 6)
BIRTHS = words("fork vfork clone")  # each is asked of the supervisor, which counts
ALLOW, KILL, ERRNO, ASK = 0x7FFF0000, 0x80000000, 0x00050000, 0x7FC00000
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF_LD|W|ABS, BPF_JMP|JEQ/JGE/JSET|K, BPF_RET|K
AT_NUMBER, AT_ARCHITECTURE, AT_ARGUMENTS = 0, 4, 16
X32_BIT = 0x40000000
NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET
TIOCSTI, TIOCLINUX = 0x5412, 0x541C  # characters typed into a terminal
FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR = 0x40086602, 0x401C5820  # a file's attributes, by whoever may read it and owns it
F_SETOWN, F_SETOWN_EX = 8, 15  # SIGIO, or any signal, to whom one likes

Instruction = tuple[int, int, int, int]


def make_filter(*, namespaces: bool, modes: bool, scoped: bool, machine: str = "") -> bytes:
    """The filter as an array of `struct sock_filter`.

    namespaces: mounts and processes are apart already (bubblewrap); else Landlock alone keeps names in.
    modes: modes, owners and times can be changed, because nothing of others can be reached that way.
    scoped: signals are kept in by namespaces or by Landlock. Raises ToolError for a machine that is not known.
    """
    machine = machine or platform.machine()
    if machine not in ARCHITECTURES:
        raise ToolError(f"there are no walls for programs on {machine}: only on {' and '.join(ARCHITECTURES)}")
    column = list(ARCHITECTURES).index(machine)
    rules = Rules(column)
    for name in (*FORBIDDEN, *UNOWNED):
        rules.refuse(name, errno.EPERM)
    for name in ABSENT:
        rules.refuse(name, errno.ENOSYS)
    rules.refuse("socket", errno.EACCES)
    rules.refuse_where("clone", 0, ANY_BIT, NEW_NAMESPACES)
    for command in (TIOCSTI, TIOCLINUX):
        rules.refuse_where("ioctl", 1, EQUAL, command)
    if not modes:
        rules.guard_modes()
    if not namespaces:
        rules.guard_others()
        rules.ask_births()
    if not scoped:
        rules.hold_signals()
    return rules.assembled(ARCHITECTURES[machine])


class Rules:
    """Rules as they are gathered: each is a few instructions that begin with the number and fall through."""

    def __init__(self, column: int) -> None:
        self.column = column
        self.instructions: list[Instruction] = []

    def refuse(self, name: str, error: int) -> None:
        """Answer a call with an error; with 0, as though it had been done."""
        if (number := NUMBERS[name][self.column]) is not None:
            self.instructions += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ERRNO | error)]

    def refuse_where(self, name: str, argument: int, test: int, value: int, *, unless: bool = False) -> None:
        """Refuse a call whose argument (its lower half) meets a test; with `unless`, one whose does not."""
        number = NUMBERS[name][self.column]
        assert number is not None
        refusal = (RETURN, 0, 0, ERRNO | errno.EPERM)
        passed = (test, 1, 0, value) if unless else (test, 0, 1, value)
        self.instructions += [
            (EQUAL, 0, 4, number),
            (LOAD, 0, 0, AT_ARGUMENTS + 8 * argument),
            passed,
            refusal,
            (LOAD, 0, 0, AT_NUMBER),
        ]

    def guard_modes(self) -> None:
        """Modes, owners, times and attributes stay as they are."""
        for name in UNGUARDED:
            self.refuse(name, 0)
        for command in (FS_IOC_SETFLAGS, FS_IOC_FSSETXATTR):
            self.refuse_where("ioctl", 1, EQUAL, command)

    def guard_others(self) -> None:
        """What Landlock leaves open besides: watching files; the limits and priorities of other processes."""
        for name in WATCHING:
            self.refuse(name, errno.EPERM)
        for name in OF_OTHERS:
            self.refuse_where(name, 0, EQUAL, 0, unless=True)
        for name in ("setpriority", "ioprio_set"):
            self.refuse_where(name, 1, EQUAL, 0, unless=True)
        self.refuse_where("setpriority", 0, EQUAL, 0, unless=True)  # PRIO_PROCESS
        self.refuse_where("ioprio_set", 0, EQUAL, 1, unless=True)  # IOPRIO_WHO_PROCESS

    def ask_births(self) -> None:
        """Have the supervisor say whether there may be another process or thread: nobody else can count them."""
        for name in BIRTHS:
            if (number := NUMBERS[name][self.column]) is not None:
                self.instructions += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ASK)]

    def hold_signals(self) -> None:
        """No signal to anyone, since there is no telling whose a process is."""
        for name in SIGNALS:
            self.refuse(name, errno.EPERM)
        for command in (F_SETOWN, F_SETOWN_EX):
            self.refuse_where("fcntl", 1, EQUAL, command)

    def assembled(self, architecture: int) -> bytes:
        """The whole program: calls of another machine's numbering end the process."""
        start: list[Instruction] = [
            (LOAD, 0, 0, AT_ARCHITECTURE),
            (EQUAL, 1, 0, architecture),
            (RETURN, 0, 0, KILL),
            (LOAD, 0, 0, AT_NUMBER),
        ]
        if self.column == 0:
            start += [(AT_LEAST, 0, 1, X32_BIT), (RETURN, 0, 0, ERRNO | errno.ENOSYS)]
        program = [*start, *self.instructions, (RETURN, 0, 0, ALLOW)]
        return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
