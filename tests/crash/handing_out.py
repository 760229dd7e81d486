"""`thau export` killed: whatever has a name in its folder is whole, and the next one mends the rest.

Refuses to judge the home, which the command only reads: that is the oracle's.
"""

import hashlib
from pathlib import Path

from tests.crash.arena import Arena, ViolationError
from tests.testkit.daemon import look
from thaud.durable import remove

FAMILY = "thau-nano"


def hand_out(arena: Arena, armed: str) -> int:
    """Export the version that answers with a point armed, and once more without; the first exit status."""
    arena.until(arena.ready, "a ready daemon")
    if look(arena.home, lambda ledger: ledger.champion(FAMILY)) is None:
        arena.writer.drop_taught(8)
        arena.until(lambda: look(arena.home, lambda ledger: ledger.champion(FAMILY)), "a version")
    folder = arena.root / "handed-out"
    arguments = "export", "--to", str(folder), "--force"
    status = arena.command(*arguments, points=armed)
    check(arena, folder, armed)
    if arena.command(*arguments) != 0:
        raise ViolationError(f"after {armed} the export was refused: {arena.said}")
    check(arena, folder, armed)
    if left := [path.name for path in folder.iterdir() if path.name.startswith(".")]:
        raise ViolationError(f"the export after {armed} left {left}")
    remove(folder)
    return status


def check(arena: Arena, folder: Path, armed: str) -> None:
    """Raise ViolationError where a model under its name is not the version's, or a text is not whole."""
    versions = look(arena.home, lambda ledger: ledger.versions(FAMILY))
    digests = {f"{version.name}.gguf": version.gguf_sha256 for version in versions}
    for path in folder.iterdir() if folder.exists() else ():
        data = path.read_bytes()
        if path.name in digests and hashlib.sha256(data).hexdigest() != digests[path.name]:
            raise ViolationError(f"after {armed} {path.name} has its name and is not whole")
        if not path.name.startswith(".") and not data:
            raise ViolationError(f"after {armed} {path.name} is empty")
