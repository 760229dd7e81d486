"""thau.toml and the environment -> Settings, read once at the door. The only reader of os.environ, but for a
step's door (steps/contract.py), which is not to load all of this, and for what programs that the agent starts inherit.

Every field can be set in thau.toml, or in the environment as THAU_SECTION__FIELD (THAU_TRAINING__MIN_NEW_EXAMPLES=10).
The names that the guide and Ollama promise, AUTO_TRAIN_ENABLED and OLLAMA_HOST, are read too.
"""

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from thaud.domain import ExportKind, ModelKind, Precision
from thaud.errors import ConfigError
from thaud.failpoints import SETTING as FAILPOINTS
from thaud.home import CONFIG_NAME, Home

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of the sections: unknown fields are errors, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Queue(Section):
    """The drop-box."""

    quiet_s: Annotated[float, Field(ge=0)] = 5.0
    settle_s: Annotated[float, Field(ge=0)] = 2.0
    rescan_s: Annotated[float, Field(gt=0)] = 60.0
    watch: Literal["auto", "events", "poll"] = "auto"
    poll_s: Annotated[float, Field(gt=0)] = 2.0
    max_line_bytes: Positive = 1 << 20
    max_file_bytes: Positive = 2 << 30
    max_depth: Positive = 64
    batch_bytes: Positive = 4 << 20
    max_ratio: Positive = 200


class Training(Section):
    """When and how to train. None means the size's own default (sizes.py)."""

    auto_train_enabled: bool = True
    auto_train_interval_hours: Annotated[float, Field(gt=0)] = 24.0
    min_new_examples: Positive = 32
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    epochs: Positive | None = None
    rank: Positive = 32
    alpha: Positive = 64
    batch_examples: Positive = 16
    seed: int = 0
    threads: Annotated[int, Field(ge=0)] = 0
    strategy: Literal["auto", "fresh", "continue"] = "auto"
    budget_minutes: Annotated[float, Field(gt=0)] = 480.0
    rebase_every: Positive = 5
    replay_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    precision: Precision = "auto"
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 10.0
    max_memory_gib: Annotated[float, Field(ge=0)] = 0.0
    held_back_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    patience: Annotated[int, Field(ge=0, validate_default=True)] = 0

    @field_validator("patience")
    @classmethod
    def comes_with_what_it_waits_for(cls, patience: int, others: ValidationInfo) -> int:
        """Early stop takes both: examples that are held back, and how long to wait for a better loss on them."""
        share = others.data.get("held_back_share", 0.0)
        if (share > 0) != (patience > 0):
            raise ValueError(
                f"training.held_back_share is {share:g}: early stopping takes both (say 0.05 and 2), and none without"
            )
        return patience


class Exam(Section):
    """The held-out split and the exam."""

    held_out_share: Share = 0.2
    min_items: Positive = 20
    max_items: Positive = 200
    max_new_tokens: Positive = 64
    recall_items: Positive = 50


class Gate(Section):
    """How sure a loss against the champion must be before it refuses a challenger."""

    alpha: Share = 0.05


class Export(Section):
    """What is written."""

    kind: ExportKind = "f16"
    base_kind: ModelKind = "f16"
    keep_versions: Positive = 3


class Serving(Section):
    """Who answers `thau ask` and `thau chat`, and the Ollama server that versions are registered with."""

    backend: Literal["embedded", "ollama"] = "embedded"
    ollama_host: str = "http://127.0.0.1:11434"
    ollama_enabled: bool = True
    retry_s: Annotated[float, Field(gt=0)] = 60.0
    namespace: Annotated[str, Field(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_-]{0,79})?$")] = ""


