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
talk.py       ask, chat
"""

import sys

from thaud.cli.app import make_app
from thaud.cli.door import run

__all__ = ["daemon_main", "main", "make_app", "run"]


def main() -> None:
    """The console script `thau`."""
    sys.exit(run(make_app(), sys.argv[1:], "thau"))


def daemon_main() -> None:
    """The console script `thaud`: `thau ... start`, for service managers."""
    sys.exit(run(make_app(), [*sys.argv[1:], "start"], "thaud"))
