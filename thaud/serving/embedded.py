"""A version's GGUF in this process, by llama.cpp, behind the interface of runtime.py.

The text is what the model says, tool calls included: their tags are visible, and who offered the tools reads them.
What is examined is what is served, because the exam uses the same model class and renderer.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from thaud.domain import Message
from thaud.serving.runtime import Delta


class EmbeddedRuntime:
    """A loaded GGUF, served under `name`. One conversation at a time; the context is capped to what the model allows.
    `base_gguf`: what `gguf` is applied to where it is an adapter.

    Loads the file: seconds for big ones. Raises ModelError where llama.cpp will not. Use it as a context manager, or
    close it: the weights are native memory.
    """

    def __init__(
        self, gguf: Path, name: str, context_tokens: int, threads: int = 0, base_gguf: Path | None = None
    ) -> None:
        from thaud.steps.llama import open_version  # noqa: PLC0415 - heavy

        self._name = name
        self._model = open_version(gguf, base_gguf, context_tokens, threads)

    @property
    def name(self) -> str:
        """The version's name."""
        return self._name

    @property
    def context_tokens(self) -> int:
        """The context it was loaded with."""
        return int(self._model.context_tokens)

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        max_new_tokens: int = 512,
        temperature: float = 0.0,
    ) -> Iterator[Delta]:
        """Stream the next turn. Raises ModelError where the prompt does not fit or the template refuses it."""
        prompt = self._model.encode(self._model.renderer.prompt(messages, tools))
        # One piece of text a token, but for characters that several tokens make up.
        for said, (text, done) in enumerate(self._model.generate(prompt, max_new_tokens, temperature)):
            yield Delta(text, (), done, len(prompt) if done else 0, said if done else 0)

    def close(self) -> None:
        """Free the weights. Safe to call twice."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
