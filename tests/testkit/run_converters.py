"""Runs llama.cpp's converters, several jobs in one process: python run_converters.py SOURCE < jobs.json.

Started by llama_cpp_source.py, with the converters' own gguf on its path; never imported by a test.
"""

import json
import runpy
import sys
from pathlib import Path


def main() -> None:
    """Do every job; the first that fails ends the process."""
    from conversion.base import TextModel  # noqa: PLC0415 - it is llama.cpp's, on PYTHONPATH only here

    source = Path(sys.argv[1])
    for job in json.load(sys.stdin):
        # The converter knows tokenizers by a digest of what they make of a text; those of tests it cannot know.
        TextModel.get_vocab_base_pre = lambda _model, _tokenizer, pre=job["pre"]: pre
        sys.argv = [job["script"], *job["arguments"]]
        runpy.run_path(str(source / job["script"]), run_name="__main__")


if __name__ == "__main__":
    main()
