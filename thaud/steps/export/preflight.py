"""Whether a base can be trained and exported, asked of its files before anything is trained, not hours after.

Reads headers, settings and the tokenizer, and no weights but a second copy of the embedding. It needs neither torch
nor safetensors, because it precedes every run. Format: the safetensors README, "Format".
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thaud.domain import Message
from thaud.errors import BaseUnavailableError, ModelError
from thaud.steps.bases import weight_files
from thaud.steps.contract import ExportSpec
from thaud.steps.export.architectures import EMBEDDING, FLOATS, HEAD, Named, plan_of
from thaud.steps.tokenizer import read_json, read_tokenizer

PROBE = (Message("user", "1"), Message("assistant", "2"))


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor in a file: its type and shape, and where in the file its bytes are."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    def sha256(self) -> str:
        """Of its bytes."""
        with self.path.open("rb") as source:
            source.seek(self.start)
            return hashlib.sha256(source.read(self.end - self.start)).hexdigest()


def check_fit(folder: Path) -> None:
    """Raises BaseUnavailableError with the first thing for which training or export would fail."""
    try:
        reason = misfit(folder)
    except ModelError as error:
        reason = str(error)
    except KeyError as error:
        reason = f"its files do not say {error}"
    except (ValueError, TypeError, AttributeError) as error:
        reason = f"its files are damaged: {error}"
    if reason:
        raise BaseUnavailableError(f"{folder} is no usable base model: {reason}")


def misfit(folder: Path) -> str | None:
    """What is amiss with the weights; whatever else is raises."""
    from gguf import GGUFWriter  # noqa: PLC0415 - it brings numpy, and only a base that was found is checked

    from thaud.steps.export.metadata import add_metadata  # noqa: PLC0415

    config, tokenizer = read_json(folder / "config.json"), read_tokenizer(folder)
    plan = plan_of(config)
    trial = ExportSpec(base_dir=str(folder), adapter_dir=None, out="", kind="f16", name="", context_tokens=1)
    add_metadata(GGUFWriter(None, str(config["model_type"])), trial, config, tokenizer)
    tokenizer.encode_all(tokenizer.renderer.lesson(PROBE))
    stored = {name: tensor for file in weight_files(folder) for name, tensor in read_header(folder / file).items()}
    return wrong_tensor(plan, stored) or (split_head(stored) if config.get("tie_word_embeddings") else None)


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file. Raises ModelError where it is not as long as they need."""
    size = path.stat().st_size
    with path.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        rows = json.loads(source.read(length)) if 8 + length <= size else {}
    rows.pop("__metadata__", None)
    begin = 8 + length
    stored = {
        name: Stored(path, row["dtype"], tuple(row["shape"]), *(begin + place for place in row["data_offsets"]))
        for name, row in rows.items()
    }
    needed = max((tensor.end for tensor in stored.values()), default=begin)
    if size != needed or not stored:
        raise ModelError(f"{path.name} has {size} bytes and needs {needed}: it was cut short; copy or fetch it again")
    return stored


def wrong_tensor(plan: Sequence[Named], stored: Mapping[str, Stored]) -> str | None:
    """The first tensor that is missing, superfluous, of a wrong shape or no plain float; None where all are right."""
    wanted = {row.source: row.shape for row in plan if row.source}
    for name, shape in wanted.items():
        if name not in stored:
            return f"it has no tensor {name}"
        found = stored[name]
        if found.dtype not in FLOATS:
            return f"{name} is {found.dtype}, not one of {', '.join(sorted(FLOATS))}: take the model unquantised"
        if found.shape != shape:
            return f"{name} is {found.shape}, its config.json makes it {shape}"
    extra = sorted(name for name in stored if name not in wanted and name != HEAD and "rotary_emb" not in name)
    return f"it has {len(extra)} tensors that its config.json does not mention: {extra[0]}" if extra else None


def split_head(stored: Mapping[str, Stored]) -> str | None:
    """A head that is not the embedding though the configuration says so: training would use it, the GGUF could not."""
    if HEAD not in stored or stored[HEAD].sha256() == stored[EMBEDDING].sha256():
        return None
    return f"config.json ties the head to the embedding, but {HEAD} differs: set tie_word_embeddings to false"
