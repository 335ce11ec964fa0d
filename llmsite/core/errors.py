"""Every error a user can meet, and the one table that says how each is shown.

An exception carries data, never a ready sentence. A door (REST, SSE, WebSocket, page, command)
calls `describe()` and renders the result in its own way. What an upstream server said goes to
the log; the public message never contains it.
"""

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _


class SiteError(Exception):
    """The base of all errors that have a row in `TABLE`; its keyword arguments fill the message."""

    field: str | None = None
    retry_after: float | None = None
    """Seconds after which the same call may succeed, where that is known."""
    may_have_cost: bool | None = None
    """Whether somebody upstream may have worked on the question; None where only the error itself tells."""

    def __init__(self, **data: Any) -> None:
        super().__init__(data)
        self.data = data
        self.field = data.get("field", self.field)
        self.retry_after = data.get("retry_after", self.retry_after)

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.data})"

    @property
    def public_data(self) -> dict[str, Any]:
        """What fills the public message; `detail` is for the log."""
        return {name: value for name, value in self.data.items() if name != "detail"}


class InvalidInput(SiteError):
    """A value is not acceptable. Data: field, reason (a sentence)."""


class UnsupportedParameter(SiteError):
    """A field that this door or this model does not take. Data: field, and model where it is the model."""


class UnknownParameter(UnsupportedParameter):
    """A field that nobody knows here. Data: field."""


class TooLarge(SiteError):
    """A body or a text is over its limit. Data: field, limit, unit."""


class NotSignedIn(SiteError):
    """No valid credential came with the request."""


class WrongCredentials(SiteError):
    """A user name and password that do not belong together."""


class NotAllowed(SiteError):
    """The credential is good and does not reach this far."""


class ModelNotAllowed(SiteError):
    """The API key is limited to other models. Data: model."""

    field = "model"


class CsrfFailed(SiteError):
    """A request with a cookie came without proof that our own page sent it."""


class LastAdministrator(SiteError):
    """Without this superuser nobody could run the site any more."""


class ErasureUnfinished(SiteError):
    """The account is closed, but one of the stores did not answer, so that something is left in it."""


class NotFound(SiteError):
    """The object does not exist, or belongs to somebody else: both look the same."""


class MethodNotAllowed(SiteError):
    """The address does not take this method. Data: method, allowed (the methods it takes)."""


class UnsupportedMediaType(SiteError):
    """The body is of a type that this address does not read."""


class UnsupportedFile(UnsupportedMediaType):
    """A file of a kind that is not read here, or that is not what its name says. Data: field."""


class RateLimited(SiteError):
    """Too many requests in the window of a limit. Data: retry_after (seconds)."""


class BudgetExhausted(SiteError):
    """The budget of the month does not bear what the call may cost. Data: retry_after (seconds)."""


class BudgetReserved(BudgetExhausted):
    """It would, but for what calls under way have set aside. Data: retry_after."""

    retry_after = 5.0


class BudgetTooSmall(BudgetExhausted):
    """The call may cost more than the whole budget of any month."""


class ModelNotFound(SiteError):
    """No active model has this alias. Data: model."""

    field = "model"


class IdempotencyConflict(SiteError):
    """The same Idempotency-Key came with another body before."""

    field = "Idempotency-Key"


class ContextLengthExceeded(SiteError):
    """One prompt alone is over the model's window. Data: tokens, limit."""

    field = "prompt"


class ServerRestarting(SiteError):
    """This process takes no new work, because it is about to stop."""

    retry_after = 5.0


class DatabaseAway(SiteError):
    """The database does not answer, or refuses for now."""

    retry_after = 5.0


class AnswerNotSaved(DatabaseAway):
    """The database did not come back in time for the end of an answer."""


class Interrupted(SiteError):
    """The process that wrote an answer died before the end."""


class ProviderFailure(SiteError):
    """The base of what can go wrong upstream. Data: provider, and `detail` for the log only.

    `retryable` says whether the same request may be sent again before the first token.
    """

    retryable = False


