"""The forms before a sign-in are counted per address, and a Redis that is away locks nobody out."""

import subprocess
import sys

import pytest
from django.conf import settings as site_settings
from django.core.cache import cache
from django.test import RequestFactory

from accounts.limits import shared_redis as module
from accounts.limits.forms import count_form
from accounts.limits.rate_limits import Rate
from accounts.limits.shared_redis import shared_redis
from accounts.tests.redis_servers import own_redis
from accounts.tests.test_redis_outages import freeze
from llmsite.core.errors import RateLimited

COUNT = 3


@pytest.fixture(autouse=True)
def _small_rate(settings):
    # Counting starts anew at the edge of a window; a day has one.
    settings.LOGIN_RATE_LIMIT = Rate(COUNT, 86400)
    yield
    shared_redis.reset()


def post(address="203.0.113.7", method="post"):
    return getattr(RequestFactory(), method)("/login", REMOTE_ADDR=address)


def times_allowed(tries, group="login", **values):
    allowed = 0
    for _ in range(tries):
        try:
            count_form(post(**values), group)
        except RateLimited:
            continue
        allowed += 1
    return allowed


def test_an_address_may_send_a_form_so_often():
    assert times_allowed(COUNT + 4) == COUNT


def test_a_refusal_says_when_to_come_again():
    times_allowed(COUNT)
    with pytest.raises(RateLimited) as raised:
        count_form(post(), "login")

    assert 0 <= raised.value.retry_after <= 86400


def test_addresses_and_forms_are_counted_apart():
    times_allowed(COUNT)

    assert times_allowed(1, address="203.0.113.8") == 1
    assert times_allowed(1, group="register") == 1


def test_the_addresses_of_one_ipv6_line_are_one():
    allowed = sum(times_allowed(1, address=f"2001:db8::{host}") for host in range(1, 8))

    assert allowed == COUNT


def test_to_look_at_a_form_is_free():
    assert times_allowed(20, method="get") == 20
    assert times_allowed(COUNT) == COUNT


def test_headers_of_the_client_do_not_change_its_address():
    allowed = 0
    for turn in range(COUNT + 3):
        request = RequestFactory().post(
            "/login", HTTP_X_FORWARDED_FOR=f"198.51.100.{turn}", REMOTE_ADDR="::1"
        )
        try:
            count_form(request, "login")
        except RateLimited:
            continue
        allowed += 1

    assert allowed == COUNT


@pytest.mark.parametrize("trouble", ["stopped", "frozen"])
def test_while_redis_is_away_forms_are_left_to_the_exact_limit(trouble, settings, monkeypatch):
    monkeypatch.setattr(module, "PAUSE_SECONDS", 3600)
    with own_redis() as server:
        options = {"SOCKET_CONNECT_TIMEOUT": 0.3, "SOCKET_TIMEOUT": 0.3}
        backend = {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": server.url, "OPTIONS": options}
        settings.CACHES = {"default": backend}
        assert times_allowed(COUNT + 1) == COUNT
        server.stop() if trouble == "stopped" else freeze(server)
        try:
            assert times_allowed(20) == 20
            assert shared_redis.outage.lasts
        finally:
            cache.close()


def test_a_count_that_the_cache_lost_locks_nobody_out(monkeypatch):
    def lost(self, *args, **kwargs):
        raise ValueError("no such key")

    times_allowed(COUNT)
    monkeypatch.setattr(type(cache._connections["default"]), "incr", lost)

    assert times_allowed(5) == 5


@pytest.mark.parametrize("redis_url", ["", "redis://127.0.0.1:1/0"])
def test_the_cache_check_is_silent_without_redis_and_content_with_it(redis_url):
    command = [sys.executable, "manage.py", "check", "--fail-level", "WARNING", "--tag", "caches"]
    environment = {"PATH": "/usr/bin", "ENV_FILE": "", "SECRET_KEY": site_settings.SECRET_KEY}

    ended = subprocess.run(
        command,
        cwd=site_settings.BASE_DIR,
        env={**environment, "REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert ended.returncode == 0, ended.stderr
