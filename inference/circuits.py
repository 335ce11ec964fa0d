"""Circuits: a model or an address that fails is left alone for a while, by all processes.

    closed ──five failures in a row, or one that asks for a pause──► open ──pause over──► half-open
      ▲                                                               ▲                     │
      └──────────────── the one probe is answered ────────────────────┼──── it fails ───────┘

There is one circuit for each model of a provider at an address, and one for the address, which counts what
is no model's fault. With Redis the circuits are kept there, by the time of Redis, and each process has a copy
that is at most `LAG_SECONDS` old while it is used: asking about a closed circuit costs a look into a dict.
Without REDIS_URL, and while Redis is away, the copy is all there is.
"""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import structlog
from django.conf import settings

from accounts.limits.shared_redis import RedisAway, Script, SharedRedis, shared_redis
from inference.reactions import COOL_DOWN_SECONDS, Blame, Reaction

log = structlog.get_logger("llmsite.circuits")

FAILURES_IN_A_ROW = 5
LAG_SECONDS = 1.0
"""How late a process may learn that another one has opened or closed a circuit."""
PROBE_SECONDS = 60.0
"""After this a probe counts as lost with its process: longer than any deadline for a first piece."""
BUSY_SECONDS = 1.0
"""When to ask again while somebody else's probe is under way."""
KEY = "llmsite:circuits"
KEPT_SECONDS = 86_400

# One hash of all circuits that are not as new: name → "failures, end of the pause, end of the probe, code".
# Times are milliseconds of Redis; 0 is none. Answers carry what is left of them: no other clock matters.
_ROW = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function read(name)
  local failures, till, probe, code = string.match(
    redis.call('HGET', KEYS[1], name) or '0 0 0 ', '^(%d+) (%d+) (%d+) (.*)$')
  return tonumber(failures), tonumber(till), tonumber(probe), code
end
local function write(name, failures, till, probe, code)
  redis.call('HSET', KEYS[1], name, string.format('%.0f %.0f %.0f %s', failures, till, probe, code))
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
"""

READ = Script(
    _ROW
    + """
local answer = {}
for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
  local failures, till, probe, code = read(name)
  for _, value in ipairs({name, failures, till > 0 and 1 or 0, till - now, probe - now, code}) do
    answer[#answer + 1] = value
  end
end
return answer
"""
)

# Failures of calls that began before a circuit opened come while it is open: they do not prolong the pause.
FAIL = Script(
    _ROW
    + """
local failures, till = read(ARGV[1])
local limit, cool_down, pause = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local was_open = till > now
failures = failures + 1
if pause > 0 then
  failures, till = math.max(failures, limit), math.max(till, now + pause)
elseif failures >= limit and not was_open then
  till = now + cool_down
end
write(ARGV[1], failures, till, 0, ARGV[6])
return {failures, till > 0 and 1 or 0, till - now, (till > now and not was_open) and 1 or 0}
"""
)

PROBE = Script(
    _ROW
    + """
local failures, till, probe, code = read(ARGV[1])
if till == 0 then return {1} end
if till > now or probe > now then return {0} end
write(ARGV[1], failures, till, now + tonumber(ARGV[3]), code)
return {1}
"""
)

UNPROBE = Script(
    _ROW
    + """
local failures, till, probe, code = read(ARGV[1])
if probe > 0 then write(ARGV[1], failures, till, 0, code) end
return {}
"""
)

# A success of a call that began before the circuit opened does not end the pause.
SUCCEED = Script(
    _ROW
    + """
local failures, till = read(ARGV[1])
if till > now then return {0, 0} end
redis.call('HDEL', KEYS[1], ARGV[1])
return {1, till > 0 and 1 or 0}
"""
)


@dataclass(frozen=True, slots=True)
class Deployment:
    """A provider's model at an address (empty: the provider's own). Without a model: the address itself."""

    provider: str
    base_url: str
    model: str

    @property
    def name(self) -> str:
        return json.dumps([self.provider, self.base_url, self.model])

    @property
    def address(self) -> "Deployment":
        return replace(self, model="")

    def blamed(self, blame: Blame) -> "Deployment":
        return self.address if blame is Blame.ADDRESS else self


@dataclass(frozen=True, slots=True)
class CircuitState:
    """A circuit that is not as new, for staff. `code` is that of the last failure."""

    provider: str
    base_url: str
    model: str
    state: Literal["closed", "open", "half-open"]
    code: str
    failures: int
    retry_at: datetime | None
    """When it is asked again; None where it is closed."""


class Paused(Exception):
    """The circuit is open. `seconds` until it is tried again."""

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds


@dataclass(slots=True)
class Row:
    """A circuit as this process knows it. Times are of its own clock; `until` is None while closed."""

    failures: int = 0
    until: float | None = None
    probe_until: float = 0.0
    code: str = ""

    def is_open(self, now: float) -> bool:
        return self.until is not None and self.until > now


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to call a deployment. `probes` are the half-open circuits that wait for what becomes of it."""

    deployment: Deployment
    probes: tuple[Deployment, ...] = ()


