"""The reader of GGUF headers."""

from pathlib import Path

import gguf
import pytest

from tests.testkit.scripted_gguf import write_scripted_gguf
from thaud.errors import ModelError
from thaud.serving.gguf_header import is_gguf, read_header


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.gguf"
    write_scripted_gguf(path, ["hola ", "mundo"], chat_template="{{ messages }}")
    return path


def test_agrees_with_the_reference_reader(model: Path) -> None:
    """Keys, values, tensors and the place of the weights are those that the gguf package reads."""
    ours, theirs = read_header(model, keep_arrays=True), gguf.GGUFReader(model)
    assert list(ours.entries) == [key for key in theirs.fields if not key.startswith("GGUF.")]
    for key, entry in ours.entries.items():
        assert entry.value == theirs.fields[key].contents()
    for mine, other in zip(ours.tensors, theirs.tensors, strict=True):
        assert (mine.name, list(mine.dims), mine.nbytes) == (other.name, list(other.shape), other.n_bytes)
        assert ours.data_start + mine.offset == other.data_offset


def test_vocabulary_is_read_only_on_demand(model: Path) -> None:
    """Without `keep_arrays` the vocabulary is walked over, not kept."""
    assert read_header(model).get("tokenizer.ggml.tokens") is None
    assert "hola" in "".join(read_header(model, keep_arrays=True).get("tokenizer.ggml.tokens"))
    assert read_header(model).get("tokenizer.chat_template") == "{{ messages }}"


def test_every_cut_is_noticed(model: Path) -> None:
    """A file cut anywhere is a ModelError, in the header and in the weights alike."""
    data = model.read_bytes()
    assert is_gguf(model)
    for size in (0, 3, 10, 24, 100, 2000, len(data) // 2, len(data) - 40):
        model.write_bytes(data[:size])
        with pytest.raises(ModelError, match=r"EOF|exceeds file size|not in GGUF format"):
            read_header(model)


@pytest.mark.parametrize(
    ("at", "patch", "complaint"),
    [
        (0, b"JUNK", "not in GGUF format"),
        (4, (2).to_bytes(4, "little"), "version 2"),
        (24, (1 << 40).to_bytes(8, "little"), "a string of"),
    ],
    ids=["magic", "version", "length"],
)
def test_nonsense_is_told(model: Path, at: int, patch: bytes, complaint: str) -> None:
    """A wrong magic, version or length is told in one line, without reading gigabytes."""
    data = bytearray(model.read_bytes())
    data[at : at + len(patch)] = patch
    model.write_bytes(data)
    with pytest.raises(ModelError, match=complaint):
        read_header(model)
