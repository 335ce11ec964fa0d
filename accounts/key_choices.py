"""The models that a new key may be limited to. Accounts knows none: the app that has them says so."""

from collections.abc import Callable, Iterable

_source: Callable[[], Iterable[str]] = tuple


def offer_models(source: Callable[[], Iterable[str]]) -> None:
    """Let an upper app name the aliases of its models; asked for whenever the form is shown or sent."""
    global _source
    _source = source


def offered_models() -> list[str]:
    return list(_source())
