"""llama.cpp called directly, through llama-cpp-python: the peer of bench_agent.py, in a process of its own.

usage: python -m tests.bench.agent_peer GGUF CONTEXT THREADS
Reads prompts from its standard input, a JSON text a line, and answers each with the seconds up to its first text and
the prompt's tokens.
Nothing lies between but the library's own completion, which tokenises, computes the prompt and samples.
"""

import json
import os
import sys
from time import perf_counter

from llama_cpp import Llama


def main() -> None:
    """Load the file, then answer until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    path, context, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    model = Llama(path, n_ctx=context, n_threads=threads, n_threads_batch=threads, verbose=False)
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        prompt = json.loads(line)
        tokens = len(model.tokenize(prompt.encode(), add_bos=False, special=True))
        begun = perf_counter()
        pieces = model.create_completion(prompt, max_tokens=16, temperature=0.0, stream=True)
        next(piece for piece in pieces if piece["choices"][0]["text"])
        seconds = perf_counter() - begun
        for _ in pieces:
            pass
        answers.write(f"{seconds} {tokens}\n")
        answers.flush()


if __name__ == "__main__":
    main()