class Circuits:
    """All circuits; see the module. Threads and event loops of the process share them."""

    def __init__(self, redis: SharedRedis | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._redis = redis
        self._clock = clock
        self._rows: dict[Deployment, Row] = {}
        self._fresh_until = 0.0
        self._lock = threading.Lock()

    async def enter(self, deployment: Deployment) -> Permit:
        """Leave to call `deployment`, of a half-open circuit for one caller alone. Raises Paused."""
        await self._refresh()
        if not self._rows:
            return Permit(deployment)
        if seconds := self.pause_of(deployment):
            raise Paused(seconds)
        tripped = [one for one in (deployment.address, deployment) if self._is_tripped(one)]
        taken: list[Deployment] = []
        for one in tripped:
            if not await self._probe(one):
                await self.give_back(Permit(deployment, tuple(taken)))
                raise Paused(BUSY_SECONDS)
            taken.append(one)
        return Permit(deployment, tuple(taken))

    def pause_of(self, deployment: Deployment) -> float:
        """Seconds for which `deployment` is to be left alone, as far as this process knows."""
        rows = (self._rows.get(deployment.address), self._rows.get(deployment))
        ends = [row.until for row in rows if row is not None and row.until is not None]
        return max(0.0, max(ends) - self._clock()) if ends else 0.0

    async def succeeded(self, deployment: Deployment) -> None:
        """A call was answered: failures in a row end here, and a circuit that was tried is closed."""
        for one in (deployment.address, deployment):
            if one in self._rows and await self._succeed(one):
                log.warning("provider_back", provider=one.provider, model=one.model, address=one.base_url)

    async def failed(self, deployment: Deployment, reaction: Reaction, *, code: str) -> None:
        """A call failed: count it where `reaction` says, and open the circuit where that is due."""
        if reaction.blame is None:
            return
        one = deployment.blamed(reaction.blame)
        opened = await self._fail(one, reaction.pause or 0.0, code)
        if opened:
            seconds = round((self._rows[one].until or 0.0) - self._clock(), 1)
            where = {"provider": one.provider, "model": one.model, "address": one.base_url}
            log.warning("provider_paused", **where, code=code, seconds=seconds)

    async def give_back(self, permit: Permit) -> None:
        """The call ended without a verdict (its caller left, say): somebody else may be the probe."""
        for one in permit.probes:
            row = self._rows.get(one)
            if row is not None and row.probe_until:
                row.probe_until = 0.0
                await self._run_or_none(UNPROBE, one.name, _KEPT)

    async def states(self) -> list[CircuitState]:
        """All circuits that have failures, as they are now."""
        self._fresh_until = 0.0
        await self._refresh()
        now, moment = self._clock(), datetime.now(UTC)
        return [_state(one, row, now, moment) for one, row in sorted(self._rows.items(), key=_by_name)]

    def forget(self) -> None:
        """Start as new; for tests."""
        self._rows.clear()
        self._fresh_until = 0.0

    # Each step in Redis, and the same in memory where there is none. The copy learns what Redis said.

    async def _refresh(self) -> None:
        now = self._clock()
        if self._redis is None or now < self._fresh_until:
            return
        self._fresh_until = now + LAG_SECONDS  # Others go on meanwhile with what is known.
        answer = await self._run_or_none(READ)
        if answer is not None:
            now = self._clock()
            self._rows = {
                Deployment(*json.loads(answer[at])): _row(answer[at + 1 : at + 6], now)
                for at in range(0, len(answer), 6)
            }

    async def _probe(self, one: Deployment) -> bool:
        answer = await self._run_or_none(PROBE, one.name, _KEPT, _ms(PROBE_SECONDS))
        now = self._clock()
        with self._lock:
            row = self._rows.get(one, Row())
            may = bool(answer[0]) if answer is not None else row.probe_until <= now
            if may:
                row.probe_until = now + PROBE_SECONDS
        return may

    async def _succeed(self, one: Deployment) -> bool:
        """Forget the failures of a circuit that is not open; whether it had been."""
        answer = await self._run_or_none(SUCCEED, one.name, _KEPT)
        with self._lock:
            row = self._rows.get(one, Row())
            ends = bool(answer[0]) if answer is not None else not row.is_open(self._clock())
            if ends:
                self._rows.pop(one, None)
        return bool(answer[1]) if answer is not None else ends and row.until is not None

    async def _fail(self, one: Deployment, pause: float, code: str) -> bool:
        """Count a failure; whether it opened the circuit."""
        answer = await self._run_or_none(
            FAIL, one.name, _KEPT, FAILURES_IN_A_ROW, _ms(COOL_DOWN_SECONDS), _ms(pause), code
        )
        now = self._clock()
        with self._lock:
            if answer is not None:
                failures, tripped, left, opened = answer
                self._rows[one] = Row(failures, now + left / 1000 if tripped else None, 0.0, code)
                return bool(opened)
            row = self._rows.setdefault(one, Row())
            return _count(row, now, pause, code)

    def _is_tripped(self, one: Deployment) -> bool:
        row = self._rows.get(one)
        return row is not None and row.until is not None

    async def _run_or_none(self, script: Script, *arguments: str | int) -> list[Any] | None:
        if self._redis is None:
            return None
        try:
            return await self._redis.run(script, [KEY], arguments)
        except RedisAway:
            return None


_KEPT = int(KEPT_SECONDS * 1000)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _count(row: Row, now: float, pause: float, code: str) -> bool:
    """The rule of `FAIL` for a row in memory."""
    was_open = row.is_open(now)
    row.failures, row.code, row.probe_until = row.failures + 1, code, 0.0
    if pause:
        row.failures = max(row.failures, FAILURES_IN_A_ROW)
        row.until = max(row.until or 0.0, now + pause)
    elif row.failures >= FAILURES_IN_A_ROW and not was_open:
        row.until = now + COOL_DOWN_SECONDS
    return row.is_open(now) and not was_open


def _row(values: list[Any], now: float) -> Row:
    failures, tripped, left, probe_left, code = values
    until = now + left / 1000 if tripped else None
    return Row(failures, until, now + probe_left / 1000 if probe_left > 0 else 0.0, code.decode())


def _by_name(item: tuple[Deployment, Row]) -> tuple[str, str, str]:
    return item[0].provider, item[0].base_url, item[0].model


def _state(one: Deployment, row: Row, now: float, moment: datetime) -> CircuitState:
    left = None if row.until is None else max(0.0, row.until - now)
    return CircuitState(
        provider=one.provider,
        base_url=one.base_url,
        model=one.model,
        state="closed" if left is None else "open" if left else "half-open",
        code=row.code,
        failures=row.failures,
        retry_at=None if left is None else moment + timedelta(seconds=left),
    )


circuits = Circuits(shared_redis if settings.REDIS_URL else None)


async def states() -> list[CircuitState]:
    """The circuits that have failures, for staff."""
    return await circuits.states()
