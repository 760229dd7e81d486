"""Probes of processes, the kernel and networks. See harness.py."""

import ctypes
import errno
import fcntl
import os
import resource
import signal
import socket
import struct
import termios

from tests.safety.inside.harness import P, call, libc, probe

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000


def read_all(path: str) -> bytes:
    """A file of /proc."""
    with open(path, "rb") as file:
        return file.read()


# Processes


@probe
def kill():
    os.kill(P["victims"]["kill"], signal.SIGTERM)
    return True


@probe
def kill_group():
    os.killpg(P["victims"]["kill_group"], signal.SIGTERM)
    return True


@probe
def kill_thread():
    pid = P["victims"]["kill_thread"]
    call(234, pid, pid, signal.SIGTERM)
    return True


@probe
def kill_by_descriptor():
    signal.pidfd_send_signal(os.pidfd_open(P["victims"]["kill_by_descriptor"]), signal.SIGTERM)
    return True


@probe
def kill_by_owning_a_file():
    read, write = os.pipe()
    fcntl.fcntl(read, 10, signal.SIGTERM)  # F_SETSIG
    fcntl.fcntl(read, fcntl.F_SETOWN, P["victims"]["kill_by_owning_a_file"])
    fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC)
    os.write(write, b"x")
    return True


@probe
def see_processes():
    return str(P["victim"]) in os.listdir("/proc")


@probe
def read_environment_of_thau():
    return P["in_environment"].encode() in read_all(f"/proc/{P['thau']}/environ")


@probe
def read_command_line():
    return P["in_command_line"].encode() in read_all(f"/proc/{P['victim']}/cmdline")


@probe
def read_memory():
    with open(f"/proc/{P['victim']}/mem", "rb", buffering=0) as file:
        file.seek(P["address"])
        return b"SECRET" in file.read(16)


@probe
def read_memory_by_call():
    buffer = ctypes.create_string_buffer(16)
    own = struct.pack("QQ", ctypes.addressof(buffer), 16)
    theirs = struct.pack("QQ", P["address"], 16)
    call(310, P["victim"], own, 1, theirs, 1, 0)
    return b"SECRET" in buffer.raw


@probe
def seize():
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    return libc.ptrace(0x4206, P["victim"], None, None) == 0


@probe
def be_traced():
    return libc.ptrace(0, 0, None, None) == 0


@probe
def list_descriptors():
    return len(os.listdir(f"/proc/{P['thau']}/fd")) > 0


@probe
def steal_descriptor():
    return call(438, os.pidfd_open(P["victim"]), 1, 0) >= 0


@probe
def limit_others():
    resource.prlimit(P["victim"], resource.RLIMIT_NOFILE, (100, 100))
    return True


@probe
def slow_others():
    os.setpriority(os.PRIO_PROCESS, P["victim"], 5)
    return True


@probe
def pin_others():
    os.sched_setaffinity(P["victim"], {0})
    return True


# The kernel


@probe
def mount():
    libc.unshare(CLONE_NEWNS)
    return libc.mount(b"none", b"free", b"tmpfs", 0, None) == 0


@probe
def make_user_namespace():
    return libc.unshare(CLONE_NEWUSER) == 0


