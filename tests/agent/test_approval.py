import string
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.approval import (
    MOST_PREVIEW_CHARACTERS,
    Approvals,
    Decision,
    Permission,
    Request,
    Rule,
    bounded,
    make_request,
    resembles,
    spell,
)
from thaud.domain import ToolCall
from thaud.errors import ConfigError
from tools.base import Context, Risk, Tool, Values, path_of, tool
from tools.registry import TOOLS
from tools.workspace import Workspace

SEARCH = ToolCall("web_search", {"query": "x"})
CONTEXT = Context(Workspace(Path("/srv/space")), lambda: datetime(2026, 3, 1, tzinfo=UTC))


def named(name: str) -> Tool:
    return next(each for each in TOOLS if each.name == name)


def line_of(values: Values) -> str:
    return str(values["command"])


def run_shell(_: Context, command: str) -> str:
    """A double of the tool that runs a line.

    Args:
        command: the line
    """
    return command


def put_file(_: Context, path: str) -> str:
    """A double of a tool that writes.

    Args:
        path: where
    """
    return path


SHELL = tool(run_shell, Risk.RUNS, subject=line_of)
WRITER = tool(put_file, Risk.WRITES, subject=path_of)


def shell_rule(command: str, **rules: str) -> Rule:
    approvals = Approvals(rules={key: Rule(rule) for key, rule in rules.items()})
    return approvals.rule(SHELL, ToolCall("run_shell", {"command": command}), CONTEXT)


def write_rule(path: str, rules: dict[str, Rule]) -> Rule:
    return Approvals(rules=rules).rule(WRITER, ToolCall("put_file", {"path": path}), CONTEXT)


@pytest.mark.parametrize(
    ("name", "permission"),
    [
        ("calculator", Permission.ALLOWED),
        ("current_time", Permission.ALLOWED),
        ("read_file", Permission.ALLOWED),
        ("recall", Permission.ALLOWED),
        ("web_search", Permission.UNASKED),
        ("fetch_url", Permission.UNASKED),
        ("write_file", Permission.UNASKED),
    ],
)
def test_no_terminal_means_deny(name: str, permission: Permission) -> None:
    """Where nobody can be asked, only what needs no asking runs: nothing that writes, runs or sends."""
    values = {"path": "a", "content": "b", "query": "c", "url": "https://example.org", "expression": "1"}
    assert Approvals(ask=None).permit(named(name), ToolCall(name, values), CONTEXT) is permission


@pytest.mark.parametrize(
    ("decision", "permission"),
    [(Decision.YES, Permission.APPROVED), (Decision.ALWAYS, Permission.APPROVED), (Decision.NO, Permission.REFUSED)],
)
def test_what_sends_is_asked(decision: Decision, permission: Permission) -> None:
    """The person sees the whole call and what it is about, and decides."""
    seen: list[Request] = []

    def ask(request: Request) -> Decision:
        seen.append(request)
        return decision

    assert Approvals(ask).permit(named("web_search"), SEARCH, CONTEXT) is permission
    assert seen == [Request("web_search", Risk.SENDS, "x", 'web_search({"query":"x"})')]
    assert permission.granted is (decision is not Decision.NO)


def test_always_is_for_this_very_call() -> None:
    """An answer for good holds for the same call alone, in this conversation, and against no rule that denies."""
    asked: list[str] = []

    def ask(request: Request) -> Decision:
        asked.append(request.subject)
        return Decision.ALWAYS

    approvals = Approvals(ask)
    for command in ("ls", "ls", "ls -l", "ls"):
        assert approvals.permit(SHELL, ToolCall("run_shell", {"command": command}), CONTEXT).granted
    assert asked == ["ls", "ls -l"]
    denying = Approvals(ask, {"run_shell(ls)": Rule.DENY}, approvals.always)
    assert denying.permit(SHELL, ToolCall("run_shell", {"command": "ls"}), CONTEXT) is Permission.DENIED
    Approvals(ask).permit(SHELL, ToolCall("run_shell", {"command": "ls"}), CONTEXT)
    assert asked == ["ls", "ls -l", "ls"]


