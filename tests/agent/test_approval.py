import pytest

from agent.approval import Approvals, Rule, spell
from thaud.domain import ToolCall
from tools.base import Risk
from tools.registry import TOOLS

SEARCH = ToolCall("web_search", {"query": "x"})


@pytest.mark.parametrize(
    ("name", "permitted"),
    [("calculator", True), ("current_time", True), ("read_file", True), ("web_search", False)],
)
def test_no_terminal_means_deny(name: str, permitted: bool) -> None:  # noqa: FBT001
    """Where nobody can be asked, only what needs no asking runs: nothing that sends something out."""
    tool = next(tool for tool in TOOLS if tool.name == name)
    assert Approvals(ask=None).permit(ToolCall(name, {}), tool.risk) is permitted


@pytest.mark.parametrize("answer", [True, False])
def test_what_sends_is_asked(answer: bool) -> None:  # noqa: FBT001
    """The person sees the whole call and decides."""
    seen: list[str] = []

    def ask(call: str) -> bool:
        seen.append(call)
        return answer

    assert Approvals(ask).permit(SEARCH, Risk.SENDS) is answer
    assert seen == ['web_search({"query":"x"})']


def test_rules_by_name_go_first() -> None:
    """A tool can be allowed, asked about or denied whatever its risk."""
    rules = {"web_search": Rule.ALLOW, "calculator": Rule.DENY, "read_file": Rule.ASK}
    approvals = Approvals(ask=lambda _: False, rules=rules)
    assert approvals.permit(SEARCH, Risk.SENDS)
    assert not approvals.permit(ToolCall("calculator", {}), Risk.COMPUTES)
    assert not approvals.permit(ToolCall("read_file", {}), Risk.READS)


@pytest.mark.parametrize(
    ("hidden", "spelled"),
    [("\x1b[2K", "\\u001b"), ("\u202e", "\\u202e"), ("\x9b", "\\u009b"), ("\U000e0041", "\\U000e0041"), ("\n", "\\n")],
)
def test_nothing_hides_in_a_shown_call(hidden: str, spelled: str) -> None:
    """What would move the cursor or turn the text around is spelled out."""
    shown = spell(ToolCall("web_search", {"query": f"a{hidden}b"}))
    assert spelled in shown
    assert shown.isprintable()
