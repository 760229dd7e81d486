"""The files of a checkpoint: which counts, which is passed over, what the disk refuses. No training runs here."""

import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_disk_full import tmpfs
from thaud.failpoints import FAILPOINTS
from thaud.steps.train.checkpoint import MANIFEST, STATE, TENSORS, Checkpoints
from thaud.steps.train.resuming import Randomness

MARK = {"torch": "2", "seed": 7}
Said = list[dict[str, Any]]


class Counter:
    """The least that a training could be: a count, and an array that remembers it."""

    def __init__(self, size: int = 3) -> None:
        self.count, self.array = 0, np.zeros(size, dtype=np.float32)

    def go(self) -> None:
        self.count += 1
        self.array += self.count / 3

    def state(self) -> Mapping[str, Any]:
        return {"count": self.count, "array": self.array, "third": self.count / 3}

    def restore(self, state: Mapping[str, Any]) -> None:
        self.count, self.array = state["count"], state["array"].copy()
        assert state["third"] == self.count / 3


def checkpoints(folder: Path, part: Any, said: Said, mark: Mapping[str, Any] = MARK) -> Checkpoints:
    def tell(event: str, **fields: Any) -> None:
        said.append({"event": event, **fields})

    return Checkpoints(folder, {"part": part}, lambda: mark, 0.0, tell)


def kept(folder: Path, steps: int) -> Said:
    """Count so far, with a checkpoint at each step; what was said."""
    said: Said = []
    counter = Counter()
    written = checkpoints(folder, counter, said)
    for _ in range(steps):
        counter.go()
        written.keep_where_due(counter.count)
    return said


def resumed(folder: Path, mark: Mapping[str, Any] = MARK) -> tuple[int, Counter, Said]:
    """Where a new life of the count begins."""
    counter, said = Counter(), Said()
    return checkpoints(folder, counter, said, mark).resume(), counter, said


@contextmanager
def armed(setting: str) -> Iterator[None]:
    """Points that go off in this process."""
    FAILPOINTS.arm(setting)
    try:
        yield
    finally:
        FAILPOINTS.charges.clear()
        FAILPOINTS.on = False


def test_the_last_two_are_kept_and_the_newest_is_resumed(tmp_path: Path) -> None:
    """A state comes back as it was, floats to the last bit; only two checkpoints lie on the disk."""
    said = kept(tmp_path / "c", 5)
    assert sorted(each.name for each in (tmp_path / "c").iterdir()) == ["00000004", "00000005"]
    assert [each["steps"] for each in said if each["event"] == "checkpoint"] == [1, 2, 3, 4, 5]
    at, counter, said = resumed(tmp_path / "c")
    assert at == counter.count == 5
    expected = np.zeros(3, dtype=np.float32)
    for count in range(1, 6):
        expected += count / 3
    assert counter.array.tobytes() == expected.tobytes()
    assert said == [{"event": "resumed", "checkpoint": "00000005", "steps": 5}]


def test_without_a_checkpoint_it_begins_at_the_beginning(tmp_path: Path) -> None:
    """No folder, or an empty one, is no fault."""
    for _ in range(2):
        at, counter, said = resumed(tmp_path / "c")
        assert (at, counter.count, said) == (0, 0, [])
        (tmp_path / "c").mkdir(exist_ok=True)


