"""Why a document could not be read: one stable word each, and what its owner is told."""

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class Reason(TextChoices):
    """The value is kept with the version that failed, the label is shown."""

    ENCRYPTED = "encrypted", _("It is protected with a password. Save it without one and upload it again.")
    DAMAGED = "damaged", _("It is damaged, or not what its name says. Try to open it, and save it anew.")
    EMPTY = "empty", _("It has no text. A scanned document needs its text recognised (OCR) first.")
    BLANK = "blank", _("The file is empty: there is no text in it.")
    TOO_LARGE = "too_large", _("Unpacked, it is larger than what is read here. Split it into parts.")
    TOO_SLOW = "too_slow", _("Reading it took too long. Split it into parts, or save it anew.")
    OUT_OF_MEMORY = "out_of_memory", _("Reading it took too much memory. Split it into parts.")
    UNSUPPORTED = "unsupported", _("Files of this kind are not read here.")
    NOT_TEXT = "not_text", _("Its letters cannot be told from its bytes. Save it as UTF-8 text.")
    NO_LETTERS = (
        "no_letters",
        _(
            "Its fonts do not say which letters they show. Export it anew from the program that made it, "
            "or have its text recognised (OCR)."
        ),
    )
    DISK_FULL = "disk_full", _("The server’s disk is full. Its operator has to make room.")
    CRASHED = (
        "crashed",
        _("The program that reads such files broke down over it. Save it anew and try again."),
    )


AGAIN = frozenset({Reason.TOO_SLOW, Reason.DISK_FULL, Reason.CRASHED})
"""What may have come of the machine at that moment, and not of the document."""


class ParsingFailed(Exception):
    """A document gave no text. `retryable` says whether another try may end otherwise.

    It does not where `is_certain`, whatever the reason.
    """

    def __init__(self, reason: Reason, detail: str = "", *, is_certain: bool = False) -> None:
        super().__init__(reason.value, detail)
        self.reason = reason
        self.detail = detail
        """For the log only."""
        self.is_certain = is_certain

    @property
    def code(self) -> str:
        return self.reason.value

    @property
    def retryable(self) -> bool:
        return self.reason in AGAIN and not self.is_certain

    def __str__(self) -> str:
        return f"{self.code} ({self.detail})" if self.detail else self.code
