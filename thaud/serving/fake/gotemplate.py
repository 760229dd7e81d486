"""Go's text/template, the part that chat templates use: text -> a tree of nodes. Running it is goexecute.py's.

Known are text, actions, pipelines, variables, if, else, with, range, break, continue, comments and trim markers;
refused, in Go's words where they are known, is everything else (define, template, block, custom functions).
Source: https://pkg.go.dev/text/template.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

BUILT_IN = (
    "and",
    "or",
    "not",
    "len",
    "index",
    "slice",
    "eq",
    "ne",
    "lt",
    "le",
    "gt",
    "ge",
    "print",
    "printf",
    "println",
)
FUNCTIONS = frozenset((*BUILT_IN, "json", "currentDate", "yesterdayDate", "toTypeScriptType"))
CLAUSES = ("if", "with", "range")
TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:\\.|[^"\\])*"|`[^`]*`)|(?P<number>[+-]?\d+(?:\.\d+)?)|(?P<field>\.[A-Za-z_]\w*)"""
    r"""|(?P<variable>\$\w*)|(?P<word>[A-Za-z_]\w*)|(?P<sign>:=|[|()=,.]))"""
)


class TemplateError(Exception):
    """A template that Go does not read or run; the text is Go's."""


@dataclass(frozen=True, slots=True)
class Term:
    """An operand: a literal, the dot, a variable, a function's name or a pipeline in brackets; then fields of it."""

    kind: str
    value: object
    fields: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Commands joined by |, each a list of terms. `names` are declared, or assigned where `declares` is false."""

    commands: tuple[tuple[Term, ...], ...]
    names: tuple[str, ...] = ()
    declares: bool = False


@dataclass(frozen=True, slots=True)
class Text:
    """What is written as it is."""

    text: str


@dataclass(frozen=True, slots=True)
class Action:
    """A pipeline whose value is written, unless it sets a variable."""

    pipeline: Pipeline


@dataclass(frozen=True, slots=True)
class Jump:
    """break or continue."""

    kind: str


@dataclass(slots=True)
class Branch:
    """if, with or range, with its body and what else there is."""

    kind: str
    pipeline: Pipeline
    body: "list[Node]" = field(default_factory=list)
    otherwise: "list[Node]" = field(default_factory=list)


Node = Text | Action | Jump | Branch


def parse(text: str) -> list[Node]:
    """A template's nodes. Raises TemplateError."""
    return _Parser(text).whole()


def nodes_of(nodes: list[Node]) -> Iterator[Node]:
    """Every node of a tree, in the order of the text."""
    for node in nodes:
        yield node
        if isinstance(node, Branch):
            yield from nodes_of(node.body)
            yield from nodes_of(node.otherwise)


def names_in(nodes: list[Node]) -> set[str]:
    """All fields that a template names, anywhere, in small letters: what Ollama calls its variables."""
    pipelines = [node.pipeline for node in nodes_of(nodes) if isinstance(node, Action | Branch)]
    return {name.lower() for pipeline in pipelines for name in _fields(pipeline)}


def _fields(pipeline: Pipeline) -> Iterator[str]:
    for term in (term for command in pipeline.commands for term in command):
        yield from term.fields
        if isinstance(term.value, Pipeline):
            yield from _fields(term.value)


def pieces(text: str) -> Iterator[tuple[bool, str, int]]:
    """(is it an action, its text, its line) in order; trim markers and comments are gone."""
    at, trim = 0, False
    while at < len(text):
        start = text.find("{{", at)
        plain = text[at : start if start >= 0 else len(text)]
        end = -1 if start < 0 else _end_of_action(text, start + 2)
        trims_before = start >= 0 and text[start + 2 : start + 3] == "-" and text[start + 3 : start + 4].isspace()
        plain = plain.lstrip(" \t\r\n") if trim else plain
        plain = plain.rstrip(" \t\r\n") if trims_before else plain
        if plain:
            yield False, plain, 0
        if start < 0:
            return
        inner = text[start + 2 + trims_before : end]
        trim = inner.endswith("-") and inner[-2:-1].isspace()
        inner = (inner[:-1] if trim else inner).strip()
        if not inner.startswith("/*"):
            yield True, inner, 1 + text.count("\n", 0, start)
        at = end + 2


def _end_of_action(text: str, at: int) -> int:
    line = 1 + text.count("\n", 0, at)
    while at < len(text):
        found = re.compile(r'"(?:\\.|[^"\\])*"|`[^`]*`|/\*.*?\*/|\}\}|\n', re.DOTALL).search(text, at)
        if found is None:
            break
        if found[0] == "}}":
            return found.start()
        at = found.end()
    raise TemplateError(f"template: :{line}: unclosed action")


