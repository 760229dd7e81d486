"""A turn's prompt, made to fit the context. Owns the measuring; what is left out, and when, is window.py's."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agent.calling import Prompt, put
from agent.state import Filled
from agent.summary import summarise
from agent.toolbox import Toolbox
from agent.window import Past, Scene, Tell, Window, narrowed
from agent.words import Language
from thaud.domain import Message
from thaud.serving.runtime import Runtime
from tools.base import Context, Tool

FEWEST_RESULT_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be asked, before anything is left out. `after` are turns that the window does not touch."""

    runtime: Runtime
    toolbox: Toolbox
    scene: Scene
    language: Language
    system: str = ""
    after: Sequence[Message] = ()
    think: bool = False
    offer: bool = True

    def prompt(self, window: Window) -> Prompt:
        """The prompt that a window shows."""
        return self._put([*self.scene.view(window), *self.after])

    def size(self, window: Window) -> int:
        """Its tokens."""
        return self._count(self.prompt(window))

    def filled(self, window: Window) -> Filled:
        """How full the context is with it."""
        return Filled(self.size(window), self.runtime.context_tokens)

    @property
    def crowded(self) -> bool:
        """Whether the tools leave no room: with them, the question alone takes more than seven eighths."""
        if not (self.offer and self.toolbox.tools):
            return False
        return self._count(self._put(self.scene.turn[:1])) > self.runtime.context_tokens * 7 // 8

    def overfull(self, window: Window) -> bool:
        """Whether tools are offered in a prompt that not even the whole context holds."""
        return self.offer and bool(self.toolbox.tools) and self.size(window) > self.runtime.context_tokens

    def fitted(self, window: Window, room: int, tell: Tell) -> Window:
        """The window, narrowed where its prompt is beyond the room. `tell` hears what is left out."""

        def summed_up(before: str, past: Past) -> str:
            return summarise(self.runtime, self.toolbox, self.scene.prompts, before, past)

        return narrowed(window, self.scene, room, self.size, summed_up, tell)

    def _put(self, messages: Sequence[Message]) -> Prompt:
        opening = [Message("system", self.system)] if self.system else []
        return put([*opening, *messages], self.toolbox, self.runtime.calling, self.language, offer=self.offer)

    def _count(self, prompt: Prompt) -> int:
        return self.runtime.count(prompt.messages, tools=prompt.tools, think=self.think)


def fill_toolbox(
    known: Sequence[Tool], context: Context, runtime: Runtime, language: Language, reply_tokens: int
) -> Toolbox:
    """A toolbox for a model: the first tools that, as its prompt has them, fill no more than half of its context, and
    two thirds of what a reply leaves of it: a conversation needs the rest.

    A result may have a character for each token of the context.
    """
    tokens = runtime.context_tokens
    most = min(tokens // 2, (tokens - min(reply_tokens, tokens // 2)) * 2 // 3)
    tools = tuple(known)
    everything = Toolbox(tools, context, max(FEWEST_RESULT_CHARACTERS, tokens), tools)

    def taken(number: int) -> int:
        prompt = put(
            [Message("user", "")], replace(everything, tools=tools[:number]), runtime.calling, language, offer=True
        )
        return runtime.count(prompt.messages, tools=prompt.tools)

    fitting = bisect_right(range(1, len(tools) + 1), most, key=taken)
    return replace(everything, tools=tools[:fitting])