class Api(Section):
    """The HTTP door."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000


class Agent(Section):
    """The agent: its loop, its tools, and what they may do.

    approvals: `tool` or `tool(pattern)` -> allow, ask or deny; see docs/agent.md for what a pattern meets.
    search: the ways to search the web, in the order they are tried.
    """

    max_steps: Positive = 8
    max_new_tokens: Positive = 512
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    think: bool = False
    approvals: dict[str, Literal["allow", "ask", "deny"]] = {}
    search: list[Literal["searxng", "ddgs", "wikipedia"]] = ["ddgs", "wikipedia"]
    searxng_url: str = ""
    sandbox: Literal["auto", "bubblewrap", "landlock"] = "auto"
    run_wall_s: Annotated[float, Field(gt=0)] = 60.0
    run_memory_mib: Positive = 1024
    run_processes: Positive = 64
    run_disk_mib: Positive = 256


class McpServer(Section):
    """One MCP server: a `command` that speaks over its standard streams, or the `url` of one on HTTP.

    env: what the command gets besides the allow-listed environment. allow_private: addresses that are not public.
    """

    command: list[str] = []
    env: dict[str, str] = {}
    url: str = ""
    headers: dict[str, str] = {}
    allow_private: bool = False
    start_s: Annotated[float, Field(gt=0)] = 20.0
    call_s: Annotated[float, Field(gt=0)] = 60.0
    enabled: bool = True

    @model_validator(mode="after")
    def has_one_door(self) -> Self:
        """A server is reached in one way."""
        if bool(self.command) == bool(self.url):
            raise ValueError('name either command = ["program", "argument"] or url = "https://..."')
        return self


class StageOverride(Section):
    """`[stages.3] min_examples = 300`."""

    context_tokens: Positive | None = None
    min_examples: Positive | None = None
    min_accuracy: Share | None = None
    learning_rate: Annotated[float, Field(gt=0)] | None = None
    epochs: Positive | None = None
    rank: Positive | None = None
    alpha: Positive | None = None
    batch_examples: Positive | None = None


class Settings(BaseSettings):
    """All of a home's configuration. `base` overrides what the size stands for: a folder or a hub id."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix="THAU_", env_nested_delimiter="__")

    size: str = "nano"
    base: str | None = None
    language: Literal["auto", "es", "en"] = "auto"
    queue: Queue = Queue()
    training: Training = Training()
    exam: Exam = Exam()
    gate: Gate = Gate()
    export: Export = Export()
    serving: Serving = Serving()
    api: Api = Api()
    agent: Agent = Agent()
    mcp: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")], McpServer] = {}
    stages: dict[int, StageOverride] = {}

    @property
    def family(self) -> str:
        """Name of the line of versions and of the alias: `thau-1.5b`."""
        return f"thau-{self.size}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over thau.toml, which arrives as init arguments."""
        return (env_settings, init_settings)


def home_from_environment() -> Path | None:
    """THAU_HOME, where it is set."""
    named = os.environ.get("THAU_HOME")
    return Path(named) if named else None


def systemd_environment() -> tuple[str | None, float | None]:
    """(address of systemd's notify socket, seconds between two signs of life), None where systemd is not there."""
    watchdog_us = os.environ.get("WATCHDOG_USEC")
    return os.environ.get("NOTIFY_SOCKET"), int(watchdog_us) / 2e6 if watchdog_us else None


def failpoints_setting() -> str:
    """What failpoints.py is to arm: empty, but in tests."""
    return os.environ.get(FAILPOINTS, "")


def preferred_language(setting: Literal["auto", "es", "en"]) -> Literal["es", "en"]:
    """Spanish under a Spanish locale (LC_ALL, LC_MESSAGES, LANG in POSIX's order), English otherwise."""
    if setting != "auto":
        return setting
    locale = next((value for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (value := os.environ.get(name))), "")
    return "es" if locale.lower().startswith("es") else "en"


def promised_environment() -> dict[str, Any]:
    """The variables whose names others promised, as overrides."""
    overrides: dict[str, Any] = {}
    if (enabled := os.environ.get("AUTO_TRAIN_ENABLED")) is not None:
        overrides["training"] = {"auto_train_enabled": enabled}
    if host := os.environ.get("OLLAMA_HOST"):
        overrides["serving"] = {"ollama_host": host}
    return overrides


def load_settings(home: Home) -> Settings:
    """Read a home's settings. Raises ConfigError naming the field, its value and what it may be."""
    try:
        table = tomllib.loads(home.config.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{home.config} is not valid TOML: {error}") from error
    except OSError as error:
        raise ConfigError(f"cannot read {home.config}: {error.strerror}") from error
    for section, fields in promised_environment().items():
        table[section] = {**table.get(section, {}), **fields}
    try:
        return Settings(**table)
    except ValidationError as error:
        raise ConfigError(f"{CONFIG_NAME} or the environment: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """The first complaint of a validation, in one line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{where}: there is no such setting"
    return f"{where} = {first.get('input')!r}: {first['msg'].lower()}"


def initial_toml(size: str, base: str | None) -> str:
    """What `thau init` writes: the two choices made, and the way to the rest."""
    lines = [
        "# THAU's configuration; every field and its default: README.md, 'Configuration'.",
        f'size = "{size}"',
        *([f'base = "{base}"'] if base else []),
        "",
        "[training]",
        "# auto_train_interval_hours = 24",
        "# min_new_examples = 32",
        "",
        "# [stages.3]",
        "# min_examples = 300",
        "# min_accuracy = 0.75",
        "",
    ]
    return "\n".join(lines)
