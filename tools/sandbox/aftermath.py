"""What is put right when a program has ended: guarded names that it made are set aside, links that it took are put
back, its private folder is removed.

Owns what happens to a workspace after a run, when nothing of the program is alive any more. Refuses to delete anything
in the workspace: the user may have made it meanwhile.
"""

import os
import secrets
import stat
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from tools.outside import Finished
from tools.sandbox.survey import OWN, REFUSED, Held, Survey, survey

PRIVATE = 0o700


def put_right(root: Path, before: Survey, finished: Finished) -> Finished:
    """Set aside what may not be in a workspace by a program's hand, and say so in its output."""
    after = survey(root)
    known = {one_of(held) for held in before.held.values()}
    planted = [path for path, held in after.held.items() if one_of(held) not in known]
    planted += [unlocked(path) for path in after.unseen - before.unseen]
    planted += [path for path, held in before.held.items() if replaced(path, held)]
    planted += [path for path in before.absent if os.path.lexists(path)]
    notes = [set_aside(root, path) for path in sorted(set(planted))]
    for path, held in before.held.items():
        if held.target is not None and not os.path.lexists(path):
            with suppress(OSError):
                path.symlink_to(held.target)
    return replace(finished, output="\n".join([finished.output.rstrip("\n"), *notes])) if notes else finished


def unlocked(path: Path) -> Path:
    """A folder that a program has closed to looks, so that it can be moved."""
    with suppress(OSError):
        path.chmod(PRIVATE)
    return path


def one_of(held: Held) -> tuple[object, ...]:
    """What tells a thing from others; inodes alone do not, they are used again."""
    return held.identity, held.folder, held.target


def replaced(path: Path, held: Held) -> bool:
    """Whether another thing lies where a held one was."""
    try:
        found = path.lstat()
        target = str(path.readlink()) if stat.S_ISLNK(found.st_mode) else None
    except OSError:
        return False
    return ((found.st_dev, found.st_ino), stat.S_ISDIR(found.st_mode), target) != one_of(held)


def set_aside(root: Path, path: Path) -> str:
    """Move something into a folder that nothing obeys; what was done, in words."""
    said = f"[{path.relative_to(root)}: programs may not make this"
    place = root
    for name in (OWN, REFUSED):
        place = place / name
        with suppress(FileNotFoundError):
            if not stat.S_ISDIR(place.lstat().st_mode):
                place.unlink()
        place.mkdir(mode=PRIVATE, exist_ok=True)
    kept = place / f"{secrets.token_hex(4)}-{path.name.lstrip('.')}.refused"
    try:
        path.rename(kept)
    except OSError as error:
        return f"{said}, and it could not be set aside ({error.strerror}): look at it before you go on]"
    return f"{said}: it was set aside as {kept.relative_to(root)}]"


def remove(scratch: Path) -> None:
    """Remove a private folder, however deep and locked a program has made it."""
    system = {"PATH": os.defpath}
    for command in (["chmod", "-R", "u+rwx"], ["rm", "-rf"]):
        subprocess.run([*command, "--", str(scratch)], env=system, capture_output=True, check=False)
