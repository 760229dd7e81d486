"""Where everything of one THAU lives. Owns the names of files and folders; refuses to read or write their contents."""

from dataclasses import dataclass
from pathlib import Path

from thaud.errors import HomeError

CONFIG_NAME = "thau.toml"


@dataclass(frozen=True, slots=True)
class Home:
    """One THAU home: `thau.toml` and a `data` folder."""

    root: Path

    @property
    def config(self) -> Path:
        """The configuration; a folder is a home because it has one."""
        return self.root / CONFIG_NAME

    @property
    def data(self) -> Path:
        """All run-time state."""
        return self.root / "data"

    @property
    def queue(self) -> Path:
        """The drop-box."""
        return self.data / "training_queue"

    @property
    def trained(self) -> Path:
        """Files of the drop-box whose examples are all trained."""
        return self.data / "trained"

    @property
    def rejected(self) -> Path:
        """Quarantined lines with their reasons."""
        return self.data / "rejected"

    @property
    def control(self) -> Path:
        """Requests to the daemon, one JSON file each."""
        return self.data / "control"

    @property
    def logs(self) -> Path:
        """The service log and the projections that the guide names."""
        return self.data / "logs"

    @property
    def service_log(self) -> Path:
        """structlog's JSON lines, rotated."""
        return self.logs / "thau_service.log"

    @property
    def progress(self) -> Path:
        """The projection that the guide lets people delete to start again at age 0."""
        return self.logs / "cognitive_progress.json"

    @property
    def trained_examples(self) -> Path:
        """One line for each example that a promoted version was taught."""
        return self.logs / "trained_examples.jsonl"

    @property
    def ledger(self) -> Path:
        """The SQLite ledger."""
        return self.data / "ledger.sqlite3"

    @property
    def lock(self) -> Path:
        """Held with flock by the one daemon."""
        return self.data / "daemon.lock"

    @property
    def state(self) -> Path:
        """What the daemon says of itself while it lives, allocated at its start."""
        return self.data / "daemon.json"

    @property
    def runs(self) -> Path:
        """A folder for each run: specs, results, adapter, metrics, answers."""
        return self.data / "runs"

    @property
    def cache(self) -> Path:
        """Tokens of examples, shared by runs. May be deleted: it is made again."""
        return self.data / "cache"

    @property
    def versions(self) -> Path:
        """A folder for each accepted version, with its GGUF."""
        return self.data / "versions"

    @property
    def bases(self) -> Path:
        """GGUFs of bases without an adapter, which versions of kind "adapter" share."""
        return self.data / "bases"

    @property
    def orphans(self) -> Path:
        """What `thau doctor --fix` set aside because nothing owned it."""
        return self.data / "orphans"

    @property
    def transcripts(self) -> Path:
        """The agent's conversations."""
        return self.data / "transcripts"

    @property
    def typed(self) -> Path:
        """What was typed into `thau chat`, for its line editor; its owner's alone."""
        return self.data / "chat_history"

    @property
    def proposed(self) -> Path:
        """Examples that conversations proposed, one JSON file each, until `thau review` decides."""
        return self.data / "proposed"

    @property
    def recall(self) -> Path:
        """The full-text index of examples and conversations; made again from them where it is missing."""
        return self.data / "recall.sqlite3"

    @property
    def workspace(self) -> Path:
        """Where the agent's file tools may look when no other folder is named."""
        return self.data / "workspace"

    def folders(self) -> tuple[Path, ...]:
        """Every folder that `init` makes."""
        return (self.queue, self.trained, self.rejected, self.control, self.logs, self.runs, self.versions)


def locate(start: Path, named: Path | None) -> Home:
    """The named home, else the nearest folder at or above `start` that has a thau.toml.

    Raises HomeError where there is none.
    """
    if named is not None:
        home = Home(named.expanduser().absolute())
        if not home.config.is_file():
            raise HomeError(f"{home.root} is no THAU home (no {CONFIG_NAME}): run `thau --home {home.root} init` first")
        return home
    for folder in (start, *start.parents):
        if (folder / CONFIG_NAME).is_file():
            return Home(folder)
    raise HomeError(
        f"no {CONFIG_NAME} in {start} or above: run `thau init` here, or name a home with --home or THAU_HOME"
    )
