"""Finds a base at once."""

from pathlib import Path

from tests.crash.steps.door import enter
from thaud.steps.contract import BaseResult, BaseSpec


def work(_: Path, spec: BaseSpec) -> BaseResult:
    return BaseResult(base_dir=f"/bases/{spec.base}", digest="d", architecture="qwen2", context_tokens=4096)


if __name__ == "__main__":
    enter("bases", BaseSpec, work)
