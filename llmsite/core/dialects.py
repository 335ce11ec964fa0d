"""Whose API an address speaks: how its errors look, and which headers its clients read.

Below `/v1/` programs that were written for OpenAI's or Anthropic's API are served; there every answer, the
gate's refusals and unknown addresses included, has the form that the vendor's clients know. At the addresses
that both have, `anthropic-version` tells whose client it is. Everywhere else the site speaks its own.
"""

from collections.abc import Collection, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

from llmsite.core.errors import PublicError

VENDOR_PREFIX = "/v1/"
_ANTHROPIC_PATHS = ("/v1/messages",)
_PATHS_OF_BOTH = ("/v1/models",)
_ANTHROPIC_HEADER = "HTTP_ANTHROPIC_VERSION"

NEVER_AGAIN = frozenset(
    {"budget_exhausted", "budget_too_small", "provider_not_configured", "provider_rejected"}
)
"""Codes of errors that the same request meets again, although their status is one that clients retry."""


class SiteDialect:
    """The site's own form."""

    def error(self, public: PublicError, request_id: str | None) -> dict[str, Any]:
        return public.as_dict(request_id)

    def error_headers(self, public: PublicError) -> dict[str, str]:
        return {}

    def headers(self, sent: Mapping[str, str], *, request_id: str, milliseconds: int) -> dict[str, str]:
        """What is added to an answer that has the headers `sent`."""
        return {}


class _VendorDialect(SiteDialect):
    def error_headers(self, public: PublicError) -> dict[str, str]:
        headers = {}
        if public.retry_after is not None:
            headers["retry-after-ms"] = str(round(public.retry_after * 1000))
        if public.code in NEVER_AGAIN:
            headers["x-should-retry"] = "false"
        return headers


class OpenAIDialect(_VendorDialect):
    """https://platform.openai.com/docs/guides/error-codes"""

    def error(self, public: PublicError, request_id: str | None) -> dict[str, Any]:
        kind, code = _openai_names(public)
        return {"error": {"message": public.message, "type": kind, "param": public.field, "code": code}}

    def headers(self, sent: Mapping[str, str], *, request_id: str, milliseconds: int) -> dict[str, str]:
        headers = {"openai-processing-ms": str(milliseconds), "openai-version": "2020-10-01"}
        if "X-RateLimit-Limit" in sent:
            headers["x-ratelimit-limit-requests"] = sent["X-RateLimit-Limit"]
            headers["x-ratelimit-remaining-requests"] = sent["X-RateLimit-Remaining"]
            headers["x-ratelimit-reset-requests"] = f"{sent['X-RateLimit-Reset']}s"
        return headers


_OPENAI_CODES = {
    "not_authenticated": "invalid_api_key",
    "too_large": "request_too_large",
    "rate_limited": "rate_limit_exceeded",
    "budget_reserved": "rate_limit_exceeded",
    "budget_exhausted": "insufficient_quota",
    "budget_too_small": "insufficient_quota",
    "no_provider": "no_healthy_deployment",
}


def _openai_names(public: PublicError) -> tuple[str, str]:
    """Type and code."""
    code = _OPENAI_CODES.get(public.code, public.code)
    if code == "insufficient_quota":
        return code, code
    if public.status >= 500:
        return "server_error", code
    kinds = {403: "permission_error", 429: "rate_limit_error"}
    return kinds.get(public.status, "invalid_request_error"), code


class AnthropicDialect(_VendorDialect):
    """https://docs.anthropic.com/en/api/errors"""

    def error(self, public: PublicError, request_id: str | None) -> dict[str, Any]:
        error = {"type": _anthropic_kind(public), "message": _naming_field(public)}
        return {"type": "error", "error": error, "request_id": request_id}

    def headers(self, sent: Mapping[str, str], *, request_id: str, milliseconds: int) -> dict[str, str]:
        headers = {"request-id": request_id}
        if "X-RateLimit-Limit" in sent:
            reset = datetime.now(UTC) + timedelta(seconds=int(sent["X-RateLimit-Reset"]))
            headers["anthropic-ratelimit-requests-limit"] = sent["X-RateLimit-Limit"]
            headers["anthropic-ratelimit-requests-remaining"] = sent["X-RateLimit-Remaining"]
            headers["anthropic-ratelimit-requests-reset"] = reset.strftime("%Y-%m-%dT%H:%M:%SZ")
        return headers


_ANTHROPIC_KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def _anthropic_kind(public: PublicError) -> str:
    if public.code in ("budget_exhausted", "budget_too_small"):
        return "billing_error"
    if public.code == "provider_not_configured":
        return "api_error"
    fallback = "api_error" if public.status >= 500 else "invalid_request_error"
    return _ANTHROPIC_KINDS.get(public.status, fallback)


def _naming_field(public: PublicError) -> str:
    """The message; this form has no place of its own for the field."""
    return f"{public.field}: {public.message}" if public.field else public.message


SITE, OPENAI, ANTHROPIC = SiteDialect(), OpenAIDialect(), AnthropicDialect()

spoken: ContextVar[SiteDialect] = ContextVar("dialect", default=SITE)
"""The dialect of the request that the running code serves."""


def is_vendor_path(path: str) -> bool:
    """Whether a vendor's API is spoken there: programs with keys come, and no browser with cookies."""
    return path.startswith(VENDOR_PREFIX)


def takes_api_key_header(path: str) -> bool:
    """Whether a key may also come as `X-API-Key`, which Anthropic's clients send."""
    return path.startswith(_ANTHROPIC_PATHS + _PATHS_OF_BOTH)


def dialect_of(path: str, meta: Collection[str] = ()) -> SiteDialect:
    """What is spoken at `path` with those who send these headers, by their names in `request.META`."""
    if not is_vendor_path(path):
        return SITE
    if path.startswith(_PATHS_OF_BOTH):
        return ANTHROPIC if _ANTHROPIC_HEADER in meta else OPENAI
    return ANTHROPIC if path.startswith(_ANTHROPIC_PATHS) else OPENAI
