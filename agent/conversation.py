"""A conversation between its lines: the model that is being loaded, the agent, and what the person is shown.

Owns when the model is waited for and which one answers; refuses to know where lines come from (repl.py) and how
answers come about (loop.py).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol

from agent.approval import Decision, Request
from agent.chat_words import ChatWords
from agent.front import Front
from agent.loop import Agent
from agent.setup import STEP_BY_STEP_AGE, Setup, open_agent
from agent.state import Ending, Exchange, Outcome
from thaud.serving.runtime import Runtime

ERRANDS_S = 0.05
RETRY_TEMPERATURE = 0.7
"""Greedy decoding would give the same answer again."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A version that may be talked to. `note` says something of it: its age, that it is the one that answers."""

    n: int
    name: str
    note: str = ""
    age: int = 0


@dataclass(frozen=True, slots=True)
class Shelf:
    """The versions there are. `first` is opened first; `open` loads one, heavily, None meaning the first."""

    first: str
    choices: Callable[[], Sequence[Choice]]
    open: Callable[[int | None], Runtime]


class Teaching(Protocol):
    """Who makes proposals of a conversation; agent.teaching.Teacher is one. Each method raises ThauError."""

    def teach(self, agent: Agent, answer: str) -> "Proposed":
        """The last question's right answer."""
        ...

    def good(self, agent: Agent) -> "Proposed":
        """The last answer was good."""
        ...

    def bad(self, agent: Agent, correction: str = "") -> "Proposed":
        """The last answer was bad."""
        ...

    def mend(self, agent: Agent) -> Sequence["Proposed"]:
        """The calls that a repair made right."""
        ...


class Proposed(Protocol):
    """What was proposed."""

    @property
    def id(self) -> str:
        """Its name for `thau review`."""
        ...

    @property
    def needs_answer(self) -> bool:
        """Whether somebody has to write the good answer."""
        ...


class Person(Protocol):
    """Who can be asked."""

    def __call__(self, request: Request) -> Decision:
        """Whether a call may run."""
        ...

    def confirm(self, text: str) -> bool:
        """Yes or no to a text."""
        ...


@dataclass(frozen=True, slots=True)
class Past:
    """A conversation to go on with, for the eye; `Setup.resumed` names it to the agent."""

    exchanges: tuple[Exchange, ...]
    title: str
    when: str


Confirm = Callable[[str], bool]
"""Shows a text to a person, who says yes or no."""


@dataclass(frozen=True, slots=True)
class Furnished:
    """A setup with all that tools need, and what people should know of what could not be had."""

    setup: Setup
    warnings: tuple[str, ...] = ()


class Furnish(Protocol):
    """Adds to a setup what takes time: servers of tools, walls, memory. `stack` ends what was started."""

    def __call__(self, setup: Setup, stack: ExitStack, confirm: Confirm | None) -> Furnished:
        """Called in the thread that loads; `confirm` may be called from there, and is None where nobody is there."""
        ...


def furnish_nothing(setup: Setup, stack: ExitStack, confirm: Confirm | None) -> Furnished:
    """The setup as it is."""
    del stack, confirm
    return Furnished(setup)


@dataclass(frozen=True, slots=True)
class Equipment:
    """What a chat is made of. `history`: the file of what was typed."""

    shelf: Shelf
    setup: Setup
    teaching: Teaching
    furnish: Furnish = furnish_nothing
    past: Past | None = None
    history: Path | None = None