@pytest.mark.parametrize(
    ("rules", "rule"),
    [
        ({}, Rule.ASK),
        ({"run_shell": "allow"}, Rule.ALLOW),
        ({"run_shell": "allow", "run_shell(git push*)": "deny"}, Rule.DENY),
        ({"run_shell": "allow", "run_shell(git *)": "ask"}, Rule.ASK),
        ({"run_shell": "ask", "run_shell(git push *)": "allow"}, Rule.ASK),
        ({"run_shell(git *)": "allow"}, Rule.ALLOW),
        ({"run_shell(git *)": "allow", "run_*": "deny"}, Rule.DENY),
        ({"run_shell(git pull*)": "deny", "run_python": "allow"}, Rule.ASK),
        ({"run_shell(GIT PÚSH *)": "deny", "run_shell(git *)": "allow"}, Rule.DENY),
    ],
)
def test_deny_wins_over_ask_and_ask_over_allow(rules: dict[str, str], rule: Rule) -> None:
    """Of all rules that meet a call the strictest counts, whatever their order; where none does, the risk."""
    assert shell_rule("git push origin", **rules) is rule
    assert shell_rule("git push origin", **dict(reversed(rules.items()))) is rule


META = [
    "git log; rm -rf .", "git log && rm x", "git log | sh", "git log > .bashrc", "git log `rm x`", "git log $(rm x)",
    "git log\nrm x", "git log &", "git log $HOME", "git log 'a b'", 'git log "x"', "git log \\x", "git log {a,b}",
    "git log *", "git log ?", "git log [a]", "git log ~", "git log #x", "git log !x", "git log\trm", "git log\r rm",
    "git log\u00a0x", "git log\x00", "git log (x)", "git log < x", "git log ^x",
]  # fmt: skip


@pytest.mark.parametrize("command", META, ids=ascii)
def test_a_metacharacter_meets_no_pattern_but_itself(command: str) -> None:
    """A line that a shell reads as more than words is never allowed by a pattern, only by an equal string."""
    assert shell_rule("git log -p x.py", **{"run_shell(git log*)": "allow"}) is Rule.ALLOW
    assert shell_rule(command, **{"run_shell(git log*)": "allow", "run_shell(*)": "allow"}) is Rule.ASK
    assert shell_rule(command, **{f"run_shell({command})": "allow"}) is Rule.ALLOW
    assert shell_rule(command, **{"run_shell(git log*)": "deny"}) is Rule.DENY


@given(st.text(string.printable, max_size=20))
def test_no_line_slips_through_an_allowing_pattern(rest: str) -> None:
    """Whatever follows an allowed beginning, the line is allowed only if it is plain words."""
    plain = all(each.isalnum() or each in " _-./:,@+=%" for each in rest)
    assert (shell_rule(f"git {rest}", **{"run_shell(git *)": "allow"}) is Rule.ALLOW) is plain


@pytest.mark.parametrize(
    "path",
    ["secret/x", "./secret/x", "secret//x", "SECRET/x", "/srv/space/secret/x", "s\u00e9cret/x", "\uff53ecret/x"],
)
def test_a_denied_path_is_denied_however_it_is_written(path: str) -> None:
    """What forbids is read generously: detours, absolute names, case, width and accents do not help."""
    assert write_rule(path, {"put_file": Rule.ALLOW, "put_file(secret/*)": Rule.DENY}) is Rule.DENY


@pytest.mark.parametrize("command", ["git  push", "GIT push", "git\tpush", "git \n push", "git push origin"])
def test_a_denied_command_is_denied_however_it_is_written(command: str) -> None:
    """Blanks between words do not help either."""
    assert shell_rule(command, **{"run_shell": "allow", "run_shell(git push*)": "deny"}) is Rule.DENY


@pytest.mark.parametrize("path", [".", "./", "/srv/space", "/srv/space/"])
def test_the_workspace_itself_has_one_name(path: str) -> None:
    """A rule about the whole folder meets its absolute name too."""
    call = ToolCall("list_files", {"path": path})
    assert Approvals(rules={"list_files(.)": Rule.DENY}).rule(named("list_files"), call, CONTEXT) is Rule.DENY


def test_an_allowed_path_is_meant_as_it_is_written() -> None:
    """What allows is read strictly, but for the workspace's own absolute name."""
    rules = {"put_file(notes/*)": Rule.ALLOW}
    for path in ("notes/a", "./notes/a", "/srv/space/notes/a"):
        assert write_rule(path, rules) is Rule.ALLOW
    for path in ("Notes/a", "notes", "notesx/a", "x/notes/a", "/notes/a", "/srv/spaces/notes/a", "notes/a\x1b[2J"):
        assert write_rule(path, rules) is Rule.ASK


