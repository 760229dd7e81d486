"""Names that tools leave alone, wherever they lie. Owns the lists and how names are compared; refuses to open files.

Guarded names are not written: a program runs or obeys them without being asked (git's folder, what shells and editors
read at their start). Secret names are neither written nor read: they hold keys and passwords. Names are compared as the
most forgiving file system would take them: without case and width, without what is not seen, without the dots and
spaces that FAT drops at the end; and letters that look like Latin ones count as those.
"""

import re
import unicodedata
from collections.abc import Sequence

from tools.sanitise import HIDDEN

GUARDED = frozenset(
    {
        *(".git", ".hg", ".svn", ".gitconfig", ".gitmodules", ".gitattributes"),
        *(".bashrc", ".bash_profile", ".bash_login", ".bash_logout", ".bash_aliases", ".profile", ".inputrc"),
        *(".zshrc", ".zshenv", ".zprofile", ".zlogin", ".zlogout", ".kshrc", ".cshrc", ".tcshrc", ".login", ".logout"),
        *(".xprofile", ".xinitrc", ".xsession", ".xsessionrc", ".pam_environment", ".envrc", ".direnv"),
        *(".vimrc", ".exrc", ".nvimrc", ".emacs", ".gdbinit", ".lldbinit", ".pythonrc", ".pdbrc", ".ripgreprc"),
        *(".vim", ".emacs.d", ".tmux.conf", ".screenrc", ".curlrc", ".wgetrc", ".psqlrc", ".sqliterc", ".irbrc"),
        *(".rprofile", ".octaverc"),
        *(".vscode", ".idea", ".mcp.json", ".claude", ".cursor", ".devcontainer", ".husky", ".crontab"),
        *("sitecustomize.py", "usercustomize.py", ".ssh", "authorized_keys"),
    }
)
GUARDED_BELOW_CONFIG = frozenset({"fish", "autostart", "systemd", "environment.d", "git", "nvim", "nushell", "zsh"})
SECRET = frozenset(
    {
        *(".ssh", ".gnupg", ".aws", ".azure", ".kube", ".docker", ".password-store", "keyrings"),
        *(".env", ".netrc", ".pgpass", ".git-credentials", ".npmrc", ".pypirc", ".my.cnf", ".vault-token"),
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"),
    }
)
SECRET_BELOW_CONFIG = frozenset({"gcloud", "gh", "hub", "rclone"})
ENVIRONMENTS = (".env.", ".env-", ".env_")
NO_SECRETS = (".example", ".sample", ".template", ".dist")
SHORT_NAME = re.compile(r"git~\d+")
# Letters of the Cyrillic and Greek alphabets, and of phonetics, that are drawn like Latin ones.
LIKE_LATIN = str.maketrans("аеорсухіјѕһԁԛԝɡɩıοανκρτυιοϲƅ", "aeopcyxijshdqwgiioavkptuiocb")


def same_name(name: str) -> str:
    """A name as the most forgiving file system, and a hasty reader, would take it."""
    seen = HIDDEN.sub("", unicodedata.normalize("NFKD", name)).casefold()
    plain = "".join(each for each in unicodedata.normalize("NFKD", seen) if not unicodedata.combining(each))
    return plain.translate(LIKE_LATIN).split(":")[0].rstrip(". ")


def why_guarded(names: Sequence[str]) -> str | None:
    """Why a path may not be written, or None."""
    if reason := why_secret(names):
        return reason
    plain = [same_name(part) for name in names for part in name.split("\\")]
    for at, name in enumerate(plain):
        below = plain[at + 1] if name == ".config" and at + 1 < len(plain) else ""
        bare = name == "head" and at == len(plain) - 1  # a HEAD and two folders make a bare git, with hooks
        if bare or name in GUARDED or SHORT_NAME.fullmatch(name) or below in GUARDED_BELOW_CONFIG:
            return f"{names[-1]!r} is or lies in what other programs obey, and tools do not write that"
    if any(not each.isprintable() for name in names for each in name):
        return "its name holds characters that cannot be seen"
    return None


def why_secret(names: Sequence[str]) -> str | None:
    """Why a path may not even be read, or None."""
    plain = [same_name(name) for name in names]
    for at, name in enumerate(plain):
        below = plain[at + 1] if name == ".config" and at + 1 < len(plain) else ""
        environment = name.startswith(ENVIRONMENTS) and not name.endswith(NO_SECRETS)
        if name.rstrip("~") in SECRET or environment or below in SECRET_BELOW_CONFIG:
            return "such files hold keys or passwords, and tools leave them alone"
    return None