def flip(path: Path) -> None:
    """Change the last bit of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "tensors": (lambda folder: flip(folder / TENSORS), "tensors.safetensors is damaged"),
    "state": (lambda folder: flip(folder / STATE), "state.json is damaged"),
    "shorter": (lambda folder: os.truncate(folder / TENSORS, 40), "tensors.safetensors is damaged"),
    "gone": (lambda folder: (folder / STATE).unlink(), "state.json is damaged"),
    "unfinished": (lambda folder: (folder / MANIFEST).unlink(), "it was not written to its end"),
    "manifest": (lambda folder: os.truncate(folder / MANIFEST, 40), "its manifest is damaged"),
    "nonsense": (lambda folder: (folder / MANIFEST).write_text("[1]"), "its manifest is damaged"),
    "renamed": (lambda folder: folder.rename(folder.with_name("00000009")), "its manifest is damaged"),
    "deep": (lambda folder: (folder / MANIFEST).write_text("[" * 100_000), "its manifest is damaged"),
    "zeros": (lambda folder: (folder / MANIFEST).write_bytes(bytes(99)), "its manifest is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path: Path, damage: str) -> None:
    """Whatever the disk lost of the newest, the one before counts; progress says which and why, and it is gone then."""
    kept(tmp_path / "c", 5)
    spoil, reason = DAMAGES[damage]
    spoil(tmp_path / "c" / "00000005")
    at, counter, said = resumed(tmp_path / "c")
    assert at == counter.count == 4
    assert [(each["event"], each.get("reason")) for each in said] == [
        ("checkpoint_passed_over", reason),
        ("resumed", None),
    ]
    assert [each.name for each in (tmp_path / "c").iterdir()] == ["00000004"]


@pytest.mark.parametrize("way", ["file", "link", "all"])
def test_what_is_no_folder_is_no_checkpoint_and_goes(tmp_path: Path, way: str) -> None:
    """A file or a link where a checkpoint was, or where all were: what lies behind it stays, and it is in no way."""
    folder, other = tmp_path / "c", tmp_path / "other"
    kept(other, 1)
    kept(folder, 5)
    place = folder if way == "all" else folder / "00000005"
    shutil.rmtree(place)
    place.symlink_to(other / "00000001") if way == "link" else place.write_text("no folder")
    counter, said = Counter(), Said()
    again = checkpoints(folder, counter, said)
    assert again.resume() == counter.count == (0 if way == "all" else 4)
    assert again.keep(5)
    assert resumed(folder)[0] == 5
    assert (other / "00000001" / MANIFEST).exists()


def test_where_none_is_sound_it_begins_at_the_beginning(tmp_path: Path) -> None:
    """Both damaged: nothing of them is used, and both are named."""
    kept(tmp_path / "c", 5)
    for folder in (tmp_path / "c").iterdir():
        flip(folder / TENSORS)
    at, counter, said = resumed(tmp_path / "c")
    assert at == counter.count == 0
    assert [each["checkpoint"] for each in said] == ["00000005", "00000004"]


def test_a_foreign_one_does_not_count(tmp_path: Path) -> None:
    """Of another seed or torch: it would not end with the bytes that this training has. It says of what it is."""
    kept(tmp_path / "c", 3)
    at, _, said = resumed(tmp_path / "c", {"torch": "3", "seed": 8})
    assert at == 0
    assert {each["reason"] for each in said} == {"it is of another torch, seed"}
    assert list((tmp_path / "c").iterdir()) == []


@pytest.mark.parametrize("point", ["before", "between", "after"])
@pytest.mark.parametrize("error", ["enospc", "eio"])
def test_what_the_disk_refuses_ends_no_training(tmp_path: Path, point: str, error: str) -> None:
    """A checkpoint is insurance: where it cannot be written the one before stays, it is said, and the next is tried."""
    with armed(f"file.checkpoint.{point}={error}@3"):
        said = kept(tmp_path / "c", 4)
    assert [each["event"] for each in said] == ["checkpoint", "checkpoint", "checkpoint_failed", "checkpoint"]
    assert said[2]["steps"] == 3
    assert said[2]["reason"]
    assert sorted(each.name for each in (tmp_path / "c").iterdir()) == ["00000002", "00000004"]
    assert resumed(tmp_path / "c")[0] == 4


def test_a_full_disk_keeps_the_one_before_and_is_given_its_room_back(tmp_path: Path) -> None:
    """The kernel's own ENOSPC, in the middle of the tensors: the half is removed, and with room it is written again."""
    with tmpfs(tmp_path / "disk", "size=1m") as disk:
        counter, said = Counter(60_000), Said()  # 240 KB each
        written = checkpoints(disk / "c", counter, said)
        counter.go()
        assert written.keep(1)
        (disk / "ballast").write_bytes(bytes(600_000))
        counter.go()
        assert not written.keep(2)
        assert [each.name for each in (disk / "c").iterdir()] == ["00000001"]
        assert said[-1] == {"event": "checkpoint_failed", "steps": 2, "reason": os.strerror(28)}
        (disk / "ballast").unlink()
        assert written.keep(2)
        fresh = Counter(60_000)
        assert checkpoints(disk / "c", fresh, []).resume() == fresh.count == 2


def test_time_decides_when_the_next_is_due(tmp_path: Path) -> None:
    """Nothing is written before so many seconds have gone by since the last one or the beginning."""
    said: Said = []
    rare = Checkpoints(tmp_path / "c", {"part": Counter()}, lambda: MARK, 3600.0, lambda *_, **each: said.append(each))
    for step in range(1, 4):
        rare.keep_where_due(step)
    assert not said
    assert not (tmp_path / "c").exists()


def test_tensors_are_a_safetensors_file(tmp_path: Path) -> None:
    """What we write without copying, the library reads: names, shapes (none too), kinds and values."""
    from safetensors.torch import load_file  # noqa: PLC0415

    given = {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.tensor(3.0), "c": torch.arange(5, dtype=torch.uint8)}

    class Part(Counter):
        def state(self) -> Mapping[str, Any]:
            return given

    assert checkpoints(tmp_path / "c", Part(), []).keep(1)
    found = load_file(tmp_path / "c" / "00000001" / TENSORS)
    assert found.keys() == {f"part/{name}" for name in given}
    for name, tensor in given.items():
        assert torch.equal(found[f"part/{name}"], tensor)


def test_random_states_come_back(tmp_path: Path) -> None:
    """Python, numpy and torch draw what they would have drawn."""

    def draw() -> list[float]:
        normal = np.random.standard_normal(3)  # noqa: NPY002 - the state that libraries share
        return [random.gauss(0, 1), random.random(), *normal, *torch.rand(3).tolist()]

    before = Randomness().state()
    try:
        draw()
        assert checkpoints(tmp_path / "c", Randomness(), []).keep(1)
        expected = draw()
        draw()
        assert checkpoints(tmp_path / "c", Randomness(), []).resume() == 1
        assert draw() == expected
    finally:
        random.setstate((before["python"][0], tuple(before["python"][1]), before["python"][2]))
