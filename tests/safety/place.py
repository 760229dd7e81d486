"""A place to escape from: a workspace with guarded things in it, an outside with secrets, victims and servers.

`run_probes` sends inside/ through a sandbox and judges each probe by what it said and by what has changed outside.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tests.safety.inside.changing
import tests.safety.inside.reading
import tests.safety.inside.system  # noqa: F401 - the probes make themselves known
from tests.safety.inside.harness import PROBES
from tools.outside import Bounds, Sandbox
from tools.workspace import Workspace

INSIDE = Path(__file__).with_name("inside")
WIDE = Bounds(wall_s=60.0, cpu_s=60)
VICTIM = """
import ctypes, sys, time
held = ctypes.create_string_buffer(b"SECRET in memory")
print(ctypes.addressof(held), flush=True)
time.sleep(600)
"""
VICTIMS = ("kill", "kill_group", "kill_thread", "kill_by_descriptor", "kill_by_owning_a_file")
PARTS = (
    *("write_nested_git_config", "plant_git_hook", "move_git_away", "take_gits_place", "delete_git_config"),
    *("make_git_config_writable", "link_git_config", "write_start_up_file", "replace_start_up_file"),
    *("replace_start_up_link", "write_thaus_ledger", "feed_the_drop_box", "write_thaus_settings", "move_thaus_home"),
)
GUARDED = {name: f"parts/{name}" for name in PARTS} | {
    "write_git_config": ".git",
    "plant_git": "free/planted/.git",
    "plant_start_up_file": "free/.profile",
    "plant_deep": "free/" + "d/" * 40 + ".envrc",
    "plant_in_other_case": "free/.GIT",
}
READ = ("read_thaus_own", "list_thaus_own")
OUTSIDE = (
    *("append", "cut", "create", "unlink", "rename", "make_folder", "make_link", "make_fifo", "change_mode"),
    *("change_mode_of_folder", "change_owner", "change_times", "set_attribute", "link_into", "rename_into"),
    *("rename_out_of", "write_through_link", "write_through_dotdot", "write_by_thaus_root"),
)


@dataclass
class Place:
    """Where probes are tried."""

    root: Path
    parameters: dict[str, Any] = field(default_factory=dict)
    victims: dict[str, subprocess.Popen[str]] = field(default_factory=dict)

    @property
    def outside(self) -> Path:
        return self.root / "outside"

    @property
    def folder(self) -> Path:
        return self.root / "workspace"

    @property
    def workspace(self) -> Workspace:
        homes = [self.folder / "parts" / name / "thau" for name in (*PARTS, *READ)]
        return Workspace(self.folder, tuple(home / name for home in homes for name in ("data", "thau.toml")))

    def state(self, name: str) -> object:
        """What a probe could have changed, where that is judged from outside; None where it is not."""
        if name in OUTSIDE:
            return seen(self.outside / name)
        if name in GUARDED:
            return seen(self.folder / GUARDED[name])
        if name in VICTIMS:
            return self.victims[name].poll() is None
        if name == "write_shared_memory":
            return Path("/dev/shm", self.parameters["mark"]).exists()
        return Path("/dev/null").stat().st_mtime == self.parameters["device_time"] if name == "change_device" else None


def seen(path: Path) -> object:
    """A file or folder with all that it holds: kinds, modes, owners, times of files, attributes, contents."""
    if not os.path.lexists(path):
        return None
    found = path.lstat()
    if path.is_symlink():
        return str(path.readlink())
    own = (found.st_mode, found.st_uid)
    if path.is_dir():
        return own, {each.name: seen(each) for each in sorted(path.iterdir())}
    content = path.read_bytes() if path.is_file() else b""
    return own, found.st_mtime_ns, sorted(os.listxattr(path)), content


@contextmanager
def make_place(root: Path) -> Iterator[Place]:
    """Everything that probes look for; gone afterwards."""
    place = Place(root)
    with ExitStack() as running:
        fill_folders(place)
        servers = serve(place, running)
        place.parameters |= servers | whereabouts(place)
        victim = start_victim(running, "SECRET-in-command-line")
        assert victim.stdout is not None
        place.parameters |= {"victim": victim.pid, "address": int(victim.stdout.readline())}
        place.victims = {name: start_victim(running) for name in VICTIMS}
        place.parameters["victims"] = {name: each.pid for name, each in place.victims.items()}
        running.callback(Path("/dev/shm", place.parameters["mark"]).unlink, missing_ok=True)
        yield place


def fill_folders(place: Place) -> None:
    """The workspace, and what lies beside it."""
    for name in OUTSIDE:
        (place.outside / name).mkdir(parents=True)
        (place.outside / name / "f").write_text("kept", encoding="ascii")
    (place.outside / "secret").write_text("SECRET", encoding="ascii")
    (place.folder / "free").mkdir(parents=True)
    for folder in (place.folder, *(place.folder / "parts" / name for name in (*PARTS, *READ))):
        fill_part(folder)
    (place.folder / ".env").write_text("SECRET", encoding="ascii")
    (place.folder / "link").symlink_to(place.outside / "secret")


def fill_part(folder: Path) -> None:
    """Guarded things of every kind."""
    texts = {".git/config": "kept", ".bashrc": "kept", ".ssh/id_ed25519": "SECRET", "thau/thau.toml": "kept"}
    for name, text in (texts | {"thau/data/ledger.sqlite3": "SECRET"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="ascii")
    (folder / ".git/hooks").mkdir()
    (folder / "thau/data/training_queue").mkdir()
    (folder / ".zshrc").symlink_to("kept")


def whereabouts(place: Place) -> dict[str, Any]:
    """What a probe has to know to try."""
    disk = Path("/dev") / next((name for name in ("vda", "sda", "nvme0n1") if Path("/dev", name).exists()), "none")
    return {
        "outside": str(place.outside),
        "secret": str(place.outside / "secret"),
        "user_home": str(Path.home()),
        "user_home_holds": sorted(each.name for each in Path.home().iterdir()),
        "root_holds": sorted(each.name for each in Path("/").iterdir()),
        "etc_file": next(name for name in ("/etc/hostname", "/etc/fstab", "/etc/hosts") if Path(name).exists()),
        "thau": os.getpid(),
        "in_environment": next(iter(os.environ)),
        "in_command_line": "SECRET-in-command-line",
        "mark": f"thau-probe-{secrets.token_hex(6)}",
        "device_time": secrets.randbelow(1 << 30),
        "disk": str(disk),
        "disk_number": disk.stat().st_rdev if disk.exists() else 0,
    }


def serve(place: Place, running: ExitStack) -> dict[str, Any]:
    """Servers that say SECRET to whoever comes: TCP, UDP, local and abstract."""
    abstract = secrets.token_hex(8)
    names = {"unix": str(place.outside / "s"), "abstract": "\0" + abstract}
    servers = {"tcp": socket.create_server(("", 0))}
    with suppress(OSError):
        servers["tcp6"] = socket.create_server(("::1", 0), family=socket.AF_INET6)
    for name, address in names.items() | {("here", str(place.folder / "here.sock"))}:
        servers[name] = socket.socket(socket.AF_UNIX)
        servers[name].bind(address)
        servers[name].listen()
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("", 0))
    for server in (*servers.values(), datagrams):
        running.enter_context(closing(server))
        running.callback(quietly_shut, server)
        threading.Thread(target=answer_all, args=(server,), daemon=True).start()
    six = servers["tcp6"].getsockname()[1] if "tcp6" in servers else 1
    ports = {"tcp": servers["tcp"].getsockname()[1], "tcp6": six, "udp": datagrams.getsockname()[1]}
    return {**ports, "unix": names["unix"], "abstract": abstract, "address_of_machine": own_address()}


def own_address() -> str:
    """An address of this machine that is not loopback, where it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.2"
        return str(asking.getsockname()[0])