@probe
def clone_user_namespace():
    pid = libc.syscall(56, CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    return pid > 0


@probe
def clone3_user_namespace():
    arguments = struct.pack("8Q", CLONE_NEWUSER, 0, 0, 0, signal.SIGCHLD, 0, 0, 0)
    pid = call(435, arguments, len(arguments))
    if pid == 0:
        os._exit(0)
    return pid > 0


@probe
def make_network_namespace():
    return libc.unshare(CLONE_NEWNET | CLONE_NEWUSER) == 0


@probe
def open_a_mount_interface():
    return call(430, b"tmpfs", 0) >= 0


@probe
def change_root():
    os.chroot("free")
    return True


@probe
def make_device():
    os.mknod("free/device", 0o60600, os.makedev(7, 0))
    return True


@probe
def open_disk_made_here():
    os.mknod("free/disk", 0o60600, P["disk_number"])
    with open("free/disk", "rb") as file:
        return len(file.read(16)) == 16


@probe
def be_another_user():
    os.setuid(65533)
    return True


@probe
def have_capabilities():
    data = ctypes.create_string_buffer(24)
    libc.capget(ctypes.create_string_buffer(struct.pack("=Ii", 0x20080522, 0)), data)
    return any(data.raw)


@probe
def gain_privileges():
    return libc.prctl(39, 0, 0, 0, 0) == 0


@probe
def add_key():
    return call(248, b"user", b"probe", b"x", 1, -1) > 0


@probe
def load_program_into_kernel():
    return call(321, 0, struct.pack("=5I", 2, 4, 4, 1, 0) + bytes(100), 72) >= 0


@probe
def ring():
    return call(425, 4, ctypes.create_string_buffer(120)) >= 0


@probe
def handle_faults():
    return call(323, 1) >= 0


@probe
def count_events():
    attributes = ctypes.create_string_buffer(struct.pack("=IIQ", 1, 112, 0) + bytes(96))
    return call(298, attributes, 0, -1, -1, 0) >= 0


@probe
def hold_memory_of_nobody():
    return os.memfd_create("probe") >= 0


@probe
def share_memory():
    return call(29, 0, 4096, 0o1600) >= 0


@probe
def queue_messages():
    return call(68, 0, 0o1600) >= 0


@probe
def load_module():
    return libc.syscall(313, -1, b"", 0) == -1 and ctypes.get_errno() == errno.EBADF


@probe
def read_kernel_log():
    return libc.klogctl(10, None, 0) > 0


@probe
def rename_machine():
    name = socket.gethostname().encode()
    return libc.sethostname(name, len(name)) == 0


@probe
def type_into_terminal():
    os.setsid()
    master, slave = os.openpty()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    fcntl.ioctl(slave, termios.TIOCSTI, b"x")
    return os.isatty(master)


# Networks


@probe
def connect_to_loopback():
    with socket.create_connection(("127.0.0.1", P["tcp"]), 2) as joined:
        return joined.recv(6) == b"SECRET"


@probe
def connect_to_loopback_of_6():
    with socket.create_connection(("::1", P["tcp6"]), 2) as joined:
        return joined.recv(6) == b"SECRET"


@probe
def connect_to_own_address():
    with socket.create_connection((P["address_of_machine"], P["tcp"]), 2) as joined:
        return joined.recv(6) == b"SECRET"


def asked(family: int, kind: int, address: object) -> bool:
    """Whether a server answers a datagram."""
    with socket.socket(family, kind) as asking:
        asking.settimeout(2)
        if family == socket.AF_UNIX:
            asking.bind("")
        asking.sendto(b"hello", address)
        return asking.recv(6) == b"SECRET"


@probe
def send_datagram():
    return asked(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", P["udp"]))


@probe
def ask_name_server():
    question = b"\x12\x34\x01\x00\x00\x01" + bytes(6) + b"\x06secret\x07example\x00\x00\x01\x00\x01"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(2)
        asking.sendto(question, ("127.0.0.1", P["udp"]))
        return asking.recv(6) == b"SECRET"


@probe
def listen():
    with socket.create_server(("0.0.0.0", 0)) as server:
        return server.getsockname()[1] > 0


@probe
def listen_locally():
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("free/socket")
        server.listen()
        return os.path.exists("free/socket")


def joined(address: str) -> bool:
    """Whether a local server answers."""
    with socket.socket(socket.AF_UNIX) as joining:
        joining.settimeout(2)
        joining.connect(address)
        return joining.recv(6) == b"SECRET"


@probe
def join_socket_outside():
    return joined(P["unix"])


@probe
def join_socket_in_workspace():
    return joined("here.sock")


@probe
def join_abstract_socket():
    return joined("\0" + P["abstract"])


@probe
def listen_to_kernel():
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as listening:
        return listening.fileno() >= 0


@probe
def hear_packets():
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as hearing:
        return hearing.fileno() >= 0


@probe
def use_kernel_ciphers():
    with socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET, 0) as ciphering:
        return ciphering.fileno() >= 0


@probe
def talk_to_hypervisor():
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as talking:
        return talking.fileno() >= 0
