"""Which calls may run. Owns the rules and the question; refuses to run anything.

A rule is named `tool` or `tool(pattern)`; a pattern, where `*` stands for anything, meets the call's subject (a
command, a path, a host; see tools/base.py). Of the rules that meet a call the strictest wins: deny, then ask, then
allow; where none does, the risk decides. What forbids is read generously (case, width, accents and the number of blanks
do not matter), what allows strictly: a command with a character that means something to a shell meets no allowing
pattern but one that is equal to it.

A call is shown whole and normalised before it is approved, with every character that could hide something spelled out.
Where nobody can be asked, ask means deny.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from thaud.domain import ToolCall, canonical_json
from thaud.errors import ConfigError, ToolError
from tools.base import Context, Risk, Tool
from tools.sanitise import spelled_out

KEY = re.compile(r"(?P<tool>[\w.*-]+)(?:\((?P<pattern>.+)\))?", re.DOTALL)
PLAIN_MARKS = frozenset(" _-./:,@+=%")
MOST_PREVIEW_LINES = 400
MOST_PREVIEW_CHARACTERS = 32_000


class Rule(StrEnum):
    """What to do with calls of a tool."""

    ALLOW = "allow"
    ASK = "ask"
    DENY = "deny"


class Decision(StrEnum):
    """What a person says to a call. ALWAYS: this exact call, as long as the conversation lasts."""

    YES = "yes"
    NO = "no"
    ALWAYS = "always"


class Permission(StrEnum):
    """Whether a call may run, and who said so."""

    ALLOWED = "allowed by a rule"
    APPROVED = "approved"
    REFUSED = "refused"
    DENIED = "denied by a rule"
    UNASKED = "nobody could be asked"

    @property
    def granted(self) -> bool:
        """Whether it may run."""
        return self in {Permission.ALLOWED, Permission.APPROVED}


@dataclass(frozen=True, slots=True)
class Request:
    """A call that a person is asked about. Each text is safe to print: what is unprintable is spelled out.

    subject: what it is about, in one line: a command, a path, a host. spelled: the whole call in one line.
    preview: more lines, where the tool has more to show: a diff, a program.
    """

    tool: str
    risk: Risk
    subject: str
    spelled: str
    preview: str | None = None


Ask = Callable[[Request], Decision]

BY_RISK: Mapping[Risk, Rule] = MappingProxyType(
    {
        Risk.COMPUTES: Rule.ALLOW,
        Risk.READS: Rule.ALLOW,
        Risk.WRITES: Rule.ASK,
        Risk.RUNS: Rule.ASK,
        Risk.SENDS: Rule.ASK,
    }
)


@dataclass(frozen=True, slots=True)
class Approvals:
    """The rules, by `tool` or `tool(pattern)`. `ask` shows a call to a person; None where nobody is there.

    Raises ConfigError for a rule whose name is neither.
    """

    ask: Ask | None = None
    rules: Mapping[str, Rule] = field(default_factory=dict)
    always: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        for key in self.rules:
            read_key(key)

    def permit(self, tool: Tool, call: ToolCall, context: Context) -> Permission:
        """Whether a validated call may run; asks where the rules say so."""
        match self.rule(tool, call, context):
            case Rule.ALLOW:
                return Permission.ALLOWED
            case Rule.DENY:
                return Permission.DENIED
        if (exact := spell(call)) in self.always:
            return Permission.APPROVED
        if self.ask is None:
            return Permission.UNASKED
        decision = self.ask(make_request(tool, call, context))
        if decision is Decision.ALWAYS:
            self.always.add(exact)
        return Permission.REFUSED if decision is Decision.NO else Permission.APPROVED

    def rule(self, tool: Tool, call: ToolCall, context: Context) -> Rule:
        """The strictest of the rules that meet a call, else the one for its risk."""
        subject = subject_of(tool, call)
        met = {
            Rule(rule)
            for key, rule in self.rules.items()
            if meets(key, Rule(rule), tool, forms(subject, tool.risk, context))
        }
        strictest = (rule for rule in (Rule.DENY, Rule.ASK, Rule.ALLOW) if rule in met)
        return next(strictest, BY_RISK.get(tool.risk, Rule.ASK))


def read_key(key: str) -> tuple[str, str | None]:
    """A rule's name as (tool, pattern or None). Raises ConfigError."""
    if found := KEY.fullmatch(key.strip()):
        return found["tool"], found["pattern"]
    raise ConfigError(f"[agent] approvals: {key!r} is neither a tool nor tool(pattern), such as 'run_shell(git *)'")


