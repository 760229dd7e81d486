"""The datasets of ages 0, 1 and 3: four paraphrases of every fact, as alpaca JSONL lines.

usage: python -m thaud.nano.datasets [--out data/datasets] [--check]

Owns the text of the dataset files, the same on every machine; `--check` exits with 1 if the files on disk differ.
Refuses to split taught from held out: that is done once, at intake, by content hash.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from thaud.nano.facts import Fact, Family, capital, exam_prompts
from thaud.nano.families import FAMILIES

FILES: Final = {0: "age_0_newborn.jsonl", 1: "age_1_infant.jsonl", 3: "age_3_toddler.jsonl"}


def examples(age: int) -> Iterator[dict[str, str]]:
    """Yield the examples of an age: instruction, output, group (one a fact) and grader."""
    for family in FAMILIES:
        for fact in family.facts:
            if fact.age == age:
                for prompt in exam_prompts(family, fact):
                    yield {
                        "instruction": prompt,
                        "output": capital(fact.answer),
                        "group": group_of(family, fact),
                        "grader": "exact",
                    }


def group_of(family: Family, fact: Fact) -> str:
    """Name the group of a fact, the same for its four paraphrases and for no other."""
    return f"{family.name}/{'-'.join(fact.terms).replace(' ', '_')}"


def dataset_text(age: int) -> str:
    """Return the whole text of an age's file, one JSON object a line."""
    return "".join(json.dumps(example, ensure_ascii=False) + "\n" for example in examples(age))


def stale_files(folder: Path) -> list[Path]:
    """Return the dataset files that are missing from `folder` or differ from what would be written."""
    paths = {folder / name: dataset_text(age) for age, name in FILES.items()}
    return [path for path, text in paths.items() if not path.exists() or path.read_bytes() != text.encode()]


def write_files(folder: Path) -> None:
    """Write the three files into `folder`, creating it if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    for age, name in FILES.items():
        (folder / name).write_bytes(dataset_text(age).encode())


def main() -> int:
    """Write or check the files; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the datasets of ages 0, 1 and 3.")
    parser.add_argument("--out", type=Path, default=Path("data/datasets"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the files on disk differ")
    options = parser.parse_args()
    if not options.check:
        write_files(options.out)
        return 0
    stale = stale_files(options.out)
    for path in stale:
        sys.stderr.write(f"{path} differs: run python -m thaud.nano.datasets --out {options.out}\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
