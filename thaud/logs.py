"""Logging of the daemon: structlog's JSON lines in a rotated file, readable lines on a terminal.

Set up once, by the daemon; importing this module sets up nothing.
"""

import logging
import logging.handlers
import sys
from typing import TextIO

import structlog

from thaud.errors import StorageError
from thaud.home import Home

ROTATE_AT_BYTES, ROTATED_FILES = 10 << 20, 5
SHARED: tuple[structlog.types.Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


class QuietFile(logging.handlers.RotatingFileHandler):
    """A log file that may be on a full disk: lines that find no room are lost, and nothing is said about each."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Go on without the line."""


class QuietStream(logging.StreamHandler[TextIO]):
    """Standard error, which may lead to the same disk, or to a terminal that is gone."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Go on without the line."""


def set_up_logging(home: Home) -> None:
    """Send structlog and the standard library's logging to the service log and to standard error.

    Raises StorageError where the log file cannot be written.
    """
    try:
        home.logs.mkdir(parents=True, exist_ok=True)
        to_file = QuietFile(home.service_log, maxBytes=ROTATE_AT_BYTES, backupCount=ROTATED_FILES, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {error.filename}: {error.strerror}; check its owner and mode") from error
    json_lines = structlog.processors.JSONRenderer(ensure_ascii=False)
    to_file.setFormatter(make_formatter(json_lines, structlog.processors.format_exc_info))
    to_stderr = QuietStream(sys.stderr)
    readable = structlog.dev.ConsoleRenderer(colors=True) if sys.stderr.isatty() else json_lines
    extra = () if sys.stderr.isatty() else (structlog.processors.format_exc_info,)
    to_stderr.setFormatter(make_formatter(readable, *extra))
    logging.basicConfig(level=logging.INFO, handlers=[to_file, to_stderr], force=True)
    for chatty in ("httpx", "watchdog"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def make_formatter(
    renderer: structlog.types.Processor, *before: structlog.types.Processor
) -> structlog.stdlib.ProcessorFormatter:
    """One formatter for structlog's records and foreign ones."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=SHARED,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *before, renderer],
    )