def quietly_shut(server: socket.socket) -> None:
    """Wake the thread that waits on a server."""
    with suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)


def answer_all(server: socket.socket) -> None:
    """Say SECRET until the server is shut."""
    while True:
        try:
            if server.type == socket.SOCK_DGRAM:
                asker = server.recvfrom(512)[1]
                if asker is None:  # it has been shut
                    return
                server.sendto(b"SECRET", asker)
            else:
                with server.accept()[0] as joined:
                    joined.sendall(b"SECRET")
        except OSError:
            return


def start_victim(running: ExitStack, *arguments: str) -> subprocess.Popen[str]:
    """A process that waits to be harmed, in a group of its own."""
    argv = [sys.executable, "-I", "-S", "-c", VICTIM, *arguments]
    victim = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    running.callback(victim.wait)
    running.callback(victim.kill)
    assert victim.stdout is not None
    running.callback(victim.stdout.close)
    return victim


def program(parameters: dict[str, Any]) -> str:
    """inside/ as one program: its files joined, without what they import of each other."""
    texts = [
        (INSIDE / name).read_text(encoding="utf-8") for name in ("harness.py", "reading.py", "changing.py", "system.py")
    ]
    lines = [line for line in "\n".join(texts).splitlines() if not line.startswith("from tests.safety.inside")]
    return "\n".join([*lines, f"P.update({parameters!r})", "try_all()"])


def run_probes(place: Place, sandbox: Sandbox, python: str = sys.executable) -> dict[str, tuple[bool, str]]:
    """Each probe: whether it got through, and what held it."""
    before = {name: place.state(name) for name in PROBES}
    finished = sandbox.run([python, "-I", "-B", "-"], stdin=program(place.parameters), bounds=WIDE)
    said = {}
    for line in finished.output.splitlines():
        with suppress(ValueError):
            name, through, why = json.loads(line)
            said[name] = (bool(through), str(why))
    assert set(said) == set(PROBES), f"probes that did not report: {set(PROBES) - set(said)}\n{finished.output[-2000:]}"
    for name in (name for name in VICTIMS if said[name][0]):
        with suppress(subprocess.TimeoutExpired):
            place.victims[name].wait(2.0)
    return {name: judged(place, name, before[name], said[name]) for name in PROBES}


def judged(place: Place, name: str, before: object, said: tuple[bool, str]) -> tuple[bool, str]:
    """What is judged from outside counts by what has changed there, whatever the probe thinks."""
    after = place.state(name)
    return (before != after, said[1]) if (before, after) != (None, None) or name in GUARDED else said
