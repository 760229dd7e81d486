"""Checks of the place: folders, file system, disk, daemon, base."""

import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from thaud import mounts
from thaud.control import read_request
from thaud.daemon_state import read_state
from thaud.doctor.finding import Case, Finding, note, problem, warning
from thaud.home import Home
from thaud.nano import BASE_DIR
from thaud.sizes import SHIPPED_NANO, find_size
from tools.sandbox import standing

ROOM_FOR_RUN = 2.5  # a merged model while it is written, one in its run's folder, and half of one for the rest
MODEL_BYTES = {"nano": 30 << 20, "0.5b": 1 << 30, "1.5b": 3 << 30, "3b": 6 << 30, "7b": 15 << 30}  # F16, about
STUCK_S = 3600.0
LEAST_ROOM = 1 << 20


def check_folders(home: Home) -> Iterator[Finding]:
    """Every folder is there and can be written, and so can the files in them that THAU lives by."""
    for folder in (home.root, home.data, *home.folders()):
        if (folder.exists() or folder.is_symlink()) and not folder.is_dir():
            yield problem("not_a_folder", str(folder), what_lies_at(folder))
        elif not folder.is_dir():
            yield problem("folder_missing", str(folder), path=folder)
        elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            yield problem("not_writable", str(folder), owner_and_mode(folder))
    for file in (home.config, home.ledger, home.lock, home.state, home.service_log):
        if file.exists() and not (file.is_file() and os.access(file, os.R_OK | os.W_OK)):
            yield problem("not_writable", str(file), owner_and_mode(file))
    yield from check_mount(home)


def check_mount(home: Home, table: str | None = None) -> Iterator[Finding]:
    """The ledger is on a disk of this machine. `table`: of mounts, this process's where it is None."""
    if mounts.is_network(kind := mounts.kind_at(home.data, table)):
        yield problem("network_ledger", str(home.data), kind)


def what_lies_at(path: Path) -> str:
    """What is in the place of a folder: `-> TARGET` of a link, else a mode."""
    return f"-> {path.readlink()}" if path.is_symlink() else stat.filemode(path.lstat().st_mode)


def owner_and_mode(path: Path) -> str:
    """Whose a file is and who may do what: `uid 0, drwxr-xr-x`."""
    found = path.stat()
    return f"uid {found.st_uid}, {stat.filemode(found.st_mode)}"


def check_daemon(case: Case) -> Iterator[Finding]:
    """Whether the service runs, what it waits for, and what was asked of it."""
    if case.served:
        yield note("daemon_runs")
        state = read_state(case.home.state)
        for pause in state.paused if state else ():
            yield problem("daemon_paused", pause.what, pause.reason)
    else:
        yield note("daemon_stopped")
    requests = [path for path in sorted(case.home.control.glob("*.json")) if path.is_file()]
    unreadable = [path for path in requests if read_request(path) is None and path.exists()]
    for path in unreadable:
        yield warning("request_unreadable", path.name, path=path)
    if not case.served and (waiting := len(requests) - len(unreadable)):
        yield warning("requests_wait", n=waiting)


def check_disk(case: Case) -> Iterator[Finding]:
    """Room for the next run; what runs and versions take."""
    free = shutil.disk_usage(case.home.data).free
    needed = int(ROOM_FOR_RUN * next_model_bytes(case))
    if free < LEAST_ROOM:
        yield problem("disk_full", str(case.home.data), gb(free))
    elif free < needed:
        yield warning("little_room", gb(needed), gb(free))
    taken = " + ".join(gb(folder_bytes(folder)) for folder in (case.home.runs, case.home.versions, case.home.bases))
    yield note("disk_use", taken, gb(free))


def next_model_bytes(case: Case) -> int:
    """About how large the next GGUF will be: as the last, else by the size's name."""
    versions = case.ledger.versions(case.settings.family)
    return versions[-1].size_bytes if versions else MODEL_BYTES.get(case.settings.size, 0)


def folder_bytes(folder: Path) -> int:
    """What the files in a folder take. What vanishes meanwhile counts nothing."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - os.walk's own names
            except OSError:
                continue
    return total


def gb(count: int) -> str:
    """Bytes as people say them."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def check_base(case: Case) -> Iterator[Finding]:
    """The base model can be had, as far as that can be told without loading it."""
    named = case.settings.base or find_size(case.settings.size).base
    folder = BASE_DIR if named == SHIPPED_NANO else Path(named).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            yield problem("base_incomplete", str(folder))
    elif folder.is_absolute() or named.startswith((".", "~")):
        yield problem("base_gone", str(folder))
    else:
        used = {str(run.spec.get("base")) for run in case.ledger.runs(limit=5)}
        if not any(Path(each).is_dir() for each in used):
            yield note("base_to_fetch", named)


def check_walls(case: Case) -> Iterator[Finding]:
    """Which walls stand for programs that the agent runs; each kind is really tried. None is no fault of a home."""
    found = standing()
    wanted = [kind for kind in found if case.settings.agent.sandbox in {"auto", kind}]
    held = [kind for kind in wanted if found[kind] is None]
    if held:
        yield note("walls_stand", held[0], ", ".join(kind for kind in found if found[kind] is None))
    else:
        yield note("walls_missing", " ".join(wanted), "; ".join(f"{kind}: {found[kind]}" for kind in wanted))


def check_progress(case: Case) -> Iterator[Finding]:
    """A run that is under way moves."""
    run = case.ledger.unfinished_run()
    if run is None:
        return
    if not case.served:
        yield warning("run_waits", run.id, str(run.state))
        return
    progress = case.home.runs / run.id / "progress.ndjson"
    silent_since = max(progress.stat().st_mtime if progress.exists() else 0.0, case.home.lock.stat().st_mtime)
    if (silent_s := time.time() - silent_since) > STUCK_S:
        yield problem("run_stuck", run.id, str(run.state), n=int(silent_s // 60))
