"""A version's GGUF in this process, by llama.cpp, behind the interface of runtime.py.

What is examined is what is served, because the exam uses the same model class and renderer. The text is what the model
says, calls included: their tags are visible, and who offered the tools reads them. Where actions are given, llama.cpp
lets nothing through but calls of theirs; thoughts are told from the rest here, and are never held to anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from thaud.domain import Message, canonical_json
from thaud.serving.runtime import Calling, Delta
from thaud.serving.thinking import OPEN, Splitter

if TYPE_CHECKING:
    from thaud.rendering import Piece


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
        self._grammars: dict[tuple[str, ...], str] = {}

    @property
    def name(self) -> str:
        """The version's name."""
        return self._name

    @property
    def context_tokens(self) -> int:
        """The context it was loaded with."""
        return int(self._model.context_tokens)

    @property
    def calling(self) -> Calling:
        """How this model calls tools: in tags where its template writes them so, else the whole reply is an action."""
        return "tagged" if self._model.renderer.tags_calls else "schema"

    @property
    def thinks(self) -> bool:
        """Whether the template can have thinking switched on and off."""
        return bool(self._model.renderer.thinks)

    def count(
        self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = (), think: bool = False
    ) -> int:
        """The prompt's tokens, exactly."""
        return len(self._model.encode(self._prompt(messages, tools, think=think)))

    def _prompt(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, think: bool) -> "list[Piece]":
        """The prompt's pieces; where the template has no system turn, its words are the beginning of the next one's."""
        renderer = self._model.renderer
        if messages and messages[0].role == "system" and not renderer.has_system:
            system, first, *rest = [*messages, Message("user", "")][: max(2, len(messages))]
            messages = [replace(first, content=f"{system.content}\n\n{first.content}"), *rest]
        return list(renderer.prompt(messages, tools, think=think))

    def chat(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        actions: Mapping[str, Any] | None = None,
        think: bool = False,
        max_new_tokens: int = 512,
        temperature: float = 0.0,
        seed: int = 0,
    ) -> Iterator[Delta]:
        """Stream the next turn. Raises ModelError where the prompt does not fit, the template refuses it, or llama.cpp
        the grammar of the actions.
        """
        from thaud.steps.sampling import Sampling  # noqa: PLC0415 - heavy

        pieces = self._prompt(messages, tools, think=think)
        prompt = self._model.encode(pieces)
        inside = "".join(piece.text for piece in pieces[-3:]).rstrip().endswith(OPEN)
        grammar = None if actions is None else self._grammar(actions, inside=inside, think=think)
        splitter = Splitter(inside=inside)
        said = self._model.generate(prompt, max_new_tokens, Sampling(temperature, seed), grammar)
        for tokens, (text, done) in enumerate(said):
            split = splitter.feed(text)
            if done:
                rest = splitter.finish()
                whole = (split.text + rest.text, split.thinking + rest.thinking)
                yield Delta(whole[0], (), done, len(prompt), tokens, whole[1])
            elif split.text or split.thinking:
                yield Delta(split.text, thinking=split.thinking)

    def _grammar(self, actions: Mapping[str, Any], *, inside: bool, think: bool) -> str:
        """What the reply is held to; made once for the same actions."""
        from thaud.steps.replies import action_reply, tagged_reply  # noqa: PLC0415 - only where tools are offered

        calling = self.calling
        key = (calling, str(inside), str(think), canonical_json(dict(actions)))
        if key not in self._grammars:
            if calling == "tagged":
                self._grammars[key] = tagged_reply(actions, "begun" if inside else "perhaps")
            else:
                self._grammars[key] = action_reply(actions, "begun" if inside else "perhaps" if think else "never")
        return self._grammars[key]

    def close(self) -> None:
        """Free the weights. Safe to call twice."""
        self._model.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
