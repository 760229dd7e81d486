"""What is wrong with a home, what to do about it, and what of it can be mended without risk.

Owns the checks: each is a small function over home, settings and ledger that yields findings; nothing here changes
anything but mending.py, which needs the daemon's lock. Refuses to delete what it cannot name, to touch a user's files,
and to load a model.

    finding.py           what a check is given and what it yields
    homes.py             folders, file system, disk, daemon, base
    ledgers.py           the ledger itself
    histories.py         runs and versions against their artefacts, Ollama
    leftovers.py         files that nothing accounts for, quarantine, projections
    examination.py       all checks in order, once or twice
    mending.py           the repairs
    said.py, sentences.py, version_sentences.py  findings in Spanish and English
"""

from thaud.doctor.examination import Examined, examine
from thaud.doctor.finding import Finding, Level, OnDigest
from thaud.doctor.mending import Done, can_mend, mend
from thaud.doctor.sentences import say, title_of

__all__ = ["Done", "Examined", "Finding", "Level", "OnDigest", "can_mend", "examine", "mend", "say", "title_of"]
