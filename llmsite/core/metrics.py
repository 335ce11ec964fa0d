"""What is measured, in Prometheus's terms: one registry of names, which the apps count in.

No label names a person, a key or a text, so the number of series stays small.
"""

from prometheus_client import Counter, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

HTTP_REQUESTS = Counter("llmsite_http_requests_total", "Requests answered.", ["route", "method", "status"])
HTTP_SECONDS = Histogram(
    "llmsite_http_request_duration_seconds", "Until the answer began.", ["route"], buckets=_SECONDS
)
CACHE_REQUESTS = Counter(
    "llmsite_cache_requests_total", "Questions to the cache of answers.", ["level", "result"]
)
GENERATIONS = Counter(
    "llmsite_generation_requests_total", "Answers that ended.", ["provider", "model", "outcome"]
)
FIRST_TOKEN_SECONDS = Histogram(
    "llmsite_time_to_first_token_seconds", "Until the first piece.", ["provider", "model"], buckets=_SECONDS
)
TOKENS = Counter("llmsite_tokens_total", "Tokens that were paid for.", ["provider", "model", "type"])
COST = Counter("llmsite_cost_total", "Cost in the site's currency.", ["provider", "model"])
FALLBACKS = Counter(
    "llmsite_fallbacks_total", "Answers by another model than the asked one.", ["from_model", "to_model"]
)
