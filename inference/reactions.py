"""What each failure upstream leads to: another try, another model, a pause for who failed. Pure rules.

| the failure                                | again | next model | pause                                  |
| the question is at fault (400, too long)   | no    | no         | no                                     |
| overloaded, failed, cut before a piece     | yes   | yes        | after five in a row, the model         |
| refused, no connection in time             | yes   | yes        | after five in a row, the address       |
| a limit of theirs, with a time to wait     | after it, where it is short | yes | at once, that long |
| key refused, no money left (401, 402)      | no    | yes        | at once, the address; staff is told    |
| not this model, or none such (403, 404)    | no    | yes        | at once, the model; staff is told      |
| no first piece in time                     | no    | yes        | after five in a row, the model         |
| no place in our own queue, no key is set   | no    | yes        | no                                     |
| no connection, and our own loop was late   | yes   | yes        | no                                     |
"""

from dataclasses import dataclass
from enum import Enum

from llmsite.core.errors import (
    ContextLengthExceeded,
    LocalModelUnavailable,
    NoProviderLeft,
    ProviderAddressRefused,
    ProviderBusy,
    ProviderError,
    ProviderFailure,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderRejected,
    ProviderTimeout,
    ProviderUnavailable,
    SiteError,
)

COOL_DOWN_SECONDS = 10.0
"""The pause after failures in a row: long enough that a server which falls over is left alone, short enough
that nobody waits long for one that is back."""
REFUSED_SECONDS = 60.0
"""The pause after an answer that only a person can change: another key, money, another name of a model."""
LONGEST_PAUSE_SECONDS = 3600.0
"""A vendor that asks for more is asked once an hour all the same, in case it meant something else."""

_ACCOUNT = frozenset({401, 402, 429})
"""With these statuses a `ProviderRejected` is about the key and what it may spend."""
_PLACE = frozenset({403, 404, 405, 410})
"""And with these about a model or an address that is not there, as with a redirect."""

_REFUSALS = (
    ContextLengthExceeded,
    NoProviderLeft,
    ProviderAddressRefused,
    ProviderBusy,
    ProviderNotConfigured,
    ProviderRateLimited,
    ProviderRejected,
    ProviderUnavailable,
)


class Blame(Enum):
    """Whose circuit a failure counts in: one model's, or that of the address, which all its models share."""

    MODEL = "model"
    ADDRESS = "address"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """`pause` is what the failure asks for at once; without it the failure is one of five in a row."""

    retry: bool = False
    fall_back: bool = True
    blame: Blame | None = None
    pause: float | None = None
    wait: float | None = None
    """How long to wait before the same is asked again, where the provider said so."""


_USERS_FAULT = Reaction(fall_back=False)


def react(error: SiteError) -> Reaction:
    """What to do after `error` came in place of an answer's first piece."""
    if not isinstance(error, ProviderFailure):
        return _USERS_FAULT
    if isinstance(error, ProviderRejected):
        return _rejected(error.data.get("status", 400))
    if isinstance(error, ProviderBusy):
        return Reaction(retry=error.data.get("phase") == "connect")
    if isinstance(error, ProviderNotConfigured):
        return Reaction()
    if isinstance(error, ProviderTimeout):
        if error.data.get("phase") == "total":
            return Reaction()  # The time of all tries is over, which says little of the last one.
        return Reaction(retry=error.data.get("phase") == "connect", blame=_blame(error))
    if told := error.data.get("retry_after"):
        pause = min(told, LONGEST_PAUSE_SECONDS)
        return Reaction(retry=True, blame=Blame.MODEL, pause=pause, wait=told)
    return Reaction(retry=error.retryable, blame=_blame(error))


def react_late(error: SiteError) -> Reaction:
    """What to do after `error` broke off an answer that had begun: nothing but to count it."""
    slow = isinstance(error, ProviderTimeout) and error.data.get("phase") == "total"
    if slow or not isinstance(error, ProviderFailure):
        return _USERS_FAULT
    return Reaction(fall_back=False, blame=Blame.MODEL)


def may_have_cost(error: SiteError) -> bool:
    """Whether somebody may have worked on the prompt before `error` came in place of the first piece.

    One that was not reached, or said no, has not. One that broke its promise of an answer (status 200) may
    have, and so may one that we left. An error that stands for several calls says it itself.
    """
    if error.may_have_cost is not None:
        return error.may_have_cost
    if isinstance(error, ProviderTimeout):
        return error.data.get("phase") != "connect"
    if isinstance(error, ProviderError):
        return error.data.get("status", 200) == 200
    return not isinstance(error, _REFUSALS)


def _rejected(status: int) -> Reaction:
    if status in _ACCOUNT:
        return Reaction(blame=Blame.ADDRESS, pause=REFUSED_SECONDS)
    if status in _PLACE or 300 <= status < 400:
        return Reaction(blame=Blame.MODEL, pause=REFUSED_SECONDS)
    return _USERS_FAULT


def _blame(error: ProviderFailure) -> Blame:
    """A connection that is not made says nothing of a model."""
    nobody_there = error.data.get("phase") == "connect" or isinstance(error, LocalModelUnavailable)
    return Blame.ADDRESS if nobody_there else Blame.MODEL
