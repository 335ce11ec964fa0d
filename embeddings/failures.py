"""Why a version of a document failed: a code that is kept, and what its owner is told."""

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from embeddings.parsing.reasons import Reason

INTERNAL = "internal_error"

_OTHERS: dict[str, Promise] = {
    INTERNAL: _("Something went wrong on our side. Upload it again; if it lasts, tell who runs the site."),
}


def sentence(code: str) -> str:
    """What is told of a failed version; empty for one that has not failed."""
    if not code:
        return ""
    known = {reason.value: reason.label for reason in Reason} | _OTHERS
    return str(known.get(code, _OTHERS[INTERNAL]))
