"""Faults in accepting a version, in going back to one, and in giving up files."""

from tests.crash.mutant import Mutant

OF_VERSIONS = (
    Mutant(
        "the alias is moved in one transaction and the event written in another",
        "thaud/ledger/writer.py",
        """            self._note("rolled_back", before""",
        """            sql.execute("COMMIT")
            reach("ledger.move_alias.after")
            sql.execute("BEGIN IMMEDIATE")
            self._note("rolled_back", before""",
        "ledger.move_alias.after",
        "the alias is not on",
    ),
    Mutant(
        "files are removed before the ledger gives them up",
        "thaud/lifecycle.py",
        """    if going:
        ledger.give_up(going)
""",
        """    for path in list(given_up(ledger, going)):
        path.unlink()
    if going:
        ledger.give_up(going)
""",
        "ledger.give_up.before",
        "No such file",
    ),
    Mutant(
        "what the disk would not remove is not swept up",
        "thaud/sweep.py",
        "    yield from (path for path in given_up(ledger) if home.bases not in path.parents)\n",
        "    yield from ()\n",
        "prune.gguf.before",
        "given up",
        errors=True,
    ),
    Mutant(
        "whatever may go goes, the champion as well",
        "thaud/lifecycle.py",
        "        tuple(version for version, reasons in why if not reasons),\n",
        "        tuple(version for version, _ in why),\n",
        "ledger.give_up.after",
        "answers and was given up",
    ),
    Mutant(
        "a request to go back is forgotten by a daemon that has begun",
        "thaud/daemon.py",
        "            lifecycle.carry_out(self.ledger, self.settings, asked.values, log.info)\n",
        "            pass\n",
        "none",
        "was forgotten",
        60,
    ),
    Mutant(
        "a version is accepted whose certificate is of another file",
        "thaud/artefacts.py",
        """    for said in (result.gguf_sha256, result.certificate.get("gguf_sha256")):
        if said != gguf_sha256:
            raise StorageError(f"the certificate is of a file with SHA-256 {said}, the model's is {gguf_sha256}")
""",
        "",
        "none",
        "is another file's",
        60,
    ),
)
