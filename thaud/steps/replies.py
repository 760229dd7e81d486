"""The grammar of a whole reply: thoughts and words as they come, and from where a call begins nothing but calls.

Owns the three forms (a tagged reply, an action, one JSON value). Free text is a small automaton that looks out for a
tag, so that a tag is found whatever tokens it is made of, and a tag within a thought is none; it is told apart from the
calls by llama.cpp itself, which therefore needs no trigger. A part of an action that the compiler refuses may be
anything, so that one odd tool of a stranger's ends no conversation: validation sees to it. Refuses to know templates
and tools.
"""

from collections.abc import Mapping
from typing import Any, Literal

from thaud.errors import ModelError
from thaud.steps.grammar import Compiler, literal
from thaud.steps.numerals import either

OPEN, CLOSE = "<tool_call>", "</tool_call>"
THINK, THOUGHT = "<think>", "</think>"
SPACE = " \t\n\r"
MOST_CALLS = 8

Thought = Literal["never", "perhaps", "begun"]  # in a reply: there is none, it may begin with one, it begins within one


def tagged_reply(actions: Mapping[str, Any], thought: Thought, most: int = MOST_CALLS) -> str:
    """GBNF of free text that may end with calls in tags, at most so many; each is what `actions` allows.

    After the first tag there is nothing else but calls and the end.
    """
    actions = holdable(actions)
    compiler = Compiler(actions)
    free = text_until(compiler, "text", OPEN, calls_after_tag(compiler, actions, most), ends=True)
    if thought == "begun":
        root = text_until(compiler, "thought", THOUGHT, free, ends=True)
    elif thought == "perhaps":
        inside = text_until(compiler, "thought", THOUGHT, free, ends=True)
        root = opening(compiler, inside, OPEN, "text")
    else:
        root = free
    compiler.rules["root"] = root
    return compiler.text()


def calls_after_tag(compiler: Compiler, actions: Mapping[str, Any], most: int = MOST_CALLS) -> str:
    """The expression of what follows the first tag: a call, its closing tag, and further calls in theirs."""
    gap = compiler.rule("gap", '"\\n"?')
    call = compiler.rule("call", f"{gap} {compiler.value(actions, 'call')} {gap} {literal(CLOSE)}")
    more = compiler.rule("next", f"{gap} {literal(OPEN)} {call}")
    return f"{call} {more}{{0,{most - 1}}}"


def action_reply(actions: Mapping[str, Any], thought: Thought) -> str:
    """GBNF of one JSON value that `actions` allows, after a thought where there may be one."""
    actions = holdable(actions)
    compiler = Compiler(actions)
    blank = compiler.rule("blank", '" " | "\\n"')
    action = compiler.rule("action", f"{blank}{{0,2}} {compiler.value(actions, 'action')}")
    roots = [action] if thought != "begun" else []
    if thought != "never":
        inside = text_until(compiler, "thought", THOUGHT, action, ends=False)
        roots.append(inside if thought == "begun" else f"{blank}{{0,2}} {literal(THINK)} {inside}")
    compiler.rules["root"] = either(roots)
    return compiler.text()


def holdable(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema without references as the compiler can hold it: what it refuses is widened, as far inside as may be."""
    try:
        Compiler(schema).value(schema)
    except ModelError:
        wider = dict(schema)
        if "anyOf" in schema:
            wider["anyOf"] = [holdable(each) for each in schema["anyOf"]]
        if "properties" in schema:
            wider["properties"] = {name: holdable(each) for name, each in schema["properties"].items()}
        if wider != schema:
            return holdable(wider)
        return {"type": "object"} if schema.get("type") == "object" else {}
    return schema


def text_until(compiler: Compiler, name: str, tag: str, after: str, *, ends: bool) -> str:
    """The rule of any text up to a tag, and what follows it. `ends`: whether the text may end instead.

    One rule for each beginning of the tag that the text so far ends with. A tag's first character stands in it once, so
    that what breaks a beginning off leaves none, or a new one.
    """
    if tag[0] in tag[1:]:
        raise ModelError(f"{tag!r} has its first character twice, which this automaton does not know")
    for seen in range(len(tag)):
        wanted = tag[seen]
        onwards = after if seen + 1 == len(tag) else f"{name}{seen + 1}"
        ways = [f"{literal(wanted)} {onwards}"]
        if seen:
            ways.append(f"{literal(tag[0])} {name}1")
        ways.append(f"[^{''.join(dict.fromkeys((wanted, tag[0])))}] {name}0")
        compiler.rules[f"{name}{seen}"] = " | ".join([*ways, '""'] if ends else ways)
    return f"{name}0"


def opening(compiler: Compiler, inside: str, tag: str, text: str) -> str:
    """The rules of a reply's beginning, where THINK leads into a thought and all else is text that looks out for `tag`.

    Both tags are followed at once as far as they are alike.
    """
    for seen in range(len(THINK)):
        so_far, wanted = THINK[:seen], THINK[seen]
        ways = [f"{literal(wanted)} {inside if seen + 1 == len(THINK) else f'opening{seen + 1}'}"]
        known = wanted
        if seen < len(tag) and tag.startswith(so_far) and tag[seen] != wanted:
            ways.append(f"{literal(tag[seen])} {text}{seen + 1}")
            known += tag[seen]
        if seen:
            ways.append(f"{literal(tag[0])} {text}1")
            known += tag[0]
        else:
            ways.append(f"[{SPACE.encode('unicode_escape').decode()}] opening0")
            known += SPACE.encode("unicode_escape").decode()
        compiler.rules[f"opening{seen}"] = " | ".join([*ways, f"[^{known}] {text}0", '""'])
    return "opening0"
