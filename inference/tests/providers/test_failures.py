from datetime import UTC, datetime

import pytest

from inference.providers.failures import DETAIL_CHARACTERS, Failures, context_sizes, redact, retry_after
from llmsite.core import errors

NOON = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 12:00:30 -0000"}, 30.0),
        ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=NOON) == seconds


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        # OpenAI
        (
            {
                "error": {
                    "message": "This model's maximum context length is 8192 tokens. However, your messages "
                    "resulted in 9001 tokens. Please reduce the length of the messages.",
                    "code": "context_length_exceeded",
                }
            },
            (9001, 8192),
        ),
        # vLLM, whose older versions have no envelope
        (
            {
                "object": "error",
                "message": "This model's maximum context length is 2048 tokens. However, you requested 3000 "
                "tokens (2900 in the messages, 100 in the completion).",
                "code": 400,
            },
            (3000, 2048),
        ),
        # Anthropic
        (
            {"type": "error", "error": {"message": "prompt is too long: 200251 tokens > 200000 maximum"}},
            (200251, 200000),
        ),
        # The site's own model process
        ({"error": {"code": "context_length_exceeded", "tokens": 30, "limit": 20}}, (30, 20)),
        # Without numbers there is nothing to tell.
        ({"error": {"message": "too long", "code": "context_length_exceeded"}}, None),
        ({"error": "a sentence"}, None),
        ({"error": None}, None),
        ("prose", None),
        (None, None),
        ([], None),
    ],
)
def test_context_sizes(body: object, sizes: tuple[int, int] | None) -> None:
    assert context_sizes(body) == sizes


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"type": "error", "error": {"type": "overloaded_error"}}, errors.ProviderUnavailable),
        ({"error": {"code": "rate_limit_exceeded", "type": "requests"}}, errors.ProviderRateLimited),
        ({"error": {"type": "rate_limit_error"}}, errors.ProviderRateLimited),
        ({"error": {"type": "authentication_error"}}, errors.ProviderRejected),
        ({"error": {"type": "invalid_request_error"}}, errors.RequestRejected),
        ({"error": {"code": 503, "message": "vLLM's codes are statuses"}}, errors.ProviderUnavailable),
        ({"error": {"code": 400, "message": "bad"}}, errors.RequestRejected),
        ({"error": {"type": "api_error"}}, errors.ProviderError),
        ({"error": {"type": "never heard of"}}, errors.ProviderError),
        ({"error": {"type": ["odd"], "code": {}}}, errors.ProviderError),
        ({"error": "a sentence"}, errors.ProviderError),
        ("prose", errors.ProviderError),
    ],
)
def test_an_error_event_has_the_error_of_its_kind(event: object, kind: type[errors.SiteError]) -> None:
    assert type(Failures("openai").from_event(event)) is kind


def test_an_empty_account_is_no_limit_that_passes() -> None:
    error = Failures("openai").from_status(429, {"error": {"code": "insufficient_quota"}})
    assert isinstance(error, errors.ProviderRejected)
    assert not error.retryable


def test_an_overload_without_a_time_keeps_the_default_wait() -> None:
    assert Failures("openai").from_status(503, "").retry_after == errors.ProviderUnavailable.retry_after


def test_every_error_can_be_described() -> None:
    failures = Failures("openai", secrets=("sk-1",))
    for status in (301, 400, 401, 404, 429, 500, 503, 529):
        public = errors.describe(failures.from_status(status, {"error": {"message": "hidden words"}}))
        assert "hidden words" not in public.message
        assert "openai" in public.message


SAID = {"error": {"message": "Write me a poem", "type": "invalid_request_error", "code": "Write me"}}


def test_what_was_said_is_not_kept_but_for_the_vendors_own_words() -> None:
    error = Failures("openai").from_status(400, SAID)
    assert error.data == {"provider": "openai", "status": 400, "detail": "invalid_request_error"}
    assert Failures("openai").from_status(500, "Write me a poem").data["detail"] == ""


def test_nor_what_an_error_quotes() -> None:
    error = Failures("openai").broken("odd", started=False, error=ValueError("Write me a poem"))
    assert error.data["detail"] == "odd: ValueError"


def test_all_of_it_is_where_the_log_may_have_prompts(settings) -> None:
    settings.LOG_PROMPTS = True
    assert "Write me a poem" in Failures("openai").from_status(400, SAID).data["detail"]
    error = Failures("openai").broken("odd", started=False, error=ValueError("Write me a poem"))
    assert error.data["detail"] == "odd: ValueError: Write me a poem"


@pytest.mark.parametrize("text", ["sk-abc123", "Bearer abc", "key sk-proj-a_b-c*****xyz.", "my secret"])
def test_redact(text: str) -> None:
    shown = redact(text, ("my secret", ""))
    assert "[redacted]" in shown
    assert not {"abc", "xyz", "secret"} & set(
        shown.replace("*", " ").replace("-", " ").replace(".", " ").split()
    )


def test_a_detail_is_short_and_never_half_a_key() -> None:
    secret = "S3" * 40
    filler = "x" * (DETAIL_CHARACTERS - 20)
    detail = Failures("openai", secrets=(secret,)).detail(filler + secret)
    assert len(detail) <= DETAIL_CHARACTERS
    assert "S3" not in detail


def test_a_detail_of_anything() -> None:
    assert Failures("openai").detail({"error": "é"}) == '{"error": "é"}'
    assert Failures("openai").detail(object).startswith("<class")
