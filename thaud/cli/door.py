"""The door of every command: which home, which settings, which language; errors become one line and an exit code."""

import json
import os
import re
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from thaud.config import Settings, explain, failpoints_setting, home_from_environment, load_settings, preferred_language
from thaud.curriculum import STAGES
from thaud.errors import ConfigError, StorageError, ThauError, UnknownSizeError
from thaud.failpoints import FAILPOINTS
from thaud.home import CONFIG_NAME, Home, locate
from thaud.ledger import LedgerReader
from thaud.sizes import find_size
from thaud.words import LANGUAGES, Words

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of words.")]
INVISIBLE = re.compile("[\x80-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
TRANSLATED = (ThauError, OSError, sqlite3.Error, ValidationError)


@dataclass
class Door:
    """What a command needs of the world, looked up when it asks. `named` is --home, before THAU_HOME."""

    named: Path | None

    @property
    def chosen(self) -> Path | None:
        """The home that the command line or the environment names."""
        return self.named or home_from_environment()

    @cached_property
    def home(self) -> Home:
        """The home. Raises HomeError where there is none."""
        return locate(Path.cwd(), self.chosen)

    @cached_property
    def settings(self) -> Settings:
        """The home's settings. Raises ConfigError."""
        settings = load_settings(self.home)
        check_choices(settings)
        return settings

    @cached_property
    def words(self) -> Words:
        """The words of the user's language."""
        return LANGUAGES[preferred_language(self.settings.language)]

    @cached_property
    def console(self) -> Console:
        """Standard output: broken between words on a terminal, never where a pipe or a grep reads it."""
        return Console(highlight=False, soft_wrap=not sys.stdout.isatty())

    def ledger(self) -> LedgerReader:
        """The ledger, read-only. Raises HomeError where there is none."""
        return LedgerReader.open(self.home.ledger)

    def say(self, text: str, style: str = "") -> None:
        """A line for people; brackets in it are just brackets, and what drives terminals is not let through."""
        self.console.print(Text(printable(text), style=style))

    def hand_out(self, value: Any) -> None:
        """JSON for programs; what drives terminals is escaped in it, for a person may look."""
        text = json.dumps(value, ensure_ascii=False, indent=2)
        sys.stdout.write(INVISIBLE.sub(lambda found: json.dumps(found[0])[1:-1], text) + "\n")


def printable(text: str) -> str:
    """One line without control characters, whatever a file's name or its contents hold."""
    return "".join(char if char.isprintable() else " " for char in text)


def check_choices(settings: Settings) -> None:
    """Refuse names that nothing has: a size, a stage's age. Raises ConfigError with those that there are."""
    try:
        find_size(settings.size)
    except UnknownSizeError as error:
        raise ConfigError(f"{CONFIG_NAME} or the environment: {error}") from error
    ages = [stage.age for stage in STAGES]
    if unknown := sorted(settings.stages.keys() - set(ages)):
        listed = ", ".join(map(str, ages))
        raise ConfigError(f"{CONFIG_NAME} or the environment: stages.{unknown[0]}: the stages are {listed}")


def door_of(ctx: typer.Context) -> Door:
    """The door that the callback of the command line made."""
    door: Door = ctx.obj
    return door


def run(app: Callable[..., Any], argv: Sequence[str], name: str) -> int:
    """Run the command line; returns the exit code. What THAU or the system refuses is one line on standard error."""
    open_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        FAILPOINTS.arm(failpoints_setting())
        app(args=list(argv), prog_name=name)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except TRANSLATED as error:
        refusal = translate(error)
        sys.stderr.write(f"error: {printable(str(refusal))}\n")
        return refusal.exit_code
    return 0


def open_streams() -> None:
    """Where we were started with a standard stream closed, let it be the null device: Python has None there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115 - as long as we are


def as_typed(text: str) -> str:
    """An argument as text: its bytes are UTF-8 whatever the locale is, and what is none is replaced."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def translate(error: Exception) -> ThauError:
    """A foreign error that can reach the door as one of ours."""
    if isinstance(error, ThauError):
        return error
    if isinstance(error, ValidationError):
        return ThauError(f"a file of this home does not have the expected form: {explain(error)}")
    if isinstance(error, OSError):
        where = f" {error.filename}" if error.filename else ""
        return StorageError(
            f"the system refused{where}: {error.strerror or error}; check its owner, mode and free space"
        )
    return StorageError(f"the ledger cannot be read: {error}; `thau doctor` says what is damaged and what to do")
