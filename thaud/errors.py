"""The error tree. Every message names the value, the place and the way out; every class names its exit code.

    ThauError                      1   something went wrong that has no better name
    ├── UsageError                 2   the command line or a request is wrong
    │   └── UnknownSizeError       2   a size that is not in the table
    ├── HomeError                  3   the folder is no THAU home (run `thau init`)
    │   ├── HomeBusyError          4   another daemon holds it
    │   └── HomeTooNewError        5   written by a newer THAU
    ├── ConfigError                6   thau.toml or the environment
    ├── BaseUnavailableError       7   the base model is neither on disk nor to be had
    ├── StorageError               8   permission, disk full, a file that vanished
    │   ├── DiskFullError          8   no room: the daemon waits for some and goes on
    │   └── WatchLimitError        8   the system has no inotify watches left: the daemon polls instead
    ├── StepError                  9   a child process failed; it carries what the child said
    ├── ServerError               10   Ollama refused, broke off or is not there
    ├── NoVersionError            11   nothing has been trained yet
    ├── RejectedInputError        12   lines that are no examples (they are listed; good ones are queued)
    ├── DaemonNotRunningError     13   the command needs a running daemon
    ├── ModelError                14   a model file that llama.cpp will not load or that does not fit
    │   └── OverfullError         14   a prompt that leaves no room for an answer in the context
    ├── ToolError                 15   a tool could not do what it was asked
    └── UnsoundError              16   `thau doctor` found problems

Bad data inside the drop-box is a value (`domain.Rejection`), never an exception.
"""

from typing import ClassVar


class ThauError(Exception):
    """Root of what THAU raises on purpose: shown to people as one line, never as a traceback."""

    exit_code: ClassVar[int] = 1


class UsageError(ThauError):
    """The command line or a request asks for something that does not exist."""

    exit_code = 2


class UnknownSizeError(UsageError):
    """A model size that is not in the table of sizes."""


class HomeError(ThauError):
    """The folder is not a THAU home."""

    exit_code = 3


class HomeBusyError(HomeError):
    """Another daemon works on this home."""

    exit_code = 4


class HomeTooNewError(HomeError):
    """The ledger was written by a newer THAU."""

    exit_code = 5


class ConfigError(ThauError):
    """thau.toml or the environment holds a value that cannot be used."""

    exit_code = 6


class BaseUnavailableError(ThauError):
    """The base model is neither on disk nor to be had from the hub."""

    exit_code = 7


class StorageError(ThauError):
    """The file system refused: permission, disk full, a file that vanished."""

    exit_code = 8


class DiskFullError(StorageError):
    """There is no room left. Nothing has failed but the writing: it is tried again."""


class WatchLimitError(StorageError):
    """The system's limit of inotify instances or watches is reached."""


class StepError(ThauError):
    """A step's child process failed or died."""

    exit_code = 9


class ServerError(ThauError):
    """An Ollama server refused, broke off or is not there."""

    exit_code = 10


class NoVersionError(ThauError):
    """No version has been accepted yet."""

    exit_code = 11


class RejectedInputError(ThauError):
    """Input given on the command line or over HTTP holds lines that are no examples."""

    exit_code = 12


class DaemonNotRunningError(ThauError):
    """The command needs a running daemon."""

    exit_code = 13


class ModelError(ThauError):
    """A model file cannot be loaded, or cannot do what is asked of it."""

    exit_code = 14


class OverfullError(ModelError):
    """A prompt that does not fit the context: shorten it. Nothing else is wrong."""


class ToolError(ThauError):
    """A tool could not do what it was asked; the message is shown to the model."""

    exit_code = 15


class UnsoundError(ThauError):
    """A home in which `thau doctor` found problems."""

    exit_code = 16


def in_words(error: ThauError | OSError) -> str:
    """What went wrong, for people."""
    return str(error) if isinstance(error, ThauError) else f"{error.strerror or error}: {error.filename or 'the step'}"
