"""The loop: messages -> model -> final answer, or calls -> results -> again.

Owns when to stop. A reply that was cut or broke off never runs a call, not even its whole ones. A reply with a call
that cannot be read or may not be made runs nothing either: the model is told what is wrong, `max_repairs` times. The
same calls twice in a row, or too many steps, lead to one last turn without tools. Ctrl-C ends the turn, not the
program.

A turn that is not answered leaves nothing in the history but what was said of the answer; the transcript keeps it all.
"""

from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

from agent.approval import Approvals
from agent.dialects import hermes
from agent.state import Ending, Limits, Listener, Notice, Outcome, Reply, Step
from agent.toolbox import CheckedCall, Result, Toolbox
from agent.transcript import Transcript
from thaud.domain import Message, ToolCall
from thaud.errors import ModelError, ToolError
from thaud.serving.runtime import DoneReason, Runtime

DENIED = Result("error: the user did not allow this call; go on without it", ok=False)
EMPTY_REPLY = "the reply was empty, or a tool call in it was malformed"
TRY_AGAIN = "Nothing was run. Reply again: with a correct tool call, or with the answer in plain words."
CLOSING = "Answer now, in plain words, from what you know. Do not call tools."


@dataclass(slots=True)
class Agent:
    """A conversation with a model that may use tools. `history` holds one tuple of messages for each exchange."""

    runtime: Runtime
    toolbox: Toolbox
    approvals: Approvals
    transcript: Transcript
    listener: Listener
    limits: Limits = field(default_factory=Limits)
    history: list[tuple[Message, ...]] = field(default_factory=list)
    _turn: list[Message] = field(default_factory=list)
    _heard: str = ""

    def answer(self, question: str) -> Outcome:
        """Answer a question. Raises ModelError, ServerError and StorageError; the transcript is saved in any case."""
        self._turn, self._heard = [], ""
        ending = "failed"
        try:
            self._say(Message("user", question))
            outcome = self._work()
            ending = outcome.ending
        except KeyboardInterrupt:
            outcome = Outcome(self._heard.strip(), Ending.STOPPED)
            ending = outcome.ending
        finally:
            self.transcript.add("end", ending=ending)
            self.transcript.save()
        self._remember(question, outcome)
        return outcome

    def clear(self) -> None:
        """Begin a new conversation in the same transcript."""
        self.history.clear()
        self.transcript.add("clear")

    def _work(self) -> Outcome:
        repairs, last = self.limits.max_repairs, ""
        for _ in range(self.limits.max_steps):
            reply = self._generate(offer=True)
            if reply.done != "stop":
                return self._cut_short(reply.done)
            step = self._read(reply)
            if step.problems:
                if not repairs:
                    break
                repairs -= 1
                self._ask_again(reply, step.problems)
            elif not step.calls:
                return self._conclude(step.content)
            elif step.signature == last:
                self._notice(Notice.REPEATED)
                break
            else:
                last = step.signature
                self._execute(step)
        return self._last_word()

    def _generate(self, *, offer: bool) -> Reply:
        """One reply. Where the prompt does not fit, the oldest exchange is forgotten, and at last the tools."""
        while True:
            try:
                return self._listen(self.toolbox.definitions if offer else [])
            except ModelError:
                if self._heard or not self._make_room():
                    raise

    def _make_room(self) -> bool:
        """Shorten the prompt for this and all later turns; False where there is nothing to leave out."""
        if self.history:
            del self.history[0]
            self._notice(Notice.FORGOT)
            return True
        if self.toolbox.tools:
            self.toolbox = replace(self.toolbox, tools=())
            self._notice(Notice.NO_TOOLS)
            return True
        return False

    def _listen(self, tools: list[dict[str, Any]]) -> Reply:
        curtain, text = hermes.Curtain(), ""
        calls: list[ToolCall] = []
        done: DoneReason = "aborted"
        self._heard = ""
        messages = [*chain.from_iterable(self.history), *self._turn]
        try:
            for delta in self.runtime.chat(messages, tools=tools, max_new_tokens=self.limits.max_new_tokens):
                text += delta.text
                calls += delta.tool_calls
                self._show(curtain.feed(delta.text))
                done = delta.done or done
            self._show(curtain.finish())
        finally:
            offered = [tool["function"]["name"] for tool in tools]
            called = [call.to_json() for call in calls]
            self.transcript.add("reply", text=text, calls=called, done=done, tools=offered)
        return Reply(text, tuple(calls), done)

    def _show(self, piece: str) -> None:
        if piece:
            self._heard += piece
            self.listener.text(piece)

    def _read(self, reply: Reply) -> Step:
        """Take a reply apart and check its calls against the tools; without tools everything is an answer."""
        parsed = hermes.parse(reply.text)
        if not self.toolbox.tools:
            return Step(parsed.content, (), ())
        checked: list[CheckedCall] = []
        problems = list(parsed.problems)
        for call in (*reply.calls, *parsed.calls):
            try:
                checked.append(self.toolbox.check(call))
            except ToolError as error:
                problems.append(str(error))
        if len(checked) > self.limits.max_calls:
            problems.append(f"{len(checked)} calls at once; at most {self.limits.max_calls} are run")
        if not (parsed.content or checked or problems):
            problems.append(EMPTY_REPLY)
        return Step(parsed.content, tuple(checked), tuple(problems))

    def _ask_again(self, reply: Reply, problems: tuple[str, ...]) -> None:
        told = "; ".join(problems)
        self._notice(Notice.REPAIR, told)
        self._say(Message("assistant", reply.text, reply.calls))
        self._say(Message("tool", self.toolbox.fit(f"error: {told}. {TRY_AGAIN}")))

    def _execute(self, step: Step) -> None:
        self._say(Message("assistant", step.content, tuple(checked.call for checked in step.calls)))
        for checked in step.calls:
            self._say(Message("tool", self._perform(checked).text, tool_name=checked.call.name))

    def _perform(self, checked: CheckedCall) -> Result:
        self.listener.called(checked.call)
        permitted = self.approvals.permit(checked.call, checked.tool.risk)
        self.transcript.add("call", call=checked.call.to_json(), permitted=permitted)
        result = self.toolbox.run(checked) if permitted else DENIED
        self.transcript.add("result", tool=checked.call.name, ok=result.ok, text=result.text, fault=result.fault)
        self.listener.returned(checked.call, result)
        return result

    def _last_word(self) -> Outcome:
        """One turn without tools; what it calls all the same is not run."""
        self._notice(Notice.LIMIT)
        self._say(Message("user", CLOSING))
        reply = self._generate(offer=False)
        return self._conclude(hermes.parse(reply.text).content) if reply.done == "stop" else self._cut_short(reply.done)

    def _conclude(self, content: str) -> Outcome:
        if not content:
            return Outcome("", Ending.EMPTY)
        self._say(Message("assistant", content))
        return Outcome(content, Ending.ANSWERED)

    def _cut_short(self, done: DoneReason) -> Outcome:
        return Outcome(self._heard.strip(), Ending.CUT if done == "length" else Ending.BROKEN)

    def _remember(self, question: str, outcome: Outcome) -> None:
        if outcome.ending is Ending.ANSWERED:
            self.history.append(tuple(self._turn))
        elif outcome.text:
            self.history.append((Message("user", question), Message("assistant", outcome.text)))

    def _say(self, message: Message) -> None:
        self._turn.append(message)
        self.transcript.add("message", message=message.to_json())

    def _notice(self, notice: Notice, detail: str = "") -> None:
        self.transcript.add("notice", notice=notice, detail=detail)
        self.listener.notice(notice, detail)
