"""The folder of proposals: one JSON file each, readable by its user alone.

Owns names, durability and lenient reading: a damaged file is named and passed over, never removed. Refuses to judge.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from thaud.domain import canonical_json
from thaud.dropbox.writing import storage
from thaud.durable import fsync_folder, make_folder, write_durably
from thaud.errors import RejectedInputError, UsageError
from thaud.failpoints import reach
from thaud.proposals.proposal import Proposal, fingerprint

MAX_BYTES = 16 << 20
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, RejectedInputError)


@dataclass(frozen=True, slots=True)
class Damaged:
    """A file that holds no proposal that this release can read, and why."""

    name: str
    reason: str


def name_for(at: str, proposal: Proposal) -> str:
    """An identity: when it was proposed and what it says, `20260301T123000Z-ab12cd34`. `at` is ISO 8601, UTC."""
    digits = "".join(char for char in at[:19] if char.isdigit() or char == "T")
    return f"{digits}Z-{fingerprint(proposal)}"


def keep(folder: Path, proposal: Proposal) -> Path:
    """Write a proposal, whole or not at all, durably. The same one again replaces its file. Raises StorageError."""
    path = path_of(folder, proposal.id)
    data = json.dumps(proposal.to_json(), ensure_ascii=False, indent=1, allow_nan=False)
    with storage(f"write the proposal {path}"):
        make_folder(folder)
        write_durably(path, (data + "\n").encode("utf-8", "backslashreplace"), "proposal", mode=0o600)
    return path


def waiting_like(folder: Path, proposal: Proposal) -> Proposal | None:
    """One that waits and says the same, so that it need not be proposed twice."""
    wanted = canonical_json([proposal.example.content, proposal.rejected and proposal.rejected.to_json()])
    for path in sorted(folder.glob(f"*-{fingerprint(proposal)}.json")):
        found = read_file(path)
        if isinstance(found, Proposal) and found.kind is proposal.kind:
            said = canonical_json([found.example.content, found.rejected and found.rejected.to_json()])
            if said == wanted:
                return found
    return None


def withdraw(folder: Path, proposal: Proposal) -> None:
    """Remove a proposal that was accepted or dropped; it may be gone. Raises StorageError."""
    path = path_of(folder, proposal.id)
    with storage(f"remove the proposal {path}"):
        reach("remove.proposal.before")
        path.unlink(missing_ok=True)
        fsync_folder(folder)
        reach("remove.proposal.after")


def read_all(folder: Path) -> tuple[list[Proposal], list[Damaged]]:
    """All proposals, the oldest first, and the files that hold none. Raises StorageError where there is no reading."""
    found = [read_file(path) for path in files_in(folder)]
    proposals = [each for each in found if isinstance(each, Proposal)]
    return sorted(proposals, key=lambda each: each.id), [each for each in found if isinstance(each, Damaged)]


def find(folder: Path, named: str) -> Proposal:
    """The proposal that an identity, or the beginning or end of one, names. Raises UsageError."""
    proposals, damaged = read_all(folder)
    found = [each for each in proposals if each.id == named]
    found = found or [each for each in proposals if named and (each.id.startswith(named) or each.id.endswith(named))]
    if len(found) == 1:
        return found[0]
    for each in damaged:
        if each.name == f"{named}.json":
            raise UsageError(f"{each.name} cannot be read: {each.reason}; mend it, or remove it")
    if found:
        raise UsageError(f"{named!r} names {len(found)} proposals: write more of it, `thau review --list` shows them")
    raise UsageError(f"no proposal {named!r} waits: `thau review --list` shows those that do")


def check_waits(folder: Path, proposal: Proposal) -> None:
    """Raise UsageError where a proposal no longer waits as it was read: it was decided on, or edited, meanwhile."""
    if read_file(path_of(folder, proposal.id)) != proposal:
        raise UsageError(f"{proposal.id} was decided on or edited meanwhile: start `thau review` again to see it")


def count_waiting(folder: Path) -> int:
    """How many files wait, damaged ones included, without reading them. 0 where the folder cannot be looked into."""
    try:
        return sum(1 for _ in files_in(folder))
    except OSError:
        return 0


def files_in(folder: Path) -> Iterator[Path]:
    """Files that are, or should be, proposals."""
    return iter(sorted(path for path in folder.glob("*.json") if not path.name.startswith(".")))


def path_of(folder: Path, identity: str) -> Path:
    """The file of an identity. Raises UsageError for one that leads elsewhere."""
    if not identity or "/" in identity or identity.startswith("."):
        raise UsageError(f"{identity!r} is no identity of a proposal")
    return folder / f"{identity}.json"


def read_file(path: Path) -> Proposal | Damaged:
    """One file. Never raises."""
    try:
        if not path.is_file():  # a pipe would be waited for, for ever
            return Damaged(path.name, "it is no file")
        if path.stat().st_size > MAX_BYTES:
            return Damaged(path.name, f"it has more than {MAX_BYTES >> 20} MiB")
        proposal = Proposal.from_json(json.loads(path.read_bytes()))
    except UNREADABLE as error:
        return Damaged(path.name, str(error) or repr(error))
    if proposal.id != path.stem:
        return Damaged(path.name, f"it says that it is {proposal.id!r}")
    return proposal