class _Parser:
    """Reads the nodes of one template."""

    def __init__(self, text: str) -> None:
        self.pieces = pieces(text)
        self.lines = 1 + text.count("\n")

    def whole(self) -> list[Node]:
        nodes, ending, line = self.list()
        if ending:
            raise TemplateError(f"template: :{line}: unexpected {{{{{ending}}}}}")
        return nodes

    def list(self) -> tuple[list[Node], str, int]:
        """Nodes up to an `end` or `else`, what ended them (empty: the text did) and where."""
        nodes: list[Node] = []
        for is_action, inner, line in self.pieces:
            word = inner.partition(" ")[0] if is_action else ""
            if not is_action:
                nodes.append(Text(inner))
            elif word in {"end", "else"}:
                return nodes, inner, line
            elif word in {"break", "continue"}:
                nodes.append(Jump(word))
            elif word in CLAUSES:
                nodes.append(self.branch(inner, line))
            else:
                nodes.append(Action(pipeline_of(inner, line)))
        return nodes, "", self.lines

    def branch(self, inner: str, line: int) -> Branch:
        kind, _, rest = inner.partition(" ")
        branch = Branch(kind, pipeline_of(rest, line))
        branch.body, ending, line = self.list()
        clause = ending.removeprefix("else").strip() if ending.startswith("else") else ""
        if clause:
            branch.otherwise = [self.branch(clause, line)]  # `else if` has the `end` of its own branch for both.
            return branch
        if ending == "else":
            branch.otherwise, ending, line = self.list()
        if ending != "end":
            raise TemplateError(f"template: :{line}: unexpected EOF")
        return branch


def pipeline_of(inner: str, line: int) -> Pipeline:
    """Read an action's inside. Raises TemplateError."""
    tokens = _tokens(inner, line)
    names, declares, start = _declaration(tokens)
    pipeline, rest = _commands(tokens[start:], line)
    if rest:
        raise TemplateError(f'template: :{line}: unexpected "{rest[0][1]}" in command')
    return Pipeline(pipeline.commands, names, declares)


def _declaration(tokens: list[tuple[str, str]]) -> tuple[tuple[str, ...], bool, int]:
    for at, (_, text) in enumerate(tokens):
        if text in {":=", "="}:
            return tuple(text for kind, text in tokens[:at] if kind == "variable"), text == ":=", at + 1
    return (), False, 0


def _tokens(inner: str, line: int) -> list[tuple[str, str]]:
    found, at = [], 0
    while at < len(inner.rstrip()):
        token = TOKEN.match(inner, at)
        if token is None:
            raise TemplateError(f"template: :{line}: unexpected {inner[at:].strip()[:1]!r} in command")
        kind = token.lastgroup or ""
        if kind == "field" and at and token[0][0] == "." and inner[at - 1] not in " (|,=\t\n":
            kind = "chained"  # A field of what stands directly before it.
        found.append((kind, token[kind if kind != "chained" else "field"]))
        at = token.end()
    return found


def _commands(tokens: list[tuple[str, str]], line: int) -> tuple[Pipeline, list[tuple[str, str]]]:
    commands: list[tuple[Term, ...]] = []
    terms: list[Term] = []
    while tokens and tokens[0][1] != ")":
        if tokens[0] == ("sign", "|"):
            commands.append(tuple(terms))
            terms, tokens = [], tokens[1:]
            continue
        term, tokens = _term(tokens, line)
        terms.append(term)
    commands.append(tuple(terms))
    if not all(commands):
        raise TemplateError(f"template: :{line}: missing value for command")
    return Pipeline(tuple(commands)), tokens


def _term(tokens: list[tuple[str, str]], line: int) -> tuple[Term, list[tuple[str, str]]]:
    (kind, text), rest = tokens[0], tokens[1:]
    term = _simple(kind, text, line)
    if text == "(":
        inner, rest = _commands(rest, line)
        if not rest:
            raise TemplateError(f"template: :{line}: unclosed left paren")
        term, rest = Term("brackets", inner), rest[1:]
    if term is None:
        raise TemplateError(f'template: :{line}: unexpected "{text}" in command')
    fields = list(term.fields)
    while rest and rest[0][0] == "chained":
        fields.append(rest[0][1][1:])
        rest = rest[1:]
    return Term(term.kind, term.value, tuple(fields)), rest


def _simple(kind: str, text: str, line: int) -> Term | None:
    if kind in {"field", "chained"}:
        return Term("dot", None, (text[1:],))
    if kind == "variable":
        return Term("variable", text)
    if kind == "sign":
        return Term("dot", None) if text == "." else None
    if kind in {"number", "text"}:
        return Term("literal", text[1:-1] if text[0] == "`" else json.loads(text.removeprefix("+")))
    if text in {"true", "false", "nil"}:
        return Term("literal", {"true": True, "false": False}.get(text))
    if text not in FUNCTIONS:
        raise TemplateError(f'template: :{line}: function "{text}" not defined')
    return Term("function", text)
