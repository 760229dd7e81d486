"""A Python program taken apart with `ast`: its imports, classes, functions with their complexity, and what is wrong.

A plain function over JSON, so that it can run apart from everything else (apart.py): a parser may fall over what it
reads. Refuses to run or import what it reads.
"""

import ast
from collections.abc import Iterator
from typing import Any

MOST_COMPLEX = 10
MOST_LINES = 60
MOST_ARGUMENTS = 7
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.Assert, ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.Lambda, ast.ClassDef)

Row = dict[str, Any]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def answer(question: dict[str, str]) -> Row:
    """What a program is made of: `imports`, `classes`, `functions`, `problems` (line and words), `lines`.

    `text`: the program. A program that is none gives one problem.
    """
    text = question["text"]
    lines = text.count("\n") + (not text.endswith("\n"))
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        problem = {
            "line": getattr(error, "lineno", None) or 1,
            "words": f"syntax error: {getattr(error, 'msg', error)}",
        }
        return {"imports": [], "classes": [], "functions": [], "problems": [problem], "lines": lines}
    functions = [describe_function(node, owner) for node, owner in named(tree) if isinstance(node, FUNCTIONS)]
    return {
        "imports": sorted({name for node in ast.walk(tree) for name in imported(node)}),
        "classes": [describe_class(node) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)],
        "functions": functions,
        "problems": sorted(problems(tree), key=lambda problem: problem["line"]),
        "lines": lines,
    }


def named(node: ast.AST, owner: str = "") -> Iterator[tuple[ast.AST, str]]:
    """Functions and classes with the dotted name of what they are in."""
    for child in ast.iter_child_nodes(node):
        inner = owner
        if isinstance(child, (*FUNCTIONS, ast.ClassDef)):
            yield child, owner
            inner = f"{owner}{child.name}."
        yield from named(child, inner)


def imported(node: ast.AST) -> list[str]:
    """The modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return []


def describe_class(node: ast.ClassDef) -> Row:
    """Name, line, bases and methods."""
    methods = [child.name for child in node.body if isinstance(child, FUNCTIONS)]
    return {"name": node.name, "line": node.lineno, "bases": [ast.unparse(base) for base in node.bases], "has": methods}


def describe_function(node: ast.AST, owner: str) -> Row:
    """Name, line, arguments, length in lines, complexity."""
    assert isinstance(node, FUNCTIONS)
    length = (node.end_lineno or node.lineno) - node.lineno + 1
    asked = f"({ast.unparse(node.args)})"
    return {
        "name": owner + node.name,
        "line": node.lineno,
        "asks": asked,
        "lines": length,
        "complexity": complexity(node),
    }


def complexity(function: Function) -> int:
    """Ways through a function, one more than its branches (McCabe 1976); inner functions count apart."""
    total = 1
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        total += isinstance(node, BRANCHES)
        total += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
        total += 1 + len(node.ifs) if isinstance(node, ast.comprehension) else 0
        waiting += [child for child in ast.iter_child_nodes(node) if not isinstance(child, SCOPES)]
    return total


def problems(tree: ast.Module) -> Iterator[Row]:
    """What is wrong, or soon will be."""
    yield from unused(tree)
    for node in ast.walk(tree):
        for words in [*wrong_function(node), *wrong_expression(node), *wrong_body(node)]:
            yield {"line": getattr(node, "lineno", 1), "words": words}


def wrong_function(node: ast.AST) -> Iterator[str]:
    """Of a function: defaults that are shared, too many arguments, too long, too many branches."""
    if not isinstance(node, FUNCTIONS):
        return
    asked = node.args
    if any(isinstance(each, ast.List | ast.Dict | ast.Set) for each in [*asked.defaults, *asked.kw_defaults]):
        yield f"{node.name}: a default that can be changed is shared by all calls; use None"
    count = len(asked.posonlyargs + asked.args + asked.kwonlyargs)
    if count > MOST_ARGUMENTS:
        yield f"{node.name}: {count} arguments"
    if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MOST_LINES:
        yield f"{node.name}: {length} lines long"
    if (ways := complexity(node)) > MOST_COMPLEX:
        yield f"{node.name}: complexity {ways}"


def wrong_expression(node: ast.AST) -> Iterator[str]:
    """Of an expression or handler: what hides errors, and what is compared wrongly."""
    if isinstance(node, ast.ExceptHandler) and node.type is None:
        yield "a bare except catches everything, Ctrl-C too; name the exception"
    if isinstance(node, ast.ExceptHandler) and all(isinstance(each, ast.Pass) for each in node.body):
        yield "an exception is passed over in silence"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in {"eval", "exec"}:
        yield f"{node.func.id} runs whatever its text says"
    if isinstance(node, ast.Compare):
        for operator, right in zip(node.ops, node.comparators, strict=True):
            if isinstance(operator, ast.Eq | ast.NotEq) and isinstance(right, ast.Constant) and right.value is None:
                yield "None is compared with `is`"
            if isinstance(operator, ast.Is | ast.IsNot) and isinstance(right, ast.Constant) and is_value(right.value):
                yield "a value is compared with `==`, not with `is`"


def is_value(constant: object) -> bool:
    """Whether a constant is a number or a text."""
    return isinstance(constant, str | bytes | int | float | complex) and not isinstance(constant, bool)


def wrong_body(node: ast.AST) -> Iterator[str]:
    """Of a block: what is never reached, and names that are defined twice."""
    body = getattr(node, "body", None)
    if not isinstance(body, list):
        return
    for each in body[:-1]:
        if isinstance(each, ast.Return | ast.Raise | ast.Break | ast.Continue):
            yield f"what follows line {each.lineno} is never reached"
    if isinstance(node, ast.Module | ast.ClassDef):
        seen: dict[str, int] = {}
        for each in body:
            if isinstance(each, (*FUNCTIONS, ast.ClassDef)) and not each.decorator_list:
                if each.name in seen:
                    yield f"{each.name} of line {seen[each.name]} is defined again in line {each.lineno}"
                seen[each.name] = each.lineno


def unused(tree: ast.Module) -> Iterator[Row]:
    """Imports whose name is never read, and not exported by `__all__`."""
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    read |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom) and getattr(node, "module", "") != "__future__":
            for alias in node.names:
                name = (alias.asname or alias.name).split(".")[0]
                if name != "*" and name not in read:
                    yield {"line": node.lineno, "words": f"{name} is imported and not used"}
