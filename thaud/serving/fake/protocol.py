"""What an Ollama server answers with: a refusal, and a model's name as it reads one."""

import re
from dataclasses import dataclass
from typing import Any

REGISTRY, LIBRARY = "registry.ollama.ai", "library"
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
DIGEST = re.compile(r"sha256[:-][0-9a-fA-F]{64}")


class Refusal(Exception):  # noqa: N818 - the server refuses; nothing in THAU went wrong
    """An error answer: a status and the `error` of its JSON body. `None` as the error means an empty body."""

    def __init__(self, status: int, error: Any) -> None:
        super().__init__(error)
        self.status, self.error = status, error


class BrokenConnection(Exception):  # noqa: N818 - see Refusal
    """The server dies here: the connection is closed in the middle of what was being said."""


@dataclass(frozen=True, slots=True)
class Name:
    """A model's name. Two names that differ only in case are the same model."""

    host: str
    namespace: str
    model: str
    tag: str

    @property
    def shown(self) -> str:
        """As the server lists it: defaults left out, the tag always there."""
        host = "" if self.host == REGISTRY else f"{self.host}/"
        namespace = "" if self.namespace == LIBRARY and not host else f"{self.namespace}/"
        return f"{host}{namespace}{self.model}:{self.tag}"

    @property
    def full(self) -> str:
        """With host and namespace spelled out."""
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def key(self) -> str:
        """What it is looked up by."""
        return self.full.lower()


def parse_name(text: Any) -> Name | None:
    """Read `[host[:port]/][namespace/]model[:tag]`; None where it is no name."""
    if not isinstance(text, str):
        return None
    path, colon, tag = text.rpartition(":") if ":" in text.rpartition("/")[2] else (text, "", "")
    parts = path.split("/")
    if len(parts) > 3 or (colon and not tag):
        return None
    host, namespace, model = ([REGISTRY, LIBRARY][: 3 - len(parts)] + parts)[-3:]
    good = HOST.fullmatch(host) and NAMESPACE.fullmatch(namespace) and PART.fullmatch(model)
    return Name(host, namespace, model, tag or "latest") if good and PART.fullmatch(tag or "latest") else None


def required_name(body: dict[str, Any]) -> Name:
    """The model a request is about. Raises Refusal."""
    text = body.get("model") or body.get("name")
    if not text:
        raise Refusal(400, "model is required")
    name = parse_name(text)
    if name is None:
        raise Refusal(400, "invalid model name")
    return name
