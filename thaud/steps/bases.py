"""Where the base model of a size is: `nano` as shipped, a folder, or a hub id.

    python -m thaud.steps.bases WORKDIR

Owns finding and fetching a base, and its digest; refuses to load weights. Whether what it found can be trained and
exported is export/preflight.py's. It runs as a step of its own because the hub's client is too heavy for the daemon.
"""

import hashlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thaud.errors import BaseUnavailableError
from thaud.sizes import SHIPPED_NANO
from thaud.steps.contract import BaseResult, BaseSpec, emit, run_step
from thaud.steps.export.architectures import ARCHITECTURES
from thaud.steps.tokenizer import read_json

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "chat_template.jinja")
WANTED = ("config.json", *TOKENIZER, "*.safetensors*")
INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


def resolve_base(base: str) -> Path:
    """The folder of a base model: a shipped name, an existing folder, or a hub id, fetched where it is not cached.

    Raises BaseUnavailableError with the way out.
    """
    if base == SHIPPED_NANO:
        from thaud.nano import BASE_DIR  # noqa: PLC0415 - only one of the three ways

        return check_base(BASE_DIR)
    folder = Path(base).expanduser()
    if folder.is_dir():
        return check_base(folder.absolute())
    if not HUB_ID.fullmatch(base):
        raise BaseUnavailableError(f"the base {base!r} is neither a folder nor a hub id such as Qwen/Qwen2.5-0.5B")
    return check_base(fetch(base))


def fetch(hub_id: str) -> Path:
    """The hub's snapshot of a model: from the cache where it is whole, else downloaded."""
    import httpx  # noqa: PLC0415 - see the module's docstring
    from huggingface_hub import constants, snapshot_download  # noqa: PLC0415
    from huggingface_hub.utils.tqdm import disable_progress_bars  # noqa: PLC0415

    disable_progress_bars()
    try:
        cached = Path(snapshot_download(hub_id, allow_patterns=list(WANTED), local_files_only=True))
        if not complaint(cached):
            return cached
    except (OSError, ValueError):
        pass
    try:
        return Path(snapshot_download(hub_id, allow_patterns=list(WANTED)))
    except (OSError, ValueError, httpx.HTTPError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BaseUnavailableError(
            f"the base model {hub_id} is not in {constants.HF_HUB_CACHE} and cannot be downloaded ({reason}): connect "
            f"to the network once, or copy the model's folder here and choose it with --base PATH"
        ) from error


def check_base(folder: Path) -> Path:
    """`folder`, if it can be trained and exported. Raises BaseUnavailableError with what is amiss."""
    if wrong := complaint(folder):
        raise BaseUnavailableError(f"{folder} is no usable base model: {wrong}")
    return folder


def complaint(folder: Path) -> str | None:
    """What keeps a folder from being a base, None where nothing does."""
    for name in ("config.json", "tokenizer.json"):
        if not (folder / name).is_file():
            return f"it has no {name}"
    config = read_json(folder / "config.json")
    if config.get("model_type") not in ARCHITECTURES:
        return f"architecture {config.get('model_type')!r} is not supported, only {', '.join(ARCHITECTURES)}"
    if config.get("quantization_config"):
        return "its weights are quantised, and a quantised model is never trained on"
    missing = [name for name in weight_files(folder) if not (folder / name).is_file()]
    return f"it has no {', '.join(missing[:3])}" if missing else None


def weight_files(folder: Path) -> list[str]:
    """Names of the files that hold the weights, by the index where there is one."""
    if (folder / INDEX).is_file():
        shards = read_json(folder / INDEX).get("weight_map")
        return sorted({str(shard) for shard in shards.values()}) if isinstance(shards, dict) and shards else [SINGLE]
    return [SINGLE]


def context_of(config: dict[str, Any]) -> int:
    """The longest context the base was made for, in tokens."""
    return int(config["max_position_embeddings"])


def base_digest(folder: Path) -> str:
    """Hex SHA-256 over the names and contents of the files that decide what training and export make of a base."""
    total = hashlib.sha256()
    for path in deciding_files(folder):
        with path.open("rb") as source:
            total.update(f"{path.name}\0{hashlib.file_digest(source, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


def deciding_files(folder: Path) -> Iterator[Path]:
    """Configuration, tokenizer, template and weights, in a fixed order."""
    for name in ["config.json", *TOKENIZER, INDEX, *weight_files(folder)]:
        if (folder / name).is_file():
            yield folder / name


def work(spec: BaseSpec) -> BaseResult:
    """Find the base, describe it, and see that training and export will take it."""
    from thaud.steps.export.preflight import check_fit  # noqa: PLC0415 - it stands above this module

    emit("resolve", base=spec.base)
    folder = resolve_base(spec.base)
    check_fit(folder)
    config = read_json(folder / "config.json")
    return BaseResult(
        base_dir=str(folder),
        digest=base_digest(folder),
        architecture=config["model_type"],
        context_tokens=context_of(config),
    )


if __name__ == "__main__":
    sys.exit(run_step(BaseSpec, work, sys.argv))