class ProviderNotConfigured(ProviderFailure):
    """The provider has no key. Data: provider, setting."""


class ProviderAddressRefused(ProviderFailure):
    """The model's base URL is not listed (any more), or leads to where no call may go. Data: provider."""


class ProviderUnavailable(ProviderFailure):
    """It says it is overloaded, or nobody answers at its address (phase: connect). Data: provider, phase."""

    retryable = True
    retry_after = 5.0


class LocalModelUnavailable(ProviderUnavailable):
    """The local model's process is not running or has not finished loading. Data: provider."""


class ProviderRateLimited(ProviderFailure):
    """The provider refuses for now. Data: provider, retry_after."""

    retryable = True


class ProviderRejected(ProviderFailure):
    """The provider will not take this request however often it is sent. Data: provider, status."""


class RequestRejected(ProviderRejected):
    """The provider takes other requests: something in this one is not acceptable. Data: provider, status."""


class ProviderTimeout(ProviderFailure):
    """A deadline passed. Data: provider, phase (connect, first_token, idle or total)."""

    retryable = True


class ProviderBusy(ProviderFailure):
    """As many calls to the provider as may run and wait are under way in this process. Data: provider."""

    retryable = True
    retry_after = 1.0


class NoProviderLeft(ProviderFailure):
    """The model and all of its fallbacks are cooling down. Data: provider (of the model), retry_after."""


class ProviderError(ProviderFailure):
    """The provider failed in a way of its own. Data: provider, status."""

    retryable = True


class EmbedderUnavailable(SiteError):
    """The encoder of the model process is not there, or does not answer as it should. Data: detail."""

    retry_after = 5.0


class EmbedderFailed(EmbedderUnavailable):
    """It answered that it failed: to wait may not be enough, so a task counts it as a try. Data: detail."""


class SearchIncomplete(SiteError):
    """Nothing was found, but documents are still being taken into the indexes."""

    retry_after = 5.0


class DiskFull(SiteError):
    """A volume has no space left for what had to be written; nothing of it was kept."""


class StorageUsedUp(SiteError):
    """A person's documents take all the space that one person may use. Data: limit, in MB."""

    field = "file"


class PromotionRefused(SiteError):
    """A model may not be moved to an adapter, or has nothing to go back to. Data: reason (a sentence)."""


class RunRefused(SiteError):
    """A training run cannot be started, or not be changed any more. Data: reason (a sentence), field."""


class EvaluationRefused(SiteError):
    """A run cannot be evaluated now. Data: reason (a sentence)."""


class UnsupportedDataset(UnsupportedFile):
    """A data set of a kind that is not read here, or that is not what its name says. Data: field."""


class DatasetUnreadable(SiteError):
    """A data set with rows that are not right, or with too few. Data: reason (a sentence), field."""

    field = "file"


class DatasetWithdrawn(SiteError):
    """These very rows were taken out of use, because somebody who is in them was erased."""

    field = "file"


class DatasetDamaged(SiteError):
    """The file of a data set is gone, or is not what was stored. Data: dataset."""


class DatasetInUse(SiteError):
    """A training run stands on it. Data: dataset."""


