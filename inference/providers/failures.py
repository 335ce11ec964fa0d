"""From what went wrong upstream to the errors of `llmsite.core.errors`.

A status, headers and a body go in, an exception comes out. What the provider said may repeat the prompt,
so that of its words only those are kept that the vendors document; with LOG_PROMPTS all of it is, as
`detail`, for the log only, cut short and without any key.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from django.conf import settings

from llmsite.core.errors import (
    ContextLengthExceeded,
    ProviderError,
    ProviderFailure,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
    RequestRejected,
    SiteError,
    UpstreamCut,
)

DETAIL_CHARACTERS = 500
_READ_CHARACTERS = 10_000

# Vendors mask a key when they repeat it ("sk-ab***yz"), which still shows a part of it.
_LOOKS_LIKE_KEY = re.compile(r"\b(?:sk|pk|rk)-[\w*.-]+|(?i:bearer)\s+\S+")

# One wording of OpenAI and vLLM ("… maximum context length is 4096 tokens. However, your messages
# resulted in 5000 tokens …") and one of Anthropic ("prompt is too long: 5000 tokens > 4096 maximum").
_TOO_LONG = (
    re.compile(r"maximum context length is (?P<limit>\d+) tokens\D*(?P<tokens>\d+)"),
    re.compile(r"prompt is too long: (?P<tokens>\d+) tokens > (?P<limit>\d+)"),
)

# An error inside a stream has no status of its own: its type stands for one.
_STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "server_overloaded": 529,
}

_ABOUT_THE_REQUEST = frozenset({400, 413, 422})
_MAY_PASS = frozenset({408, 409, 425})
"""Statuses below 500 that tell of a passing state, not of a bad request."""


@dataclass(frozen=True, slots=True)
class Failures:
    """The errors of one provider. `secrets` are the values that must never show in a detail."""

    provider: str
    secrets: tuple[str, ...] = ()

    def from_status(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> SiteError:
        """The error for an answer whose status is not 200; `body` is its JSON, or text that is none."""
        data: dict[str, Any] = {"provider": self.provider, "detail": self._said(body)}
        if (wait := retry_after(headers or {})) is not None:
            data["retry_after"] = wait
        if 400 <= status < 500 and (sizes := context_sizes(body)):
            return ContextLengthExceeded(tokens=sizes[0], limit=sizes[1])
        if status == 429 and "insufficient_quota" not in _kinds(body):
            return ProviderRateLimited(**data)
        if status in (503, 529):
            return ProviderUnavailable(**data)
        if status >= 500 or status in _MAY_PASS:
            return ProviderError(status=status, **data)
        kind = RequestRejected if status in _ABOUT_THE_REQUEST else ProviderRejected
        return kind(status=status, **data)

    def from_event(self, body: Any) -> SiteError:
        """The error that a stream announced in an event of its own, after a status of 200."""
        code = _error_object(body).get("code")
        if isinstance(code, int) and 400 <= code < 600:
            return self.from_status(code, body)
        known = (_STATUS_OF_TYPE[kind] for kind in _kinds(body) if kind in _STATUS_OF_TYPE)
        return self.from_status(next(known, 500), body)

    def broken(self, what: str, *, started: bool, error: Exception | None = None) -> ProviderFailure:
        """The stream ended or made no sense. Once text has come (`started`), it is a cut answer.

        `what` is in our own words. `error` may quote what came, so that only its kind is kept.
        """
        detail = what if error is None else f"{what}: {self.kind_of(error)}"
        if started:
            return UpstreamCut(provider=self.provider, detail=detail)
        return ProviderError(provider=self.provider, status=200, detail=detail)

    def kind_of(self, error: BaseException) -> str:
        """The name of what was raised over the provider's words; with LOG_PROMPTS what it says, too."""
        kind = type(error).__name__
        return self.detail(f"{kind}: {error}") if settings.LOG_PROMPTS else kind

    def _said(self, body: Any) -> str:
        """What the provider said, as far as the log may have it."""
        if settings.LOG_PROMPTS:
            return self.detail(body)
        return ", ".join(kind for kind in _kinds(body) if kind in _STATUS_OF_TYPE)

    def detail(self, body: object) -> str:
        """`body` as one short text for the log, without keys."""
        text = body if isinstance(body, str) else _dump(body)
        return redact(text[:_READ_CHARACTERS], self.secrets)[:DETAIL_CHARACTERS]


def redact(text: str, secrets: tuple[str, ...]) -> str:
    """`text` without `secrets`, and without anything else that looks like a key."""
    for secret in filter(None, secrets):
        text = text.replace(secret, "[redacted]")
    return _LOOKS_LIKE_KEY.sub("[redacted]", text)


def retry_after(headers: Mapping[str, str], *, now: datetime | None = None) -> float | None:
    """Seconds to wait by `retry-after-ms`, or by `Retry-After` in seconds or as an HTTP date (RFC 9110).

    None where neither is there or makes sense. `headers` has lower-case names.
    """
    milliseconds = _seconds(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after", "")
    seconds = _seconds(value)
    return _until(value, now or datetime.now(UTC)) if seconds is None else seconds


def context_sizes(body: Any) -> tuple[int, int] | None:
    """(tokens of the prompt, limit of the model) where `body` refuses a prompt for its length."""
    error = _error_object(body)
    tokens, limit = error.get("tokens"), error.get("limit")
    if isinstance(tokens, int) and isinstance(limit, int):
        return tokens, limit
    message = str(error.get("message", ""))[:_READ_CHARACTERS]
    match = next(filter(None, (pattern.search(message) for pattern in _TOO_LONG)), None)
    return (int(match["tokens"]), int(match["limit"])) if match else None


def _error_object(body: Any) -> dict[str, Any]:
    """`{"error": {…}}`, or vLLM's older bare object, as one dict; empty where `body` is neither."""
    if not isinstance(body, dict):
        return {}
    error = body.get("error", body)
    return error if isinstance(error, dict) else {"message": error}


def _kinds(body: Any) -> list[str]:
    """The words with which the error names itself, the most special first."""
    error = _error_object(body)
    return [kind for kind in (error.get("code"), error.get("type")) if isinstance(kind, str)]


def _seconds(value: str) -> float | None:
    try:
        seconds = float(value)
    except ValueError:
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(date: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    # A date with the zone "-0000" comes back naive; HTTP dates are always UTC.
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - now).total_seconds())


def _dump(body: object) -> str:
    try:
        return json.dumps(body, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(body)
