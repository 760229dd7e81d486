"""The person's own editor on a text: $VISUAL, $EDITOR, else nano or vi. Owns the scratch file; refuses to judge."""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from thaud.errors import UsageError

FALLBACKS = ("nano", "vi")


def choose_editor(environment: Mapping[str, str]) -> list[str]:
    """The editor's command line, without the file. Raises UsageError where there is none."""
    for name in ("VISUAL", "EDITOR"):
        if named := environment.get(name, "").strip():
            try:
                return shlex.split(named)
            except ValueError as error:
                raise UsageError(f"{name}={named!r} is no command line: {error}") from error
    for fallback in FALLBACKS:
        if found := shutil.which(fallback, path=environment.get("PATH")):
            return [found]
    raise UsageError("there is no editor: set EDITOR, or write the answer behind the command")


def edit(text: str, environment: Mapping[str, str] | None = None) -> str | None:
    """The text as the person left it; None where the editor failed, or nothing was changed or left.

    The scratch file is the person's alone and is gone afterwards. Raises UsageError where no editor can be started.
    """
    environment = os.environ if environment is None else environment
    command = choose_editor(environment)
    with tempfile.TemporaryDirectory(prefix="thau-") as folder:
        path = Path(folder) / "answer.md"
        path.write_text(text + "\n", encoding="utf-8")
        try:
            done = subprocess.run([*command, str(path)], check=False, env=dict(environment))
            edited = path.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise UsageError(f"the editor {command[0]} cannot be started: {error.strerror}; set EDITOR") from error
    if done.returncode != 0 or not edited or edited == text.strip():
        return None
    return edited
