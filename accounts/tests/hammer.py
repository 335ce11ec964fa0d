"""Many processes that hit one bucket at once; prints how many calls each of them was allowed.

Run: python -m accounts.tests.hammer REDIS_URL LIMIT PROCESSES TRIES
"""

import asyncio
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "llmsite.settings")
django.setup()

from accounts.limits.rate_limits import Hit, Rate, RateLimiter  # noqa: E402
from accounts.limits.shared_redis import SharedRedis  # noqa: E402


def main(url: str, limit: int, processes: int, tries: int) -> None:
    children = [os.fork() or child(url, limit, tries, turn) for turn in range(processes)]
    sys.exit(any(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))


def child(url: str, limit: int, tries: int, turn: int) -> int:
    """Half of them ask from threads, half from an event loop. Never returns."""
    limiter, hit = RateLimiter(SharedRedis(url, timeout=30)), Hit("everybody", Rate(limit, 60))
    if turn % 2:
        allowed = sum(limiter.hit_sync(hit).allowed for _ in range(tries))
    else:
        allowed = asyncio.run(_at_once(limiter, hit, tries))
    os.write(1, f"{allowed}\n".encode())
    os._exit(0)


async def _at_once(limiter: RateLimiter, hit: Hit, tries: int) -> int:
    verdicts = await asyncio.gather(*(limiter.hit(hit) for _ in range(tries)))
    return sum(verdict.allowed for verdict in verdicts)


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:5]))
