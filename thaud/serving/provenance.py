"""Whose a model on a server is, and what it was made from: the names THAU gives there, and the text that it leaves.

The text stands in the licence layer of a model, which every copy keeps. It names the file that was sent, because newer
servers rewrite it and its digest says nothing any more, a digest of the settings, and the home that made it. Owns names
and text; refuses to ask a server.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from thaud.domain import canonical_json

CANDIDATE_TAG = "candidate"
OURS = re.compile(r"^THAU file sha256:[0-9a-f]{64} settings ([0-9a-f]{16})", re.MULTILINE)
HOME = re.compile(r"^THAU home ([A-Za-z0-9_-]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class House:
    """Who serves: a home's id (ledger.home_id()), its names' namespace, and whether it takes what others made.

    A house without an id leaves none in what it makes, and takes every model of THAU's for its own.
    """

    id: str = ""
    namespace: str = ""
    take_over: bool = False

    def name(self, bare: str) -> str:
        """A version or a family as the server is to call it: `NAMESPACE/thau-1.5b-v3`."""
        return served_name(self.namespace, bare)

    def candidate(self, bare: str) -> str:
        """The name under which a version is tried; no two homes have the same."""
        tag = f"{self.id}-{CANDIDATE_TAG}" if self.id else CANDIDATE_TAG
        return f"{self.name(bare)}:{tag}"

    def candidates(self, bare: str) -> tuple[str, str]:
        """All names under which this home may have left one; the second is an earlier release's."""
        return self.candidate(bare), f"{self.name(bare)}:{CANDIDATE_TAG}"

    def owner_of(self, license_text: str) -> str | None:
        """The other home that made a model with this licence text; None where this one may do with it as it likes.

        A model without our text is nobody's: it stands under our name and is drift. One without a home's id was made by
        an earlier release.
        """
        found = HOME.search(license_text) if OURS.search(license_text) else None
        return None if found is None or self.take_over or found[1] == self.id or not self.id else found[1]

    def made(self, license_text: str) -> bool:
        """Whether this home made a model, as far as its text says; what was taken over counts once it is made anew."""
        found = HOME.search(license_text)
        return bool(OURS.search(license_text)) and (found is None or found[1] == self.id)


def served_name(namespace: str, bare: str) -> str:
    """A version's or a family's name on a server; `namespace` is `serving.namespace`, empty for none."""
    return f"{namespace}/{bare}" if namespace else bare


def stamp(bare: str, digest: str, settings: Mapping[str, Any], house: House) -> str:
    """The licence text of a model: `digest` is `sha256:...` of a version's file, `settings` all else it is made of."""
    home = f"\nTHAU home {house.id}" if house.id else ""
    return (
        f"{bare}, trained by THAU on this machine. Its base model's licence applies.\n"
        f"{made_from(digest, settings)}{home}"
    )


def made_from(digest: str, settings: Mapping[str, Any]) -> str:
    """The line of a stamp that says what a model was made from."""
    return f"THAU file {digest} settings {hashlib.sha256(canonical_json(settings).encode()).hexdigest()[:16]}"