class UpstreamCut(ProviderFailure):
    """The stream ended before its end was announced; the pieces so far are kept. Data: provider."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """How one class of errors is shown."""

    status: int
    code: str
    message: str | Promise


# The most special class that has a row wins, so a subclass without one is shown as its base.
TABLE: dict[type[SiteError], ErrorRow] = {
    SiteError: ErrorRow(500, "internal_error", _("Something went wrong on our side.")),
    InvalidInput: ErrorRow(400, "invalid_value", _("{reason}")),
    UnsupportedParameter: ErrorRow(400, "unsupported_parameter", _("“{field}” is not supported here.")),
    UnknownParameter: ErrorRow(400, "unknown_parameter", _("This field is not known here.")),
    TooLarge: ErrorRow(413, "too_large", _("The limit is {limit} {unit}.")),
    NotSignedIn: ErrorRow(401, "not_authenticated", _("Sign in, or send a valid bearer token.")),
    WrongCredentials: ErrorRow(401, "wrong_credentials", _("The username or the password is not right.")),
    NotAllowed: ErrorRow(403, "permission_denied", _("You may not do this.")),
    ModelNotAllowed: ErrorRow(403, "model_not_allowed", _("This API key may not ask the model “{model}”.")),
    RateLimited: ErrorRow(429, "rate_limited", _("Too many requests. Wait a moment and try again.")),
    BudgetExhausted: ErrorRow(
        429,
        "budget_exhausted",
        _("What is left of this month’s budget is less than this may cost. Next month it starts anew."),
    ),
    BudgetReserved: ErrorRow(
        429,
        "budget_reserved",
        _("Answers that are being written have set aside the rest of the budget. Try again in a moment."),
    ),
    BudgetTooSmall: ErrorRow(
        429,
        "budget_too_small",
        _("This may cost more than the whole budget of a month. Ask for a shorter answer (max_tokens)."),
    ),
    LastAdministrator: ErrorRow(
        409,
        "last_administrator",
        _("This is the only active superuser of the site. Make another one first."),
    ),
    ErasureUnfinished: ErrorRow(
        503,
        "erasure_unfinished",
        _("The account is closed, but not all of it could be erased yet. An operator has to repeat it."),
    ),
    CsrfFailed: ErrorRow(
        403, "csrf_failed", _("The request did not come from our own page. Reload it and try again.")
    ),
    NotFound: ErrorRow(404, "not_found", _("There is no such object.")),
    MethodNotAllowed: ErrorRow(405, "method_not_allowed", _("This address does not take that method.")),
    UnsupportedMediaType: ErrorRow(415, "unsupported_media_type", _("Send the body as application/json.")),
    UnsupportedFile: ErrorRow(
        415,
        "unsupported_file",
        _("Files are taken as PDF, DOCX, HTML, Markdown, TXT or CSV, and have to be what their name says."),
    ),
    ModelNotFound: ErrorRow(404, "model_not_found", _("There is no model named “{model}”.")),
    IdempotencyConflict: ErrorRow(
        409,
        "idempotency_conflict",
        _("This Idempotency-Key was used for another request. Send a new key with a new request."),
    ),
    ContextLengthExceeded: ErrorRow(
        400,
        "context_length_exceeded",
        _("The prompt has {tokens} tokens; this model takes {limit} at most."),
    ),
    ServerRestarting: ErrorRow(
        503, "server_restarting", _("The server is restarting. Try again in a moment.")
    ),
    DatabaseAway: ErrorRow(
        503, "database_unavailable", _("The site’s database does not answer. Try again in a moment.")
    ),
    AnswerNotSaved: ErrorRow(
        503,
        "not_saved",
        _("The site’s database does not answer, so this could not be saved. Copy what you need of it."),
    ),
    Interrupted: ErrorRow(
        503, "interrupted", _("The server stopped while it wrote this. What it had is kept.")
    ),
    ProviderFailure: ErrorRow(502, "provider_error", _("The provider “{provider}” failed.")),
    ProviderNotConfigured: ErrorRow(
        503,
        "provider_not_configured",
        _("The provider “{provider}” has no key: the operator has to set {setting}."),
    ),
    ProviderAddressRefused: ErrorRow(
        503,
        "provider_address_refused",
        _("The address of this model at “{provider}” is not one that the operator allows."),
    ),
    ProviderUnavailable: ErrorRow(
        503, "provider_unavailable", _("The provider “{provider}” cannot be reached at the moment.")
    ),
    LocalModelUnavailable: ErrorRow(
        503,
        "model_unavailable",
        _("The local model is not running yet. Try again in a moment; if it lasts, its log says why."),
    ),
    ProviderRateLimited: ErrorRow(
        503, "provider_rate_limited", _("The provider “{provider}” takes no more requests at the moment.")
    ),
    RequestRejected: ErrorRow(
        400,
        "request_rejected",
        _("The provider “{provider}” does not accept this request: one of its values, or what it asks for."),
    ),
    ProviderRejected: ErrorRow(502, "provider_rejected", _("The provider “{provider}” refused the request.")),
    ProviderTimeout: ErrorRow(
        504, "provider_timeout", _("The provider “{provider}” did not answer in time.")
    ),
    ProviderBusy: ErrorRow(
        503,
        "provider_busy",
        _("Too many questions wait for the provider “{provider}”. Try again in a moment."),
    ),
    NoProviderLeft: ErrorRow(
        503,
        "no_provider",
        _("The provider “{provider}” is paused after failures, and no other model can answer in its place."),
    ),
    EmbedderUnavailable: ErrorRow(
        503,
        "embedder_unavailable",
        _("The embedding model is not ready. Try again in a moment; if it lasts, the model’s log says why."),
    ),
    SearchIncomplete: ErrorRow(
        503,
        "search_incomplete",
        _("Nothing was found so far, but documents are still being taken in. Try again in a moment."),
    ),
    DiskFull: ErrorRow(
        507, "disk_full", _("The server has no space left for files. Tell who runs it; your data is safe.")
    ),
    StorageUsedUp: ErrorRow(
        413,
        "storage_used_up",
        _("Your documents would take more than the {limit} MB that are yours. Delete some of them first."),
    ),
    PromotionRefused: ErrorRow(409, "promotion_refused", _("{reason}")),
    RunRefused: ErrorRow(409, "run_refused", _("{reason}")),
    EvaluationRefused: ErrorRow(409, "evaluation_refused", _("{reason}")),
    UnsupportedDataset: ErrorRow(
        415,
        "unsupported_dataset",
        _("Data sets are taken as JSON, JSONL, CSV, TXT or Parquet, and have to be what their name says."),
    ),
    DatasetUnreadable: ErrorRow(422, "dataset_unreadable", _("{reason}")),
    DatasetWithdrawn: ErrorRow(
        409,
        "dataset_withdrawn",
        _("These rows were taken out of use, because somebody who is in them was erased."),
    ),
    DatasetDamaged: ErrorRow(
        409,
        "dataset_damaged",
        _("The file of “{dataset}” is gone or was changed. Import it again, or restore it from a backup."),
    ),
    DatasetInUse: ErrorRow(
        409, "dataset_in_use", _("A training run stands on “{dataset}”, so it cannot be deleted.")
    ),
    UpstreamCut: ErrorRow(
        502,
        "upstream_cut",
        _("The provider “{provider}” stopped in the middle. What it had written is kept."),
    ),
}


@dataclass(frozen=True, slots=True)
class PublicError:
    """One error as any door may show it."""

    status: int
    code: str
    message: str
    field: str | None = None
    retry_after: float | None = None

    def as_dict(self, request_id: str | None) -> dict[str, Any]:
        """The envelope that every JSON door uses."""
        return {
            "error": {
                "code": self.code,
                "message": self.message,
                "field": self.field,
                "request_id": request_id,
            }
        }


def describe(error: BaseException) -> PublicError:
    """The public face of `error`; an exception that is not ours is shown as an internal error."""
    if not isinstance(error, SiteError):
        error = SiteError()
    row = next(TABLE[kind] for kind in type(error).__mro__ if kind in TABLE)
    message = str(row.message).format_map(error.data)
    return PublicError(row.status, row.code, message, error.field, error.retry_after)


def message_of(code: str, data: dict[str, Any]) -> str:
    """The public message of an error that was stored as its code and data."""
    return str(_row(code).message).format_map(data)


def told(code: str, message: str) -> PublicError:
    """The public face of an error that has been told as an event already."""
    return PublicError(_row(code).status, code, message)


def _row(code: str) -> ErrorRow:
    return next((row for row in TABLE.values() if row.code == code), TABLE[SiteError])
