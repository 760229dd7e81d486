"""What we write is what llama.cpp's own converter writes of the same merge, made in memory in float32 by peft."""

import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import pytest
import torch

from tests.testkit.llama_cpp_source import Job, lora_job, model_job, run_converters
from tests.testkit.merged import merged_model
from tests.testkit.tiny_models import write_tiny_adapter, write_tiny_base
from thaud.domain import ModelKind
from thaud.steps.contract import ExportSpec
from thaud.steps.export.lora import write_adapter
from thaud.steps.export.vocabulary import KNOWN, PROBE
from thaud.steps.export.writer import write_gguf

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "export.md"
KINDS: tuple[ModelKind, ...] = ("f16", "q8_0", "bf16")
WRITTEN = (*KINDS, "adapter")
NAME = "thau-tiny-v1"
TOKENIZER_FILES = "*token*", "chat_template*", "README.md", "generation_config.json"


@dataclass(frozen=True)
class Case:
    """A base: one of tiny_models' kinds with one of tiny_tokenizers', and what is particular about it."""

    kind: str
    words: str = "qwen2"
    tied: bool = True
    sharded: bool = False
    carded: bool = False
    changes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shard(self) -> str:
        return "64KB" if self.sharded else "2GB"


CASES = {
    "qwen2": Case("qwen2", carded=True),
    "qwen2, untied, sharded": Case("qwen2", tied=False, sharded=True),
    "qwen3": Case("qwen3"),
    "qwen3, untied, sharded": Case("qwen3", tied=False, sharded=True),
    "qwen2, drawn together": Case("qwen2", changes={"rope_parameters": {"rope_type": "linear", "factor": 4.0}}),
    "llama, SentencePiece": Case("llama", "sentencepiece", tied=False),
    # The converter of such a tokenizer writes no rows for an embedding that is longer, and llama.cpp refuses its file.
    "llama, its file lost, sharded": Case(
        "llama", "sentencepiece without its file", sharded=True, changes={"vocab_size": 526}
    ),
    "llama of as many keys": Case("llama of as many keys", "sentencepiece", tied=False, sharded=True),
    "llama of wide heads": Case("llama of wide heads", "sentencepiece"),
    "llama, drawn together": Case("llama, drawn together", "sentencepiece"),
    "llama 3": Case("llama 3", "llama 3"),
    "llama 3, untied, sharded": Case("llama 3", "llama 3", tied=False, sharded=True),
    "llama with biases": Case("llama with biases", "llama 3", sharded=True),
}


@dataclass(frozen=True)
class Made:
    """A case's files, by kind: ours and the converter's."""

    ours: dict[str, gguf.GGUFReader]
    theirs: dict[str, gguf.GGUFReader]


def write_card(base: Path) -> None:
    """What some bases have beside the model: a card and settings for sampling."""
    (base / "README.md").write_text(
        "---\nlicense: apache-2.0\nbase_model:\n- someone/Something-1B\ntags:\n- chat\n---\n"
    )
    (base / "generation_config.json").write_text(json.dumps({"top_k": 20, "top_p": 0.8, "temperature": 0.7}))


def write_merged(base: Path, adapter: Path, folder: Path) -> Path:
    """The peer's way: base and adapter merged in memory in float32, and saved with the base's other files."""
    merged_model(base, adapter).save_pretrained(folder)
    for pattern in TOKENIZER_FILES:
        for file in base.glob(pattern):
            shutil.copy(file, folder)
    return folder


def prepare(case: Case, folder: Path) -> Iterator[Job]:
    """Write our files of a case; yields what the converter is to do."""
    base = write_tiny_base(
        folder / "base",
        kind=case.kind,
        words=case.words,
        tied=case.tied,
        shard=case.shard,
        init_std=0.2,
        **case.changes,
    )
    if case.carded:
        write_card(base)
    adapter = write_tiny_adapter(folder / "adapter", base)
    merged = write_merged(base, adapter, folder / "merged")
    for kind in KINDS:
        out = str(folder / f"ours-{kind}.gguf")
        files = {"base_dir": str(base), "adapter_dir": str(adapter), "out": out}
        write_gguf(ExportSpec(**files, kind=kind, name=NAME, context_tokens=128), lambda _done, _total: None)
        pre = "llama-bpe" if case.words == "llama 3" else "qwen2"
        yield model_job(merged, folder / f"theirs-{kind}.gguf", kind, pre=pre, name=NAME)
    shared = {"base_out": str(folder / "base.gguf"), "out": str(folder / "ours-adapter.gguf")}
    spec = ExportSpec(**files | shared, kind="adapter", name=NAME, context_tokens=128)
    write_adapter(spec, lambda _done, _total: None)
    yield lora_job(adapter, base, folder / "theirs-adapter.gguf")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, converters: Path) -> dict[str, Made]:
    """All cases, the converter's files from one process."""
    torch.set_num_threads(1)
    folders = {name: tmp_path_factory.mktemp("oracle") for name in CASES}
    run_converters(converters, [job for name, case in CASES.items() for job in prepare(case, folders[name])])
    return {
        name: Made(
            {kind: gguf.GGUFReader(folder / f"ours-{kind}.gguf") for kind in WRITTEN},
            {kind: gguf.GGUFReader(folder / f"theirs-{kind}.gguf") for kind in WRITTEN},
        )
        for name, folder in folders.items()
    }


