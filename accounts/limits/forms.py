"""How often the forms before a sign-in may be sent from one address: log in, register, reset a password.

This is django-ratelimit, which counts in fixed windows in the cache: coarse, and early. The exact limits are
counted before each check of a password (`accounts.limits.rate_limits`); they alone count while Redis is away.
"""

from django.conf import settings
from django.http import HttpRequest
from django_ratelimit.core import get_usage
from redis.exceptions import RedisError

from accounts.limits.addresses import client_address
from accounts.limits.buckets import Hit
from accounts.limits.rate_limits import rate_limiter
from accounts.limits.shared_redis import shared_redis
from llmsite.core.errors import RateLimited


def count_form(request: HttpRequest, group: str) -> None:
    """Count a POST of the form `group`. Raises RateLimited where its address has sent too many."""
    if not shared_redis.outage.may_try():
        return
    try:
        usage = get_usage(request, group, key=_address, rate=_rate, method="POST", increment=True)
    except (RedisError, OSError) as error:
        shared_redis.outage.failed(error)
        return
    if usage is None:
        return
    shared_redis.outage.worked()
    if usage["should_limit"]:
        # In the last second of a window 0 are left; the next one begins within a second.
        raise RateLimited(retry_after=max(1.0, usage["time_left"]))


def count_try(request: HttpRequest, group: str) -> None:
    """Count one try of `group` by its address, exactly. Raises RateLimited after too many."""
    address = client_address(request.META.get("REMOTE_ADDR", ""))
    rate_limiter.hit_sync(Hit(f"{group}-from:{address}", settings.LOGIN_RATE_LIMIT)).raise_if_refused()


def _address(group: str, request: HttpRequest) -> str:
    return client_address(request.META.get("REMOTE_ADDR", ""))


def _rate(group: str, request: HttpRequest) -> tuple[int, int]:
    rate = settings.LOGIN_RATE_LIMIT
    return rate.count, round(rate.seconds)
