"""Logging: one JSON line an event, with the request's id, and no line breaks smuggled in."""

import atexit
import logging
import re
import sys
import threading
import time
from contextlib import nullcontext
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, ClassVar

import structlog

from llmsite.core import quick_json
from llmsite.core.ids import new_uuid

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the running code serves; None outside of one."""


_WELL_FORMED = re.compile(r"[A-Za-z0-9._-]{8,128}")

PROMPT_CHARACTERS = 50
# What moves a terminal's cursor, colours it or turns its text round: C0 and C1, and the marks of direction.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def read_request_id(sent: str | None) -> str:
    """The id that a client sent, where it is well-formed; else a new one."""
    if sent and _WELL_FORMED.fullmatch(sent):
        return sent
    return new_uuid().hex


def shortened(prompt: str) -> str:
    """As much of a prompt as a log may have, where LOG_PROMPTS lets it have any."""
    return prompt if len(prompt) <= PROMPT_CHARACTERS else prompt[:PROMPT_CHARACTERS] + "…"


def escaped(text: str) -> str:
    """`text` without characters that would be more than text on a terminal; JSON escapes them by itself."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def _escape_for_terminal(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = _indented(value) if name == "exception" else escaped(value)
    return event


def _indented(traceback: str) -> str:
    """It keeps its lines, none of which looks like one of the log's own."""
    return "\n".join(f"  {escaped(line)}" for line in traceback.split("\n"))


def _add_request_id(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:
    current = request_id.get()
    if current is not None:
        event.setdefault("request_id", current)
    return event


_SHARED: list[Any] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    _add_request_id,
    structlog.processors.format_exc_info,
]


class WithTraceback(logging.Filter):
    """Lets only those records pass that carry an exception."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.exc_info is not None


class WithoutDenials(logging.Filter):
    """Drops what uvicorn says, as an error, of every socket that is refused with an HTTP answer."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("ASGI callable returned without completing handshake")


class GatheredLines(logging.StreamHandler[Any]):
    """Writes lines together, at most `SECONDS` late; a warning takes with it at once what waits before it.

    A busy web process writes thousands of lines a second, and each write is a call of the system.
    """

    SECONDS = 0.1
    active: ClassVar["GatheredLines | None"] = None
    """The one of this process, where there is one."""

    def __init__(self) -> None:
        super().__init__()
        GatheredLines.active = self
        self.is_plain_json = not sys.stderr.isatty()
        self._lines: list[str] = []
        self._writer: threading.Thread | None = None
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self.add(self.format(record))
        except Exception:
            self.handleError(record)
        if record.levelno >= logging.WARNING:
            self.flush()

    def add(self, line: str) -> None:
        """Have `line` written soon."""
        self._lines.append(line + self.terminator)
        if self._writer is None or not self._writer.is_alive():
            self._writer = threading.Thread(target=self._write_on, name="log", daemon=True)
            self._writer.start()

    def flush(self) -> None:
        # One at a time, so that lines keep their order.
        with self.lock or nullcontext():
            lines, self._lines = self._lines, []
            if lines:
                self.stream.write("".join(lines))
                self.stream.flush()

    def _write_on(self) -> None:
        while True:
            time.sleep(self.SECONDS)
            try:
                self.flush()
            except (OSError, ValueError):
                return  # Nobody reads the log any more.


def log_request(**fields: Any) -> None:
    """The line of a request.

    There is one for each, so a process that writes much makes it at once, in the form that the other lines
    get on their way through structlog and logging.
    """
    handler = GatheredLines.active
    if handler is None or not handler.is_plain_json:
        structlog.get_logger("llmsite.request").info("request", **fields)
    elif logging.getLogger("llmsite.request").isEnabledFor(logging.INFO):
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        line = {**fields, "event": "request", "level": "info", "logger": "llmsite.request", "timestamp": now}
        handler.add(quick_json.encode({**line, "request_id": request_id.get()}).decode())


def logging_config(level: str, *, gathered: bool = False) -> dict[str, Any]:
    """The value of Django's LOGGING. People at a terminal get readable lines, everything else JSON.

    `gathered` is for a process that writes much: its lines come a moment later, some at a time.
    """
    renderers: list[Any] = [structlog.processors.JSONRenderer()]
    if sys.stderr.isatty():
        renderers = [_escape_for_terminal, structlog.dev.ConsoleRenderer()]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = "llmsite.core.logs.GatheredLines" if gathered else "logging.StreamHandler"
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        "foreign_pre_chain": _SHARED,
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"site": formatter},
        "filters": {
            "with_traceback": {"()": "llmsite.core.logs.WithTraceback"},
            "without_denials": {"()": "llmsite.core.logs.WithoutDenials"},
        },
        "handlers": {"stderr": {"class": handler, "formatter": "site"}},
        "root": {"handlers": ["stderr"], "level": level},
        "loggers": {
            # Our own middleware writes the line of a request.
            "uvicorn.access": {"level": "WARNING"},
            "django.server": {"handlers": ["stderr"], "level": "WARNING", "propagate": False},
            "uvicorn.error": {"level": "WARNING", "filters": ["without_denials"]},
            # The status of an answer is in the line of its request already; only a crash says more.
            "django.request": {"filters": ["with_traceback"]},
            "httpx": {"level": "WARNING"},
            "httpx2": {"level": "WARNING"},
            # At debug level these write down prompts, and headers in which a provider may repeat a key.
            "anthropic": {"level": "WARNING"},
            "httpcore2": {"level": "WARNING"},
            "openai": {"level": "WARNING"},
        },
    }
