"""What the README lists is what there is: the tree, the configuration, the commands, the exit codes, the stages."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from pydantic import BaseModel

from thaud import errors
from thaud.cli import make_app
from thaud.config import Settings
from thaud.curriculum import STAGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")


def section(heading: str) -> str:
    """The text under a heading, up to the next one."""
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def tree() -> set[str]:
    """Every path that the tree names. Two spaces more are one folder deeper; `a.py, b.py` names both."""
    paths: set[str] = set()
    folders: list[str] = []
    for spaces, names in re.findall(r"^( {4,})(\S+(?:, \S+)*)(?: {2,}\S|$)", section("The tree"), re.MULTILINE):
        del folders[len(spaces) // 2 - 2 :]
        paths |= {"".join(folders) + name for name in names.split(", ")}
        folders.append(names)
    return paths


@pytest.mark.parametrize("folder", ["thaud", "thaud/steps", "tools", "agent"])
def test_the_tree_names_every_module(folder: str) -> None:
    """Who adds a module or a package names it in the README's tree."""
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("[a-z]*.py")}
    packages = {f"{path.parent.relative_to(ROOT).as_posix()}/" for path in (ROOT / folder).glob("*/__init__.py")}
    assert sorted((modules | packages) - tree()) == []


def test_the_tree_names_nothing_that_is_gone() -> None:
    """Who removes a module or a folder removes it from the tree."""
    assert [path for path in sorted(tree()) if not (ROOT / path).exists()] == []


def test_the_design_names_every_module() -> None:
    """The table of modules in docs/design.md is complete, and names nothing that is gone."""
    table = (ROOT / "docs" / "design.md").read_text("utf-8").split("| module | owns |", 1)[1].split("\n\n", 1)[0]
    rows = re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE)
    named = {name.rstrip("/") for row in rows for name in re.findall(r"`([^`]+)`", row)}
    modules = {path.stem for path in (ROOT / "thaud").glob("[a-z]*.py")}
    assert named == modules | {path.parent.name for path in (ROOT / "thaud").glob("*/__init__.py")}


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Every setting with its section."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from fields(field.annotation, f"{prefix}{name}.")
        elif name != "stages":
            yield prefix + name


def test_the_configuration_table_is_complete() -> None:
    """Every setting is in the table, and the table has no other."""
    rows = re.findall(r"^\| (`[^|]+) \|", section("Configuration"), re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([^`]+)`", row)}
    overrides = {name for name in named if name.startswith((".", "stages."))}
    assert named - overrides == set(fields(Settings))
    stage = Settings.model_fields["stages"].annotation.__args__[1]  # type: ignore[union-attr]
    assert {name.rpartition(".")[2] for name in overrides} == set(stage.model_fields)


def test_the_commands_are_listed() -> None:
    """The table of commands has every command."""
    group = typer.main.get_command(make_app())
    commands = set(group.commands)  # type: ignore[attr-defined]
    listed = set(re.findall(r"`([a-z-]+)", "".join(re.findall(r"^\| (`[^|]+)\|", section("Use it"), re.MULTILINE))))
    assert listed == commands


def test_the_exit_codes_are_listed() -> None:
    """The table of exit codes has every code of errors.py, and no other."""
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.ThauError)]
    table = section("Use it").partition("| code |")[2]
    listed = {int(code) for code in re.findall(r"\| (\d+) \|", table)}
    assert listed == {0, *(kind.exit_code for kind in kinds)}


def test_the_stages_are_as_in_the_code() -> None:
    """Ages, context, examples and accuracy of the README are those of the curriculum."""
    rows = re.findall(r"^\| (\d+) \| (\w+)[^|]*\| (\d+) \| (\d+)[^|]*\| (\d+)% \|", README, re.MULTILINE)
    assert [(int(age), name, int(context), int(n), int(bar)) for age, name, context, n, bar in rows] == [
        (stage.age, stage.name, stage.context_tokens, stage.min_examples, round(100 * stage.min_accuracy))
        for stage in STAGES
    ]
