"""llama.cpp's own converters, out of the sdist of llama-cpp-python: what a file that we wrote is compared with.

Owns finding that source (in a cache folder, else at the package index that pip is configured for), the proof that it is
the one meant, and running it. Refuses to be silent: where the source cannot be had a test is skipped with the reason,
and fails where CI=true.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin

import pytest

VERSION = "0.3.36"
SDIST = f"llama_cpp_python-{VERSION}.tar.gz"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SCRIPTS = ("convert_hf_to_gguf.py", "convert_lora_to_gguf.py")
PACKAGES = ("conversion", "gguf-py")
PUBLIC_INDEX = "https://pypi.org/simple"
JSON_API = "application/vnd.pypi.simple.v1+json"  # PEP 691
RUNNER = Path(__file__).with_name("run_converters.py")


class SourceMissingError(Exception):
    """The source cannot be had, and why."""


@dataclass(frozen=True, slots=True)
class Job:
    """One file to be made: by which of SCRIPTS, with which arguments. `pre` is what the converter is to believe the
    pre-tokenizer to be, for it knows none of a tokenizer made in a test.
    """

    script: str
    arguments: Sequence[str]
    pre: str = "qwen2"


def model_job(model: Path, out: Path, kind: str, *, pre: str = "qwen2", name: str | None = None) -> Job:
    """A checkpoint -> a GGUF of `kind` (f32, f16, bf16, q8_0) at `out`."""
    named = ["--model-name", name] if name else []
    return Job(SCRIPTS[0], [str(model), "--outfile", str(out), "--outtype", kind, *named], pre)


def lora_job(adapter: Path, base: Path, out: Path, kind: str = "f32") -> Job:
    """A peft adapter -> a GGUF LoRA at `out`; of `base` only its config is read."""
    return Job(SCRIPTS[1], [str(adapter), "--base", str(base), "--outfile", str(out), "--outtype", kind])


def run_converters(source: Path, jobs: Iterable[Job]) -> None:
    """Do all jobs in one process, for its start takes longer than a tiny model. Raises AssertionError."""
    given = json.dumps([asdict(job) for job in jobs])
    paths = os.pathsep.join(map(str, (source, source / "gguf-py")))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(RUNNER), str(source)]
    done = subprocess.run(command, input=given, text=True, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, f"the converter failed:\n{done.stderr[-4000:]}"


def source_or_skip() -> Path:
    """The folder with SCRIPTS. Skips the test that asks where it cannot be had; fails it where CI=true."""
    try:
        return find_source()
    except SourceMissingError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"llama.cpp's converter is not to be had: {error}")
        pytest.skip(f"NOT SHOWN: equality with llama.cpp's converter; its source is not to be had: {error}")


def find_source() -> Path:
    """The folder with SCRIPTS and PACKAGES, unpacked into the cache where it is not yet. Raises SourceMissingError."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thau-tests"
    folder = cache / f"llama.cpp-{VERSION}-{SHA256[:12]}"
    if folder.is_dir():
        return folder
    packed = read_checked(cache / SDIST) if (cache / SDIST).is_file() else fetch()
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        unpacked = Path(scratch, "source")
        unpack(packed, unpacked)
        try:
            unpacked.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was faster
                raise
    return folder


def read_checked(path: Path) -> bytes:
    """A file that was fetched before, if it is the one meant."""
    return checked(path.read_bytes(), str(path))


def checked(packed: bytes, where: str) -> bytes:
    """Raises SourceMissingError where these are not the bytes meant."""
    if (found := hashlib.sha256(packed).hexdigest()) != SHA256:
        raise SourceMissingError(f"{where} has the digest {found}, not {SHA256}")
    return packed


def fetch(tries: int = 3) -> bytes:
    """The sdist from the package index, asked again where the network fails. Raises SourceMissingError."""
    for _ in range(tries - 1):
        with suppress(SourceMissingError):
            return fetch_once()
    return fetch_once()


def fetch_once() -> bytes:
    """The sdist from the package index. Raises SourceMissingError."""
    index = index_url().rstrip("/") + "/llama-cpp-python/"
    try:
        with urllib.request.urlopen(urllib.request.Request(index, headers={"Accept": JSON_API}), timeout=60) as reply:
            page, listed = reply.url, json.load(reply)
        url = next(file["url"] for file in listed["files"] if file["filename"] == SDIST)
        with urllib.request.urlopen(urljoin(page, url), timeout=300) as reply:
            return checked(reply.read(), SDIST)
    except StopIteration:
        raise SourceMissingError(f"the package index does not have {SDIST}") from None
    except (OSError, ValueError, KeyError) as error:
        raise SourceMissingError(f"the package index does not give {SDIST} ({type(error).__name__})") from error


def index_url() -> str:
    """The index that pip asks: PIP_INDEX_URL, else pip's own settings, else the public one."""
    if given := os.environ.get("PIP_INDEX_URL"):
        return given
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    return said.stdout.strip() if said.returncode == 0 and said.stdout.strip() else PUBLIC_INDEX


def unpack(packed: bytes, folder: Path) -> None:
    """Write the .py files that the converters need into `folder`."""
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        for member, path in wanted(archive):
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            content = archive.extractfile(member)
            assert content is not None
            with target.open("wb") as out:
                shutil.copyfileobj(content, out)


def wanted(archive: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, PurePosixPath]]:
    """Members that the converters need, with their paths from llama.cpp's folder."""
    for member in archive:
        _, found, rest = member.name.partition("/vendor/llama.cpp/")
        path = PurePosixPath(rest)
        if not found or not member.isfile() or path.suffix != ".py" or ".." in path.parts:
            continue
        if rest in SCRIPTS or path.parts[0] in PACKAGES:
            yield member, path
