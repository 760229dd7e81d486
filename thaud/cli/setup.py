"""`thau init`: a home, or another size for the one there is."""

import re
from pathlib import Path
from typing import Annotated

import typer

from thaud.cli.door import Door, door_of
from thaud.cli.toml_edit import change
from thaud.config import Settings, initial_toml, load_settings
from thaud.control import daemon_runs, only_daemon, refuse_lost_ledger
from thaud.durable import write_durably
from thaud.errors import BaseUnavailableError, StorageError
from thaud.home import Home
from thaud.ledger import Ledger, LedgerReader
from thaud.mounts import refuse_network
from thaud.sizes import SIZES, find_size

HUB_ID = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")


def init(
    ctx: typer.Context,
    size: Annotated[str | None, typer.Option(help=f"Model size: {', '.join(SIZES)}. New homes: nano.")] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model instead of the size's own: a folder or a hub id.")
    ] = None,
) -> None:
    """Make a THAU home here (or in --home), or change the size of the one there is."""
    door = door_of(ctx)
    home = Home((door.chosen or Path.cwd()).expanduser().absolute())
    if size is not None:
        find_size(size)
    named_base = None if base is None else check_base(base)
    if home.config.exists():
        change_home(door, home, size, named_base)
    else:
        make_home(door, home, size or "nano", named_base)


def check_base(base: str) -> str:
    """A base that can be written into thau.toml: an absolute folder or a hub id. Raises BaseUnavailableError."""
    folder = Path(base).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise BaseUnavailableError(
                f"{folder} holds no model (no config.json): name a folder in Hugging Face's layout"
            )
        return str(folder.absolute())
    if HUB_ID.fullmatch(base):
        return base
    raise BaseUnavailableError(f"no folder {folder}, and {base!r} is no hub id: name a model folder or OWNER/MODEL")


def make_home(door: Door, home: Home, size: str, base: str | None) -> None:
    """A new home. thau.toml is written last: a folder is a home because it has one."""
    refuse_network(home.data)
    make_folders(home)
    if not daemon_runs(home):
        make_ledger(home)
    write_config(home, initial_toml(size, base))
    settings = load_settings(home)
    door.home = home
    door.say(door.words.made_home.format(root=home.root, family=settings.family))
    say_next(door, home, settings)
    door.say(door.words.next_steps.format(queue=home.queue))


def change_home(door: Door, home: Home, size: str | None, base: str | None) -> None:
    """Another size or base for a home; folders and ledger that are missing are made."""
    before = load_settings(home)
    values: dict[str, str | None] = {}
    if size not in {None, before.size}:
        values["size"] = size
    if base not in {None, before.base}:
        values["base"] = base
    elif base is None and "size" in values and before.base is not None:
        values["base"] = None
    refuse_network(home.data)
    make_folders(home)
    runs = daemon_runs(home)
    if not runs:
        make_ledger(home)
    if values:
        write_config(home, change(read_config(home), values))
    door.home = home
    say_change(door, before, values, runs=runs)


def say_change(door: Door, before: Settings, values: dict[str, str | None], *, runs: bool) -> None:
    """What changed, and what will come of it."""
    words, settings = door.words, door.settings
    if not values:
        door.say(words.home_kept.format(root=door.home.root, family=settings.family))
        return
    if "size" in values:
        door.say(words.size_changed.format(before=before.size, after=settings.size))
    if values.get("base"):
        door.say(words.base_changed.format(base=values["base"]))
    if values.get("base", "") is None:
        door.say(words.base_kept_out.format(before=before.size, base=before.base))
    if runs:
        door.say(words.restart_needed)
    say_next(door, door.home, settings)


def say_next(door: Door, home: Home, settings: Settings) -> None:
    """The name that the next accepted model will have."""
    made = 0
    if home.ledger.exists():
        with LedgerReader.open(home.ledger) as ledger:
            made = max((version.n for version in ledger.versions(settings.family)), default=0)
    door.say(door.words.next_version.format(family=settings.family, n=made + 1))


def make_folders(home: Home) -> None:
    """Every folder of a home. Raises StorageError where the system refuses."""
    for folder in home.folders():
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make {folder}: {error.strerror}; check its owner and mode") from error


def make_ledger(home: Home) -> None:
    """The ledger, made or brought up to date, while no daemon runs."""
    with only_daemon(home):
        refuse_lost_ledger(home)
        Ledger.open(home.ledger).close()


def read_config(home: Home) -> str:
    """thau.toml's text."""
    try:
        return home.config.read_text(encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot read {home.config}: {error.strerror}") from error


def write_config(home: Home, text: str) -> None:
    """thau.toml, whole or not at all."""
    try:
        write_durably(home.config, text.encode(), "config")
    except OSError as error:
        raise StorageError(f"cannot write {home.config}: {error.strerror}; check its owner and mode") from error