@pytest.mark.parametrize("key", ["", "run shell", "(x)", "run_shell()", "run_shell(x", "run_shell)x(", "a;b"])
def test_a_rule_that_is_none_is_an_error(key: str) -> None:
    """A misspelt rule is named when the conversation begins, not passed over."""
    with pytest.raises(ConfigError, match="approvals"):
        Approvals(rules={key: Rule.DENY})


@given(st.text("ab*", max_size=8), st.text("ab", max_size=10))
def test_stars_stand_for_anything(pattern: str, text: str) -> None:
    """The quick comparison gives what a regular expression would."""
    import re  # noqa: PLC0415 - the oracle alone needs it

    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None
    assert resembles(pattern, text) is expected


@pytest.mark.parametrize(
    ("hidden", "spelled"),
    [("\x1b[2K", "\\u001b"), ("\u202e", "\\u202e"), ("\x9b", "\\u009b"), ("\U000e0041", "\\U000e0041"), ("\n", "\\n"),
     ("\u3164", "\\u3164"), ("\u200d", "\\u200d"), ("\u00a0", "\\u00a0")],
)  # fmt: skip
def test_nothing_hides_in_a_shown_call(hidden: str, spelled: str) -> None:
    """What would move the cursor, turn the text around or not be seen is spelled out, in the subject too."""
    call = ToolCall("web_search", {"query": f"a{hidden}b"})
    assert spelled in spell(call)
    request = make_request(named("web_search"), call, CONTEXT)
    assert request.spelled.isprintable()
    assert request.subject.isprintable()
    assert hidden not in request.subject


def previewing(text: str) -> Tool:
    return tool(put_file, Risk.WRITES, subject=path_of, preview=lambda _values, _context: text)


def test_a_preview_is_shown_bounded_and_spelled_out() -> None:
    """Of a preview the lines stay lines, what hides is spelled out, and a long one keeps head, tail and a count."""
    request = make_request(previewing("+a\x1b[2J\n\t-b\r"), ToolCall("put_file", {"path": "x"}), CONTEXT)
    assert request.preview == "+a\\u001b[2J\n\t-b\\u000d"
    long = "\n".join(f"+{number}" for number in range(5000))
    shown = bounded(long).splitlines()
    assert (shown[0], shown[-1]) == ("+0", "+4999")
    assert "[... 4600 more lines are not shown ...]" in shown
    wide = bounded("x" * 10 * MOST_PREVIEW_CHARACTERS)
    assert len(wide) < MOST_PREVIEW_CHARACTERS + 100
    assert f"{9 * MOST_PREVIEW_CHARACTERS} more characters" in wide


def test_a_tool_that_cannot_say_what_it_does_is_shown_whole() -> None:
    """Where a tool's own words fail, the call is asked about all the same, with its arguments."""

    def fail(*_: object) -> str:
        raise RuntimeError("no")

    broken = tool(put_file, Risk.WRITES, subject=fail, preview=fail)
    request = make_request(broken, ToolCall("put_file", {"path": "x"}), CONTEXT)
    assert request.subject == '{"path":"x"}'
    assert request.preview == "[the tool failed to show what it would do: RuntimeError]\n" + request.spelled
    assert Approvals().rule(broken, ToolCall("put_file", {"path": "x"}), CONTEXT) is Rule.ASK


def test_an_edit_that_will_fail_says_so(tmp_path: Path) -> None:
    """A person reads why a change cannot be made instead of its diff."""
    context = Context(Workspace(tmp_path), CONTEXT.clock)
    call = ToolCall("edit_file", {"path": "none.txt", "old_text": "a", "new_text": "b"})
    preview = make_request(named("edit_file"), call, context).preview
    assert preview is not None
    assert preview.startswith("[cannot read 'none.txt': there is no such file]\nedit_file({")


@pytest.mark.parametrize("name", ["read_file", "list_files", "write_file", "edit_file", "code_analysis"])
@pytest.mark.parametrize("path", ["secret/x", "./secret//x", "secret/./x"])
def test_every_tool_of_files_is_judged_by_its_path(name: str, path: str) -> None:
    """A rule on a path holds for whichever tool names it, however it is written."""
    approvals = Approvals(rules={f"{name}(secret/*)": Rule.DENY, name: Rule.ALLOW})
    values = {"path": path, "content": "", "old_text": "a", "new_text": "b"}
    assert approvals.permit(named(name), ToolCall(name, values), CONTEXT) is Permission.DENIED
