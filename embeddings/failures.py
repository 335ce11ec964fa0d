"""Why a version of a document failed: a code that is kept, and what its owner is told."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from embeddings.parsing.reasons import AGAIN, Reason

INTERNAL = "internal_error"
CANCELLED = "called_off"

_OTHERS: dict[str, Promise] = {
    INTERNAL: _("Something went wrong on our side. Try it again; if it lasts, tell who runs the site."),
    CANCELLED: _("Who runs the site has called off its reading. Ask them, or try it again."),
}


def may_pass(code: str) -> bool:
    """Whether a failed version may be read at another time, as it is."""
    return code in _OTHERS or code in AGAIN


def sentence(code: str) -> str:
    """What is told of a failed version; empty for one that has not failed."""
    if not code:
        return ""
    known = {reason.value: reason.label for reason in Reason} | _OTHERS
    return str(known.get(code, _OTHERS[INTERNAL]))
