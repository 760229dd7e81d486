"""The command line: `thau` (everything) and `thaud` (the daemon). Wiring, and words for people; no decisions.

door.py       the home, the settings and the language of a command; errors in one line
app.py        every command with the module that it is in
setup.py      init;  toml_edit.py changes thau.toml and keeps the rest of its text
feed.py       add, import-data, rejected;  importing.py judges and copies whole files
mend.py       retry, doctor;  correcting.py judges corrected lines, mend_words.py is what both say
look.py       status, versions, logs, version;  status_view.py is what `thau status` prints, logfile.py reads the log;
              pause_words.py is what status says of pauses
work.py       start, train, watch, reset
handing_out.py  export;  copying.py copies the files, model_card.py writes the card, card_words.py is what it says
lineage.py    lineage;  lineage_words.py is what it says
talk.py       ask, chat;  shelf.py is which versions may be talked to, agent_kit.py what they may use,
              piped.py what comes with a question
completing.py  completion;  shells.py writes what bash, zsh and fish read
"""

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from thaud.cli.app import make_app
    from thaud.cli.door import run

__all__ = ["daemon_main", "main", "make_app", "run"]

INTERRUPTED = 130


def __getattr__(name: str) -> Any:
    """`make_app` and `run`, loaded when they are asked for."""
    if name == "make_app":
        return import_module("thaud.cli.app").make_app
    if name == "run":
        return import_module("thaud.cli.door").run
    raise AttributeError(name)


def main() -> None:
    """The console script `thau`."""
    sys.exit(done(sys.argv[1:], "thau"))


def daemon_main() -> None:
    """The console script `thaud`: `thau ... start`, for service managers."""
    sys.exit(done([*sys.argv[1:], "start"], "thaud"))


def done(words: Sequence[str], name: str) -> int:
    """Do what a command line says; Ctrl-C is no error, even where it comes while a command is still being loaded."""
    try:
        from thaud.cli.app import make_app  # noqa: PLC0415 - Ctrl-C may come meanwhile
        from thaud.cli.door import run  # noqa: PLC0415

        return run(make_app(words), words, name)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # at the end, where a thread may be waited for, it just ends us