# Where a key may differ, in the words of docs/export.md.
WHERE: Mapping[str, Callable[[Case], bool]] = {
    "the base has a card": lambda case: case.carded,
    "the base has generation_config.json": lambda case: case.carded,
    "the chat template writes no BOS": lambda case: case.words.startswith("sentencepiece"),
    "SentencePiece without tokenizer.model": lambda case: case.words == "sentencepiece without its file",
}


class Reason(NamedTuple):
    """A row of the table of docs/export.md: a key that the converter writes and we do not, or otherwise."""

    key: str
    where: str
    why: str

    def covers(self, case: Case, key: str) -> bool:
        return fnmatchcase(key, self.key) and WHERE[self.where](case)


def reasons() -> list[Reason]:
    text = DOCUMENT.read_text(encoding="utf-8").partition("## Keys with a reason")[2].partition("\n## ")[0]
    return [Reason(*row) for row in re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", text, re.MULTILINE)]


def differing(made: Made, kind: str = "f16") -> dict[str, tuple[Any, Any]]:
    """Keys of the converter's file that ours has not, or with another value or type; (ours, theirs)."""
    ours, theirs = made.ours[kind].fields, made.theirs[kind].fields
    found = {}
    for key, field_ in theirs.items():
        mine = ours.get(key)
        if mine is None or (mine.types, mine.contents()) != (field_.types, field_.contents()):
            found[key] = (mine and mine.contents(), field_.contents())
    return {key: values for key, values in found.items() if not key.startswith("GGUF.")}


@pytest.mark.parametrize("kind", WRITTEN)
@pytest.mark.parametrize("name", CASES)
def test_every_byte_of_every_tensor_is_the_converters(made: dict[str, Made], name: str, kind: str) -> None:
    """Base and adapter, merged and rounded a piece at a time, are bit for bit the converter's of the whole merge."""
    ours = {tensor.name: tensor for tensor in made[name].ours[kind].tensors}
    theirs = {tensor.name: tensor for tensor in made[name].theirs[kind].tensors}
    assert sorted(ours) == sorted(theirs)
    for tensor, wanted in theirs.items():
        found = ours[tensor]
        assert (found.tensor_type, found.shape.tolist()) == (wanted.tensor_type, wanted.shape.tolist()), tensor
        assert np.array_equal(found.data.view(np.uint8), wanted.data.view(np.uint8)), tensor


@pytest.mark.parametrize("name", CASES)
def test_every_key_is_the_converters_or_has_its_reason(made: dict[str, Made], name: str) -> None:
    """No key of the converter is missing, or has another value or type, but those whose reason is written down."""
    told = reasons()
    for key, values in differing(made[name]).items():
        assert any(reason.covers(CASES[name], key) for reason in told), (key, values)
    for kind in KINDS:
        ours, theirs = (each[kind].fields["general.file_type"] for each in (made[name].ours, made[name].theirs))
        assert ours.contents() == theirs.contents()


@pytest.mark.parametrize("name", CASES)
def test_an_adapters_keys_are_the_converters_or_told(made: dict[str, Made], name: str) -> None:
    """A GGUF LoRA has the converter's keys, but for its name, where it came from, and what says nothing of it."""
    told = re.findall(
        r"`([^`]+)`", DOCUMENT.read_text(encoding="utf-8").partition("A GGUF LoRA lacks")[2].partition("\n\n")[0]
    )
    for key, values in differing(made[name], "adapter").items():
        assert any(fnmatchcase(key, pattern) for pattern in told), (key, values)
    assert len(told) == 4


def test_every_reason_is_needed(made: dict[str, Made]) -> None:
    """The table of docs/export.md has no row without which nothing would differ: it cannot outlive its reasons."""
    found = [(CASES[name], key) for name, each in made.items() for key in differing(each)]
    assert [reason for reason in reasons() if not any(reason.covers(*each) for each in found)] == []
    assert len(reasons()) > 3


def test_known_digests_are_the_converters(converters: Path) -> None:
    """The text by which the converter knows tokenizers is ours letter for letter, and so are the names it gives."""
    source = (converters / "conversion" / "base.py").read_text(encoding="utf-8")
    said = re.search(r"chktxt = ('.*')\n", source)
    assert said
    assert json.dumps(PROBE) == json.dumps(eval(said[1]))
    for names in KNOWN.values():
        for digest, name in names.items():
            assert re.search(rf'chkhsh == "{digest}":\n\s*# ref: .*\n\s*res = "{name}"\n', source), name
