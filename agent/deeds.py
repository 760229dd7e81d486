"""What each slash command does. Owns the deeds; refuses to read lines (repl.py) and to answer (conversation.py)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from agent.approval import BY_RISK, Rule
from agent.chat_words import counted
from agent.commands import Name, overview
from agent.consent import echo
from agent.conversation import Conversation, Proposed
from agent.exporting import to_line, to_markdown, write_new
from agent.outer_editor import edit
from thaud.errors import UsageError
from tools.base import Risk

MOST_DIGITS = 10
Deed = Callable[[Conversation, str], None]


def show_help(chat: Conversation, rest: str) -> None:
    """Each command, then the keys."""
    del rest
    chat.front.rows(overview(chat.setup.language))
    chat.front.line(chat.words.keys, "dim")
    chat.front.line(chat.words.files.format(path=chat.setup.workspace), "dim")


def show_tools(chat: Conversation, rest: str) -> None:
    """Each tool with its rule, and the folder."""
    del rest
    said = chat.begun is None  # by the chat, as soon as its model is there
    agent = chat.agent
    if not agent.toolbox.tools:
        if not said:
            chat.front.line(chat.words.no_tools.format(tokens=agent.runtime.context_tokens))
        return
    rules = agent.approvals.rules
    chat.front.rows(
        [
            (f"{tool.name} ({rules.get(tool.name, BY_RISK.get(tool.risk, Rule.ASK))})", tool.description)
            for tool in agent.toolbox.tools
        ]
    )
    chat.front.line(chat.words.workspace.format(path=agent.toolbox.context.workspace.root), "dim")
    walls = agent.toolbox.context.sandbox
    if walls is not None and any(tool.risk is Risk.RUNS for tool in agent.toolbox.tools):
        chat.front.line(chat.words.walls.format(name=walls.name), "dim")  # looks for them, or says why there are none


def choose_model(chat: Conversation, rest: str) -> None:
    """The versions, or another one."""
    if not rest:
        for choice in chat.kit.shelf.choices():
            mark = "*" if choice.name == chat.model else " "
            chat.front.line(
                chat.words.version_line.format(mark=mark, n=choice.n, name=choice.name, note=choice.note).rstrip()
            )
        return
    n = number(rest)
    if n is None:
        raise UsageError(chat.words.which_version)
    done = chat.switch(n)
    told = chat.words.switched if done else chat.words.same_version
    chat.front.line(told.format(model=chat.model), "green")


def choose_thinking(chat: Conversation, rest: str) -> None:
    """On, off, or how it is."""
    agent = chat.agent
    if rest in {"on", "off"}:
        agent.think = rest == "on"
    elif rest:
        raise UsageError(chat.words.say_on_or_off)
    if agent.think and not agent.runtime.thinks:
        chat.front.line(chat.words.cannot_think, "yellow")
    else:
        chat.front.line(chat.words.think_on if agent.think else chat.words.think_off)


def tell_system(chat: Conversation, rest: str) -> None:
    """What the model is told before everything."""
    agent = chat.agent
    if rest:
        agent.system = "" if rest == "-" else rest
    told = chat.words.system_is.format(text=agent.system) if agent.system else chat.words.no_system
    chat.front.line(told)


def show_context(chat: Conversation, rest: str) -> None:
    """How full it is."""
    del rest
    filled = chat.agent.context()
    questions = counted(chat.words, len(chat.agent.exchanges))
    percent = round(100 * filled.used / filled.of) if filled.of else 0
    chat.front.line(chat.words.context.format(filled=filled, percent=percent, questions=questions))


def unfold(chat: Conversation, rest: str) -> None:
    """The last thing folded, or that of a number."""
    chat.front.unfold(number(rest))


def undo(chat: Conversation, rest: str) -> None:
    """Take the last question back."""
    del rest
    question = chat.agent.undo()
    if question is None:
        chat.front.line(chat.words.nothing_to_undo, "yellow")
    else:
        chat.front.line(chat.words.undone.format(question=shortened(question)))


def retry(chat: Conversation, rest: str) -> None:
    """Ask the last question again."""
    del rest
    if chat.retry() is None:
        chat.front.line(chat.words.nothing_to_retry, "yellow")


def teach(chat: Conversation, rest: str) -> None:
    """Propose the right answer: what was written, or what the editor leaves."""
    if not chat.exchanges:
        raise UsageError(chat.words.nothing_to_teach)
    with echo(on=True):
        answer = rest or edit(chat.exchanges[-1].answer)
    if answer is None:
        chat.front.line(chat.words.not_changed, "yellow")
    else:
        tell(chat, chat.kit.teaching.teach(chat.agent, answer))


def judge_good(chat: Conversation, rest: str) -> None:
    """Propose the answer as it is."""
    del rest
    if not chat.exchanges:
        raise UsageError(chat.words.nothing_to_teach)
    tell(chat, chat.kit.teaching.good(chat.agent))


def judge_bad(chat: Conversation, rest: str) -> None:
    """Propose that the answer be another."""
    if not chat.exchanges:
        raise UsageError(chat.words.nothing_to_teach)
    tell(chat, chat.kit.teaching.bad(chat.agent, rest))


def tell(chat: Conversation, proposed: Proposed) -> None:
    """Say what was proposed."""
    chat.front.line(chat.words.proposed.format(id=proposed.id), "green")
    if proposed.needs_answer:
        chat.front.line(chat.words.review, "dim")


def save(chat: Conversation, rest: str) -> None:
    """The last answer into a file, or where everything is."""
    if not chat.exchanges:
        raise UsageError(chat.words.no_answer_yet)
    if rest:
        path = Path(rest)
        write_new(path, chat.exchanges[-1].answer + "\n", chat.words.exists)
        chat.front.line(chat.words.saved.format(path=path), "green")
    else:
        transcript = chat.agent.transcript
        transcript.save()
        chat.front.line(chat.words.kept.format(path=transcript.path, id=transcript.path.stem))


def export(chat: Conversation, rest: str) -> None:
    """The conversation into a file."""
    if not rest:
        raise UsageError(chat.words.export_where)
    if not chat.exchanges:
        raise UsageError(chat.words.nothing_said)
    path, system = Path(rest), chat.agent.system
    if path.suffix == ".jsonl":
        text = to_line(chat.exchanges, system)
    else:
        text = to_markdown(chat.exchanges, chat.model, system)
    write_new(path, text, chat.words.exists)
    chat.front.line(chat.words.exported.format(path=path), "green")


def clear(chat: Conversation, rest: str) -> None:
    """Begin anew."""
    del rest
    chat.agent.clear()
    chat.question = None
    chat.front.line(chat.words.cleared)


def number(text: str) -> int | None:
    """A number as somebody writes one, None for anything else."""
    return int(text) if text.isdecimal() and len(text) < MOST_DIGITS else None


def shortened(text: str, most: int = 80) -> str:
    """The beginning of a text, in one line."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


DEEDS: Mapping[Name, Deed] = MappingProxyType(
    {
        "help": show_help,
        "tools": show_tools,
        "model": choose_model,
        "think": choose_thinking,
        "system": tell_system,
        "context": show_context,
        "unfold": unfold,
        "undo": undo,
        "retry": retry,
        "teach": teach,
        "good": judge_good,
        "bad": judge_bad,
        "save": save,
        "export": export,
        "clear": clear,
    }
)
