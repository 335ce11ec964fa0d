"""The models whose prices nobody has entered. Accounts knows none: the app that has them says so."""

from collections.abc import Callable, Collection

_source: Callable[[], Collection[str]] = tuple


def tell_unpriced(source: Callable[[], Collection[str]]) -> None:
    """Let an upper app name the aliases of its models without a price; asked for whenever usage is shown."""
    global _source
    _source = source


def unpriced_models() -> Collection[str]:
    return _source()
