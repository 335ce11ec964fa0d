"""Logging: one JSON line an event, with the request's id, and no line breaks smuggled in."""

import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that the running code serves; None outside of one."""


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


def logging_config(level: str) -> dict[str, Any]:
    """The value of Django's LOGGING. People at a terminal get readable lines, everything else JSON."""
    renderer: Any = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "processors": [structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
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
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "site"}},
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
        },
    }
