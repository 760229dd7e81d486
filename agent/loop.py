"""The loop: messages -> model -> final answer, or calls -> results -> again.

Owns when to stop. A reply that was cut or broke off, or that repeats itself, never runs a call, not even its whole
ones. A reply with a call that cannot be read or may not be made runs nothing either: the model is told what is wrong,
`max_repairs` times. Calls that go round in circles, or too many steps, lead to one last turn without tools. Ctrl-C ends
the turn, not the program.

What went wrong on the way is shown to the model while it matters and is then forgotten; the transcript keeps it all.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from agent.approval import Approvals, Permission
from agent.calling import Prompt, lost, screen_for, understood
from agent.fitting import Request, fill_toolbox
from agent.guard import goes_round, said_once
from agent.hearing import Hearing, Timer
from agent.prompts import Prompts, prompts_in
from agent.state import Ending, Exchange, Filled, Limits, Listener, Notice, Outcome, Repair, Reply, Step, settled
from agent.toolbox import CheckedCall, Result, Toolbox
from agent.transcript import Transcript
from agent.window import Scene, Window
from agent.words import Language
from thaud.domain import Message
from thaud.errors import OverfullError
from thaud.serving.runtime import Runtime


@dataclass(slots=True)
class Turn:
    """One question's turns: `messages` to keep, and `after` them, for the next reply alone, what failed last and the
    loop's own words about it.
    """

    messages: list[Message] = field(default_factory=list)
    after: list[Message] = field(default_factory=list)
    tries_left: int = 0
    offered: tuple[Mapping[str, Any], ...] = ()
    wrong: Repair | None = None
    repairs: list[Repair] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    prompt: Prompt = field(default_factory=lambda: Prompt(()))
    hearing: Hearing | None = None

    @property
    def heard(self) -> str:
        """What of the last reply was shown, whole or not."""
        return self.hearing.shown.strip() if self.hearing else ""


@dataclass(slots=True)
class Agent:
    """A conversation with a model that may use tools. Whoever holds it may set `think`, `system`, `temperature`,
    `seed` and `limits` between questions.
    """

    runtime: Runtime
    toolbox: Toolbox
    approvals: Approvals
    transcript: Transcript
    listener: Listener
    limits: Limits = field(default_factory=Limits)
    language: Language = "en"
    think: bool = False
    system: str = ""
    step_by_step: bool = False
    temperature: float = 0.0
    seed: int = 0
    timer: Timer = time.monotonic
    exchanges: tuple[Exchange, ...] = ()
    window: Window = field(default_factory=Window)
    _turn: Turn = field(default_factory=Turn)

    @property
    def prompts(self) -> Prompts:
        """The loop's own words to the model."""
        return prompts_in(self.language)

    def answer(self, question: str) -> Outcome:
        """Answer a question. Raises ModelError, ServerError and StorageError; the transcript is saved in any case."""
        self._turn = Turn(tries_left=self.limits.max_repairs, offered=tuple(self.toolbox.definitions))
        outcome = Outcome("", Ending.FAILED)
        toolbox = self.toolbox  # put away for a long question, it is there for the next
        try:
            self.transcript.begin(self.runtime.name, self.system, self.toolbox.definitions, think=self.think)
            self._say(Message("user", question))
            outcome = self._work()
        except KeyboardInterrupt:
            outcome = Outcome(self._turn.heard, Ending.STOPPED)
        finally:
            self._remember(question, outcome)
            self.toolbox = toolbox
            try:
                self.transcript.add("end", ending=outcome.ending, text=outcome.text)
            finally:
                self.transcript.save()
        return replace(outcome, usage=self._turn.hearing.usage if self._turn.hearing else None)

    def clear(self) -> None:
        """Begin a new conversation in the same transcript."""
        self.exchanges, self.window = (), Window()
        self.transcript.add("clear")
        self.transcript.save()

    def undo(self) -> str | None:
        """Take the last question back, answered or not, and give it; None where there is none."""
        if not self.exchanges:
            return None
        *kept, last = self.exchanges
        self._keep(kept)
        self.transcript.add("undo", question=last.question)
        self.transcript.save()
        return last.question

    def use(self, runtime: Runtime) -> None:
        """Go on with another model; tools and what is shown of the past are fitted to its context."""
        known, context, most = self.toolbox.known, self.toolbox.context, self.limits.max_new_tokens
        self.toolbox = fill_toolbox(known, context, runtime, self.language, most)
        self.runtime, self.window = runtime, Window()

    def context(self) -> Filled:
        """How full the context is before the next question, counted in the model's tokens (which may load it)."""
        self._turn = Turn([Message("user", "")])  # some templates refuse a prompt without a question
        return self._request(offer=True).filled(self.window)

    def _work(self) -> Outcome:
        turn = self._turn
        for _ in range(self.limits.max_steps):
            reply = self._generate(offer=True)
            if reply.looping or reply.done != "stop":
                return self._cut_short(reply)
            step = self._understand(reply)
            if step.problems:
                if not turn.tries_left:
                    break
                self._ask_again(reply, step.problems)
            elif not step.calls:
                return self._conclude(step.content, reply)
            elif goes_round([*turn.steps, step.signature]):
                self._notice(Notice.REPEATED)
                break
            else:
                self._execute(step, reply)
        return self._last_word()

    def _last_word(self) -> Outcome:
        """One turn without tools; what it calls all the same is not run."""
        self._notice(Notice.LIMIT)
        self._turn.after = [Message("user", self.prompts.closing)]
        reply = self._generate(offer=False)
        if reply.looping or reply.done != "stop":
            return self._cut_short(reply)
        return self._conclude(self._understand(reply).content, reply)

    def _understand(self, reply: Reply) -> Step:
        calling, most = self.runtime.calling, self.limits.max_calls
        return understood(reply, self.toolbox, calling, self._turn.prompt, self.prompts, most)

    def _conclude(self, content: str, reply: Reply) -> Outcome:
        if not content:
            return Outcome("", Ending.LOST if lost(reply) else Ending.EMPTY)
        self._say(Message("assistant", content, thinking=reply.thinking))
        return Outcome(content, Ending.ANSWERED)

    def _cut_short(self, reply: Reply) -> Outcome:
        heard = self._turn.heard
        if reply.looping:
            return Outcome(said_once(heard), Ending.LOOPED)
        if reply.done == "aborted":
            return Outcome(heard, Ending.BROKEN)
        return Outcome(heard, Ending.THOUGHT if reply.thinking and not reply.text else Ending.CUT)

    def _ask_again(self, reply: Reply, problems: tuple[str, ...]) -> None:
        """Tell the model what was wrong; of several failed tries it is shown the last."""
        turn, told = self._turn, "; ".join(problems)
        turn.tries_left -= 1
        self._notice(Notice.REPAIR, told)
        asked = tuple(self._request(offer=True).scene.view(self.window))
        turn.wrong = Repair(asked, reply.raw, told, Message("assistant", ""))
        error = self.toolbox.fit(f"error: {told}. {self.prompts.try_again}")
        turn.after = [Message("assistant", reply.text, reply.calls), Message("tool", error)]
        self.transcript.add("failed", messages=[message.to_json() for message in turn.after])

    def _execute(self, step: Step, reply: Reply) -> None:
        turn = self._turn
        said = Message("assistant", step.content, tuple(each.call for each in step.calls), thinking=reply.thinking)
        turn.steps.append(step.signature)
        turn.after = []
        self._say(said)
        if turn.wrong:
            self._learn(replace(turn.wrong, fixed=said))
        for checked in step.calls:
            self._say(Message("tool", self._perform(checked), tool_name=checked.call.name))

    def _learn(self, repair: Repair) -> None:
        self._turn.wrong = None
        self._turn.repairs.append(repair)
        self.transcript.repair(repair)
        self.listener.repaired(repair)

    def _perform(self, checked: CheckedCall) -> str:
        """What the model reads of a call, which is run if it may be. Words from outside are marked as such."""
        self.listener.called(checked.call)
        permission = self.approvals.permit(checked.tool, checked.call, self.toolbox.context)
        self.transcript.add("call", call=checked.call.to_json(), permitted=permission.granted, why=permission.value)
        result = self.toolbox.run(checked) if permission.granted else self._refuse(permission)
        foreign = checked.tool.foreign and permission.granted
        fields = {"ok": result.ok, "text": result.text, "fault": result.fault, "foreign": foreign}
        self.transcript.add("result", tool=checked.call.name, **fields)
        self.listener.returned(checked.call, result)
        if foreign and checked.call.name not in self._turn.foreign:
            self._turn.foreign.append(checked.call.name)
        return self.prompts.mark(checked.call.name, result.text) if foreign else result.text

    def _refuse(self, permission: Permission) -> Result:
        return Result(self.prompts.refused[permission], ok=False)

    def _generate(self, *, offer: bool) -> Reply:
        """One reply. A prompt that does not fit is narrowed, and where that is not enough the tools are put away."""
        room = max(1, self.runtime.context_tokens - self._most_tokens)
        while True:
            request = self._request(offer=offer)
            if self._narrow(request, room):
                continue
            try:
                return self._listen(request.prompt(self.window))
            except OverfullError:
                room = request.size(self.window) * 3 // 4
                if self._turn.heard or not self._narrow(request, room):
                    raise

    def _narrow(self, request: Request, room: int) -> bool:
        """Leave out what does not fit, for this and all later turns; False where nothing had to be or could be."""
        if request.size(self.window) <= room:
            return False
        if request.crowded:
            return self._put_away()
        before, self.window = self.window, request.fitted(self.window, room, self._notice)
        if self.window == before:
            return request.overfull(self.window) and self._put_away()
        self.transcript.add("window", **asdict(self.window))
        return True

    def _put_away(self) -> bool:
        """No tools for the rest of this question. What was called before was offered."""
        self.toolbox = replace(self.toolbox, tools=())
        if not self._turn.steps:
            self._turn.offered = ()
            self.transcript.offer(())
        self._notice(Notice.NO_TOOLS)
        return True

    def _request(self, *, offer: bool) -> Request:
        past = tuple(exchange.remembered for exchange in self.exchanges)
        scene = Scene(past, tuple(self._turn.messages), self.prompts, self.runtime.context_tokens)
        system = "\n\n".join(filter(None, [self.system, self.prompts.step_by_step if self.step_by_step else ""]))
        after = tuple(self._turn.after)
        return Request(self.runtime, self.toolbox, scene, self.language, system, after, self._thinks, offer)

    def _listen(self, prompt: Prompt) -> Reply:
        screen = screen_for(self.toolbox, self.runtime.calling, prompt)
        hearing = Hearing(self.listener, screen, self.runtime.context_tokens, self.timer)
        self._turn.hearing, self._turn.prompt = hearing, prompt
        try:
            return hearing.listen(
                self.runtime.chat(
                    prompt.messages,
                    tools=prompt.tools,
                    actions=prompt.actions,
                    think=self._thinks,
                    max_new_tokens=self._most_tokens,
                    temperature=self.temperature,
                    seed=self.seed,
                )
            )
        finally:
            self.transcript.reply(hearing.reply, [tool.name for tool in self.toolbox.tools if prompt.actions])
            if hearing.usage:
                self.listener.spent(hearing.usage)

    @property
    def _thinks(self) -> bool:
        return self.think and self.runtime.thinks

    @property
    def _most_tokens(self) -> int:
        """Of a reply: thoughts are long, but a reply never takes more than half of the context."""
        half = max(1, self.runtime.context_tokens // 2)
        return half if self._thinks else min(self.limits.max_new_tokens, half)

    def _remember(self, question: str, outcome: Outcome) -> None:
        turn = self._turn
        messages = settled(question, turn.messages, outcome)
        told = (turn.offered, tuple(turn.repairs), tuple(turn.foreign))
        self._keep([*self.exchanges, Exchange(messages, outcome.ending, *told)])

    def _keep(self, exchanges: Sequence[Exchange]) -> None:
        self.exchanges = tuple(exchanges)
        self.window = self.window.within([exchange.remembered for exchange in exchanges])

    def _say(self, message: Message) -> None:
        self._turn.messages.append(message)
        self.transcript.add("message", message=message.to_json())

    def _notice(self, notice: Notice, detail: str = "") -> None:
        self.transcript.add("notice", notice=notice, detail=detail)
        self.listener.notice(notice, detail)