class Conversation:
    """The agent, made when it is first needed. `loaded` is called in another thread, when loading is over."""

    def __init__(
        self, kit: Equipment, front: Front, words: ChatWords, person: Person | None, loaded: Callable[[], None]
    ) -> None:
        self.kit, self.front, self.words = kit, front, words
        self.setup = kit.setup
        self.question: str | None = None
        self._person = person
        self._errands: SimpleQueue[tuple[str, Future[bool]]] = SimpleQueue()
        self._stack = ExitStack()
        self._agent: Agent | None = None
        self._threads = ThreadPoolExecutor(1, "loading")
        self._loaded = loaded
        self._load_begun: Future[tuple[Runtime, Furnished]] | None = None

    def start(self) -> None:
        """Begin to load the first model; later calls do nothing. Whoever waits for the model starts it too."""
        if self._load_begun is None:
            self._load_begun = self._begin(None)

    @property
    def _loading(self) -> "Future[tuple[Runtime, Furnished]]":
        """The load under way, or the last one."""
        self.start()
        assert self._load_begun is not None
        return self._load_begun

    def _begin(self, n: int | None) -> "Future[tuple[Runtime, Furnished]]":
        """Load in the thread."""
        loading = self._threads.submit(self._load, n)
        loading.add_done_callback(lambda _: self._loaded())
        return loading

    def _load(self, n: int | None) -> tuple[Runtime, Furnished]:
        with ExitStack() as undo:
            runtime = self.kit.shelf.open(n)
            undo.callback(close, runtime)
            furnished = self.kit.furnish(self.kit.setup, self._stack, self._confirm if self._person else None)
            undo.pop_all()
        return runtime, furnished

    def _confirm(self, text: str) -> bool:
        """In the thread that loads: have the person asked as soon as they wait for the model."""
        reply: Future[bool] = Future()
        self._errands.put((text, reply))
        return reply.result()

    def _wait(self) -> tuple[Runtime, Furnished]:
        """What is being loaded, doing its errands meanwhile. Raises what loading raised, and KeyboardInterrupt."""
        while not wait([self._loading], ERRANDS_S).done:
            self._run_errands(self._person)
        return self._loading.result()

    def _run_errands(self, person: Person | None) -> None:
        """Ask what the loading thread wants to know; without a person the answer is no."""
        with suppress(Empty):
            while True:
                text, reply = self._errands.get_nowait()
                answer = False
                try:
                    answer = person is not None and person.confirm(text)
                finally:
                    reply.set_result(answer)

    @property
    def loading(self) -> bool:
        """Whether the first model is still on its way."""
        return self._load_begun is None or not self._load_begun.done()

    @property
    def failure(self) -> BaseException | None:
        """Why the first model could not be loaded, where it could not."""
        return None if self._load_begun is None or self.loading else self._load_begun.exception()

    @property
    def model(self) -> str:
        """The name of the model that answers, or will."""
        return self._agent.runtime.name if self._agent else self.kit.shelf.first

    @property
    def begun(self) -> Agent | None:
        """The agent, where there is one already."""
        return self._agent

    @property
    def agent(self) -> Agent:
        """The agent, waiting for its model. Raises what loading raised, and KeyboardInterrupt."""
        if self._agent is None:
            runtime, furnished = self._wait()
            self.setup = furnished.setup
            self._agent = open_agent(runtime, self.setup, self.front, self._person)
            for warning in furnished.warnings:
                self.front.line(warning, "yellow")
            self.front.ready(runtime.name, runtime.context_tokens)
            if not self._agent.toolbox.tools and self.setup.tools:
                self.front.line(self.words.no_tools.format(tokens=runtime.context_tokens), "dim")
        return self._agent

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """What was said, without waiting for the model."""
        if self._agent is None:
            return self.kit.past.exchanges if self.kit.past else ()
        return tuple(self._agent.exchanges)

    def answer(self, question: str) -> Outcome:
        """Ask, and show. Raises ThauError."""
        self.question = question
        with self.front:
            agent = self.agent
            outcome = agent.answer(question)
            self.front.end(outcome)
        if outcome.ending is Ending.ANSWERED:
            self.kit.teaching.mend(agent)
        return outcome

    def retry(self) -> Outcome | None:
        """Take the last question back and ask it again, otherwise; None where there was none."""
        question = self.agent.undo() or self.question
        if question is None:
            return None
        agent = self.agent
        kept = agent.temperature
        agent.seed += 1
        agent.temperature = kept or RETRY_TEMPERATURE
        try:
            return self.answer(question)
        finally:
            agent.temperature = kept

    def switch(self, n: int) -> bool:
        """Go on with version `n`; False where it answers already. Raises ThauError, the old one then stays."""
        if self._agent is None and self.failure is not None:
            self._load_begun = self._begin(n)
            return self.agent is not None
        agent = self.agent
        choice = next((each for each in self.kit.shelf.choices() if each.n == n), None)
        if choice is not None and choice.name == agent.runtime.name:
            return False
        old, new = agent.runtime, self.kit.shelf.open(n)
        with ExitStack() as undo:
            undo.callback(close, new)
            agent.use(new)
            undo.pop_all()
        agent.step_by_step = choice is not None and choice.age >= STEP_BY_STEP_AGE
        close(old)
        self.front.ready(new.name, new.context_tokens)
        return True

    def close(self) -> None:
        """Save the transcript, and let go of the model and the servers; a load under way is waited for."""
        if self._load_begun is None:
            return
        while not wait([self._loading], ERRANDS_S).done:
            self._run_errands(None)
        self._threads.shutdown(wait=True)
        with self._stack:
            if self._agent is not None:
                self._stack.callback(close, self._agent.runtime)
                self._agent.transcript.save()
            elif self._loading.exception() is None:
                close(self._loading.result()[0])


def close(runtime: Runtime) -> None:
    """Free what a runtime holds, where it holds something."""
    release = getattr(runtime, "close", None)
    if release is not None:
        release()