def forms(subject: str, risk: Risk, context: Context) -> tuple[str, ...]:
    """A subject as it may be written: a path below the workspace counts by its absolute name and from there on."""
    root = f"{context.workspace.root}/"
    if risk in {Risk.READS, Risk.WRITES} and subject.startswith(root):
        return subject, subject.removeprefix(root)
    if risk in {Risk.READS, Risk.WRITES} and f"{subject}/" == root:
        return subject, "."
    return (subject,)


def meets(key: str, rule: Rule, tool: Tool, subjects: tuple[str, ...]) -> bool:
    """Whether a rule is about a call: generous where it forbids, strict where it allows."""
    name, pattern = read_key(key)
    if not resembles(name, tool.name):
        return False
    if pattern is None:
        return True
    if rule is Rule.ALLOW:
        return any(allows(pattern, subject, tool.risk) for subject in subjects)
    return any(resembles(fold(pattern), fold(subject)) for subject in subjects)


def allows(pattern: str, subject: str, risk: Risk) -> bool:
    """Whether an allowing pattern meets a subject. What a shell would read as more than words has to be equal."""
    if subject == pattern:
        return True
    if not subject.isprintable() or (risk is Risk.RUNS and not is_plain(subject)):
        return False
    return resembles(pattern, subject)


def is_plain(line: str) -> bool:
    """Whether a shell reads a line as words alone: letters, digits, spaces and a few marks."""
    return all(character.isalnum() or character in PLAIN_MARKS for character in line)


def resembles(pattern: str, text: str) -> bool:
    """Whether a text is the pattern with something for each `*`. Linear: a regular expression could take for ever."""
    head, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    *middle, tail = rest
    if len(text) < len(head) + len(tail) or not (text.startswith(head) and text.endswith(tail)):
        return False
    at, end = len(head), len(text) - len(tail)
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def fold(text: str) -> str:
    """Letters without case, width or accents, and words with one space between them."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(each for each in plain if not unicodedata.combining(each)).split())


def subject_of(tool: Tool, call: ToolCall) -> str:
    """What a call is about; all of it where the tool fails to say."""
    try:
        return tool.subject(call.arguments)
    except Exception:  # noqa: BLE001 - a tool's own code, which must not end the conversation
        return canonical_json(dict(call.arguments))


def make_request(tool: Tool, call: ToolCall, context: Context) -> Request:
    """What a person is shown of a call."""
    subject = spelled_out(subject_of(tool, call))
    return Request(tool.name, tool.risk, subject, spell(call), preview_of(tool, call, context))


def preview_of(tool: Tool, call: ToolCall, context: Context) -> str | None:
    """The tool's own preview, bounded; where it cannot be made, why, and the call itself."""
    if tool.preview is None:
        return None
    try:
        return bounded(spelled_out(tool.preview(call.arguments, context), kept="\n\t"))
    except ToolError as error:
        why = str(error)
    except Exception as error:  # noqa: BLE001 - a tool's own code, which must not end the conversation
        why = f"the tool failed to show what it would do: {type(error).__name__}"
    return bounded(f"{spelled_out(f'[{why}]')}\n{spell(call)}")


def bounded(preview: str) -> str:
    """The head and the tail of a long text, and how much lies between."""
    lines = preview.splitlines()
    if len(lines) <= MOST_PREVIEW_LINES and len(preview) <= MOST_PREVIEW_CHARACTERS:
        return preview
    half = MOST_PREVIEW_LINES // 2
    if len(lines) > MOST_PREVIEW_LINES:
        hidden = len(lines) - 2 * half
        preview = "\n".join([*lines[:half], f"[... {hidden} more lines are not shown ...]", *lines[-half:]])
    half = MOST_PREVIEW_CHARACTERS // 2
    if len(preview) > MOST_PREVIEW_CHARACTERS:
        hidden = len(preview) - 2 * half
        preview = f"{preview[:half]}\n[... {hidden} more characters are not shown ...]\n{preview[-half:]}"
    return preview


def spell(call: ToolCall) -> str:
    """A call in one line, nothing hidden: `web_search({"query":"..."})`; unprintable characters as escapes."""
    return spelled_out(f"{call.name}({canonical_json(dict(call.arguments))})")
