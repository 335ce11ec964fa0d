"""How the models stand at the moment, for those who look after them."""

from collections.abc import Iterable
from datetime import datetime

from asgiref.sync import async_to_sync

from inference.circuits import CircuitState, states
from inference.models import ChatModelConfig


def show_circuits(models: Iterable[ChatModelConfig]) -> None:
    """Give each row `circuit`: what was seen of it lately; None while nothing has failed."""
    known = {(one.provider, one.base_url, one.model): one for one in async_to_sync(states)()}
    for row in models:
        # A model can be paused for itself, or with everything else at its address.
        names = [(row.provider, row.base_url, model) for model in (row.upstream_model, "")]
        row.circuit = max((known[name] for name in names if name in known), key=_weight, default=None)  # type: ignore[attr-defined]


def _weight(one: CircuitState) -> tuple[bool, datetime | int]:
    return (True, one.retry_at) if one.retry_at else (False, one.failures)
