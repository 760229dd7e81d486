"""The frozen values that everything else speaks in. Owns shapes and names; refuses I/O, clocks and randomness."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from json.encoder import encode_basestring
from typing import Any, Literal, get_args

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = get_args(Role)
Precision = Literal["auto", "fp32", "bf16"]  # of the frozen weights and the products in training
ModelKind = Literal["f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m"]  # types of the weights in a GGUF
ExportKind = (
    ModelKind | Literal["adapter"]
)  # what a version is: a merged model, or a LoRA on a base that versions share
Strategy = Literal["fresh", "continue"]  # a new adapter, or the champion's trained on


class GraderName(StrEnum):
    """How an answer is compared with the expected one (see grading.py)."""

    EXACT = "exact"
    YES_NO = "yes_no"
    NUMBER = "number"
    CHOICE = "choice"
    CONTAINS = "contains"
    F1 = "f1"
    TOOL_CALL = "tool_call"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool: a name and its arguments, a JSON object."""

    name: str
    arguments: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The OpenAI shape with `arguments` as an object, as chat templates and Ollama want it."""
        return {"type": "function", "function": {"name": self.name, "arguments": dict(self.arguments)}}


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation. `tool_calls` only on assistant turns; `tool_name` only on tool turns.

    `thinking`: what the assistant said to itself before; for templates that keep it, never part of an example.
    """

    role: Role
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_name: str | None = None
    thinking: str = ""

    def to_json(self) -> dict[str, Any]:
        """The canonical JSON object: empty fields are left out, thinking always."""
        row: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.tool_calls:
            row["tool_calls"] = [call.to_json() for call in self.tool_calls]
        if self.tool_name is not None:
            row["name"] = self.tool_name
        return row

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Message":
        """Read back what `to_json` wrote (trusted input: the ledger and step files)."""
        calls = tuple(
            ToolCall(call["function"]["name"], call["function"]["arguments"]) for call in row.get("tool_calls", ())
        )
        return cls(row["role"], row["content"], calls, row.get("name"))


@dataclass(frozen=True, slots=True)
class Example:
    """A canonical training example: a conversation that ends in the assistant turn to be learned.

    `age` is the age its own fields name, or None; `group` ties paraphrases of one fact together.
    """

    messages: tuple[Message, ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    age: int | None = None
    group: str | None = None
    grader: GraderName | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, Any]:
        """What is learned, and nothing else: messages, and tools where there are any."""
        content: dict[str, Any] = {"messages": [message.to_json() for message in self.messages]}
        if self.tools:
            content["tools"] = [dict(tool) for tool in self.tools]
        return content

    @property
    def text(self) -> str:
        """The canonical JSON text of the content; written directly where turns are texts alone, for speed."""
        if self.tools:
            return canonical_json(self.content)
        turns = []
        for turn in self.messages:
            if turn.tool_calls or turn.tool_name is not None:
                return canonical_json(self.content)
            turns.append(f'{{"content":{encode_basestring(turn.content)},"role":"{turn.role}"}}')
        return f'{{"messages":[{",".join(turns)}]}}'

    @property
    def id(self) -> str:
        """Hex SHA-256 of the canonical content: the same content is the same example, wherever it came from."""
        return content_id(self.text)

    @property
    def prompt(self) -> tuple[Message, ...]:
        """All turns but the last."""
        return self.messages[:-1]

    @property
    def completion(self) -> Message:
        """The last turn, the assistant's: what an exam expects."""
        return self.messages[-1]


def content_id(text: str) -> str:
    """Hex SHA-256 of a canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()


def canonical_json(value: Any) -> str:
    """JSON with sorted keys, no spaces and readable Unicode: equal values give equal text."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class Rejection:
    """A line that is no example: why, and the raw text so that nothing is lost."""

    reason: str
    raw: str


@dataclass(frozen=True, slots=True)
class Stage:
    """One cognitive age of the curriculum, with what it takes to leave it."""

    age: int
    name: str
    context_tokens: int
    min_examples: int
    min_accuracy: float


class Side(StrEnum):
    """Which side of the split an example is on, decided once at intake."""

    TAUGHT = "taught"
    HELD_OUT = "held_out"


@dataclass(frozen=True, slots=True)
class QueuedExample:
    """An example as the ledger holds it: with its age, its side, and where it came from."""

    example: Example
    id: str
    age: int
    side: Side
    file: str
    line: int


class RunState(StrEnum):
    """States of a run, in order; the last two may follow any."""

    FROZEN = "frozen"
    TRAINED = "trained"
    EXPORTED = "exported"
    EXAMINED = "examined"
    ACCEPTED = "accepted"
    PROMOTED = "promoted"
    REJECTED = "rejected"
    FAILED = "failed"


