"""What is counted, in Prometheus's terms: one registry of names, which the apps count in.

No label names a person, a key or a text, so the number of series stays small. What a scrape reads of the
database is in `llmsite/metrics/gauges.py`.
"""

from django.conf import settings
from prometheus_client import Counter, Gauge, Histogram

from llmsite.core.shared_values import share

share()

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2.5)
_JOB_SECONDS = (0.01, 0.1, 1, 5, 15, 60, 300, 900, 3600)

HTTP_REQUESTS = Counter("llmsite_http_requests_total", "Requests answered.", ["route", "method", "status"])
HTTP_SECONDS = Histogram(
    "llmsite_http_request_duration_seconds", "Until the answer began.", ["route"], buckets=_SECONDS
)
STREAMS_OPEN = Gauge(
    "llmsite_streams_open",
    "Event streams and sockets that are open.",
    ["transport"],
    multiprocess_mode="livesum",
)
RATE_LIMIT_REJECTED = Counter(
    "llmsite_ratelimit_rejected_total", "Requests over a limit, by what was counted.", ["kind"]
)
BUDGET_REJECTED = Counter("llmsite_budget_rejected_total", "Calls that a budget did not bear.")

CACHE_REQUESTS = Counter(
    "llmsite_cache_requests_total", "Questions to the cache of answers.", ["level", "result"]
)
GENERATIONS = Counter(
    "llmsite_generation_requests_total", "Answers that ended.", ["provider", "model", "outcome"]
)
GENERATION_SECONDS = Histogram(
    "llmsite_generation_duration_seconds",
    "Until the end of an answer.",
    ["provider", "model"],
    buckets=_SECONDS,
)
FIRST_TOKEN_SECONDS = Histogram(
    "llmsite_time_to_first_token_seconds",
    "Until the first piece of an answer that a model wrote.",
    ["provider", "model"],
    buckets=_SECONDS,
)
OUTPUT_TOKEN_SECONDS = Histogram(
    "llmsite_time_per_output_token_seconds",
    "Between the tokens of an answer that a model wrote, on average.",
    ["provider", "model"],
    buckets=_TOKEN_SECONDS,
)
TOKENS = Counter("llmsite_tokens_total", "Tokens that were paid for.", ["provider", "model", "type"])
# The unit stands in the name, so this one is called after the site's currency.
COST = Counter(
    f"llmsite_cost_{settings.CURRENCY.lower()}_total", "Cost in the site's currency.", ["provider", "model"]
)
FALLBACKS = Counter(
    "llmsite_fallbacks_total",
    "Answers by another model than the asked one, and why that one did not answer.",
    ["from", "to", "reason"],
)

RETRIEVAL_SECONDS = Histogram(
    "llmsite_retrieval_duration_seconds",
    "Searching documents: which may be read, what the indexes find, its texts.",
    ["stage"],
    buckets=_SECONDS,
)
JOB_SECONDS = Histogram(
    "llmsite_job_duration_seconds",
    "Runs of tasks, by how they went.",
    ["task", "outcome"],
    buckets=_JOB_SECONDS,
)
FEEDBACK = Counter("llmsite_feedback_total", "Ratings that were given or changed.", ["rating", "model"])