FINAL_STATES = frozenset({RunState.PROMOTED, RunState.REJECTED, RunState.FAILED})


class Trigger(StrEnum):
    """Why a run was started."""

    EXAMPLES = "examples"
    INTERVAL = "interval"
    REQUESTED = "requested"


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A frozen run: everything that decides its outcome. `example_ids` are in training order.

    `parent` is the version whose adapter, with its digest, is trained on, None where the adapter is a new one;
    `replayed` says how many of the examples its lineage knows already. `strategy_reason`: why, with the figures.
    """

    id: str
    family: str
    size: str
    base: str
    base_digest: str
    age: int
    context_tokens: int
    seed: int
    trigger: Trigger
    example_ids: tuple[str, ...]
    exam_ids: tuple[str, ...]
    recall_ids: tuple[str, ...]
    champion: int | None
    learning_rate: float
    epochs: int
    rank: int
    alpha: int
    batch_examples: int
    export_kind: ExportKind
    strategy: Strategy = "fresh"
    strategy_reason: str = ""
    parent: int | None = None
    parent_sha256: str | None = None
    replayed: int = 0
    precision: Precision = "auto"
    held_back_share: float = 0.0
    patience: int = 0
    base_kind: ModelKind = "f16"


@dataclass(frozen=True, slots=True)
class Answer:
    """One graded exam answer. `score` is 1.0 or 0.0 except for graders with partial credit."""

    example_id: str
    age: int
    answer: str
    score: float
    correct: bool


@dataclass(frozen=True, slots=True)
class Score:
    """Right answers of n, with the 95% Wilson score interval of the proportion (Wilson 1927)."""

    n: int
    right: int

    @property
    def accuracy(self) -> float:
        """Share of right answers; 0.0 where nothing was asked."""
        return self.right / self.n if self.n else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% Wilson score interval, (0.0, 1.0) where nothing was asked."""
        if not self.n:
            return (0.0, 1.0)
        z = 1.959963984540054
        share, denominator = self.accuracy, 1 + z * z / self.n
        centre = share + z * z / (2 * self.n)
        spread = z * ((share * (1 - share) + z * z / (4 * self.n)) / self.n) ** 0.5
        low = (centre - spread) / denominator if self.right else 0.0
        high = (centre + spread) / denominator if self.right < self.n else 1.0
        return (low, high)

    def to_json(self) -> dict[str, Any]:
        """n, right, accuracy and the interval, for reports."""
        low, high = self.interval
        return {"n": self.n, "right": self.right, "accuracy": self.accuracy, "interval": [low, high]}


def percent(share: float) -> str:
    """A share as people write it, `82%`; `100%` is said of all and nothing less."""
    return "99%" if 0.99 < share < 1 else f"{share:.0%}"


def score_answers(answers: Sequence[Answer]) -> Score:
    """Count the right ones."""
    return Score(len(answers), sum(answer.correct for answer in answers))


@dataclass(frozen=True, slots=True)
class ExamReport:
    """What one GGUF answered: by held-out age, and on a sample of what it was taught."""

    digest: str
    age: int
    held_out: tuple[Answer, ...]
    recall: tuple[Answer, ...] = ()

    def at(self, age: int) -> Score:
        """Score on the held-out examples of one age."""
        return score_answers([answer for answer in self.held_out if answer.age == age])

    @property
    def accuracy(self) -> Score:
        """Score on the held-out examples of the run's own age."""
        return self.at(self.age)

    @property
    def retention(self) -> dict[int, Score]:
        """Scores on the held-out examples of the earlier ages."""
        return {age: self.at(age) for age in sorted({a.age for a in self.held_out}) if age < self.age}

    def to_json(self) -> dict[str, Any]:
        """The report for people and for the ledger."""
        return {
            "gguf_sha256": self.digest,
            "age": self.age,
            "accuracy": self.accuracy.to_json(),
            "retention": {str(age): score.to_json() for age, score in self.retention.items()},
            "recall": score_answers(self.recall).to_json(),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's word on a challenger. `reasons` are sentences; never empty."""

    accepted: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Version:
    """An accepted, immutable model: number N of its family.

    `kind` "adapter": `gguf` is a LoRA on `base_gguf`, a file that versions share. `pruned_at`: since when its file is
    given up for the room (ISO 8601, UTC), None where it is kept.
    """

    family: str
    n: int
    run_id: str
    age: int
    gguf: str
    gguf_sha256: str
    size_bytes: int
    accuracy: Score
    examples: int
    accepted_at: str
    kind: ExportKind = "f16"
    base_gguf: str | None = None
    base_sha256: str | None = None
    pruned_at: str | None = None

    @property
    def name(self) -> str:
        """The name it is served under: `thau-1.5b-v3`."""
        return f"{self.family}-v{self.n}"
