"""Who may do what at which address: one reviewed row for every route of the site.

`test_rights.py` walks the resolver and fails for a route without a row and for a row without a route.
A row says who is let in and how each verb that the route takes answers them; the test knows how everybody
else, and every other verb, is refused.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto


class Who(Enum):
    """Who is let in."""

    EVERYBODY = auto()
    SIGNED_IN = auto()
    """Whoever is signed in, to what is their own."""
    KEY_HOLDER = auto()
    """Whoever sends a key or a token in a header; a browser's cookies count for nothing there."""
    OWNER = auto()
    """The owner of the object in the address; for everybody else it does not exist."""
    STAFF = auto()
    """Whoever may enter the admin."""
    PERMITTED = auto()
    """Staff with the permission for this page of the admin; other staff get 403."""


Statuses = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """How a route answers those who are let in, by verb; in the admin `verbs` is empty: it takes any."""

    route: str
    who: Who
    verbs: dict[str, Statuses] = field(default_factory=dict)
    target: str = ""
    """Which object of the owner stands in the address."""
    body: dict[str, str] | None = None
    """What is sent. The owner of a conversation sends nothing where this would start an answer."""
    blind: tuple[str, ...] = ()
    """Verbs that do not look at the object: they answer everybody who is signed in alike."""


def row(
    route: str, who: Who, *, to: str = "", body: object = None, blind: object = (), **verbs: object
) -> Row:
    statuses = {verb: (given if isinstance(given, tuple) else (given,)) for verb, given in verbs.items()}
    return Row(route, who, statuses, to, body, blind)  # type: ignore[arg-type]


E, S, OWN = Who.EVERYBODY, Who.SIGNED_IN, Who.OWNER
_ALL_REDIRECT = dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), 302)
_ALL_MISSING = dict.fromkeys(_ALL_REDIRECT, 404)

PAGES = [
    row("login/", E, GET=(200, 302), POST=400),
    row("register/", E, GET=(200, 302), POST=400),
    row("logout/", E, POST=302),
    row("password-reset/", E, GET=200, POST=400),
    row("password-reset/sent/", E, GET=200),
    row("password-reset/done/", E, GET=200),
    row("password-reset/<str:uid>/<str:token>/", E, GET=410, POST=410),
    row("account/", S, GET=200),
    row("account/password/", S, GET=200, POST=400),
    row("account/email/", S, GET=302, POST=400),
    row("account/sessions/end-others/", S, GET=302, POST=302),
    row("account/sessions/<uuid:pk>/end/", OWN, to="session", blind=("GET",), GET=302, POST=302),
    row("account/keys/", S, GET=302, POST=400),
    row("account/keys/<int:pk>/revoke/", OWN, to="key", blind=("GET",), GET=302, POST=302),
    row("account/training/", S, GET=302, POST=302),
    row("account/download/", S, GET=302, POST=200),
    row("account/delete/", S, GET=302, POST=400),
    row("", S, GET=302),
    row("chat/", S, GET=200, POST=400),
    row("chat/<uuid:pk>/", OWN, to="conversation", body={"prompt": "Hello?"}, GET=200, POST=400),
    row("chat/<uuid:pk>/rename/", OWN, to="conversation", body={"title": "Mine"}, POST=302),
    row("chat/<uuid:pk>/delete/", OWN, to="conversation", POST=302),
    row("documents/", S, GET=200),
    row("documents/upload/", S, POST=302),
    row("documents/<uuid:pk>/", OWN, to="document", GET=200),
    row("documents/<uuid:pk>/retry/", OWN, to="document", POST=302),
    row("documents/<uuid:pk>/delete/", OWN, to="document", POST=302),
    row("documents/collections/", S, POST=400),
    row("documents/collections/<uuid:pk>/", OWN, to="collection", body={"name": "Mine"}, POST=400),
    row("documents/collections/<uuid:pk>/delete/", OWN, to="collection", POST=302),
    # For curators: others are refused before anything is looked up. test_queue_page.py has who is let in.
    row("feedback/", S, GET=403),
    row("feedback/<uuid:pk>/", S, GET=403),
    row("feedback/<uuid:pk>/claim/", S, POST=403),
    row("feedback/<uuid:pk>/release/", S, POST=403),
    row("feedback/<uuid:pk>/accept/", S, POST=403),
    row("feedback/<uuid:pk>/reject/", S, POST=403),
    row("feedback/<uuid:pk>/revoke/", S, POST=403),
    # For operators, as above; training/tests/pages/ has the others.
    row("retention/", S, GET=403),
    row("training/", S, GET=403),
    row("training/start/", S, POST=403),
    row("training/runs/<uuid:pk>/", S, GET=403),
    row("training/runs/<uuid:pk>/cancel/", S, POST=403),
    row("training/runs/<uuid:pk>/evaluate/", S, POST=403),
    row("training/runs/<uuid:pk>/promote/", S, POST=403),
    row("training/compare/", S, GET=403),
    row("training/models/", S, GET=403),
    row("training/rollback/", S, POST=403),
    row("training/origins/", S, GET=403),
    row("training/datasets/", S, GET=403),
    row("training/datasets/upload/", S, POST=403),
    row("training/datasets/preview/", S, POST=403),
    row("training/datasets/build/", S, POST=403),
    row("training/datasets/<uuid:pk>/", S, GET=403),
    row("training/datasets/<uuid:pk>/delete/", S, POST=403),
    # For operators, as above; dashboard/tests/test_pages.py has who is let in.
    row("dashboard/", S, GET=403),
    row("dashboard/data/", S, GET=403),
    row("dashboard/csv/", S, GET=403),
    row("dashboard/answers/", S, GET=403),
    row("dashboard/answers/<uuid:pk>/", S, GET=403),
    row("docs/", S, GET=200),
    row("i18n/setlang/", E, **_ALL_REDIRECT),
    row("jsi18n/", E, GET=200),
]

API = [
    row("api/auth/csrf", E, GET=200),
    row("api/auth/register", E, POST=400),
    row("api/auth/login", E, POST=400),
    row("api/auth/token", E, POST=400),
    row("api/auth/refresh", E, POST=(204, 401)),
    row("api/auth/logout", E, POST=204),
    row("api/auth/me", S, GET=200),
    row("api/auth/keys", S, GET=200, POST=400),
    row("api/auth/keys/<int:pk>", OWN, to="key", DELETE=204),
    row("api/predict", S, POST=400),
    row("api/query", S, POST=400),
    row("api/predict/stream", S, POST=400),
    row("api/generations/<uuid:pk>/events", OWN, to="generation", GET=200),
    row("api/generations/<uuid:pk>/stop", OWN, to="generation", POST=200),
    row("api/embed", S, POST=400),
    row("api/collections", S, GET=200, POST=400),
    row(
        "api/collections/<uuid:pk>",
        OWN,
        to="collection",
        body={"name": "Mine"},
        GET=200,
        PATCH=200,
        DELETE=204,
    ),
    row("api/documents", S, GET=200, POST=415),
    row("api/documents/<uuid:pk>", OWN, to="document", GET=200, DELETE=202),
    row("api/documents/<uuid:pk>/file", OWN, to="document", GET=200),
    row("api/documents/<uuid:pk>/retry", OWN, to="document", POST=202),
    row("api/documents/<uuid:pk>/pages", OWN, to="document", GET=200),
    row("api/search", S, POST=400),
    row("api/feedback", S, GET=200, POST=400),
    row("api/feedback/<uuid:pk>", OWN, to="feedback", DELETE=204),
    row("api/training/evaluations", S, GET=403, POST=403),
    row("api/training/evaluations/<uuid:pk>", S, GET=403),
    row("api/training/runs/<uuid:pk>/promote", S, POST=403),
    row("api/training/promotions", S, GET=403),
    row("api/training/rollback", S, POST=403),
    row("api/models", S, GET=200),
    # Whoever may not run the site is refused; test_model_api.py has the others.
    row("api/model", S, GET=200, POST=403),
    # Training is for operators; training/tests has them.
    row("api/training/runs", S, GET=403, POST=403),
    row("api/training/runs/<uuid:pk>", S, GET=403),
    row("api/training/runs/<uuid:pk>/cancel", S, POST=403),
    row("api/training/metrics", S, GET=403),
    row("api/training/datasets", S, GET=403, POST=403),
    row("api/training/datasets/preview", S, POST=403),
    row("api/training/datasets/<uuid:pk>", S, GET=403, DELETE=403),
    row("api/training/datasets/<uuid:pk>/rows", S, GET=403),
    row("api/cache", S, GET=403, DELETE=403, POST=403, PUT=403, PATCH=403),
    row("api/conversations", S, GET=200, POST=201),
    row(
        "api/conversations/<uuid:pk>",
        OWN,
        to="conversation",
        body={"title": "Mine"},
        GET=200,
        PATCH=200,
        DELETE=204,
    ),
    row(
        "api/conversations/<uuid:pk>/messages",
        OWN,
        to="conversation",
        body={"prompt": "Hello?"},
        GET=200,
        POST=400,
    ),
    # Whoever may not run the site is refused; llmsite/tests/test_metrics.py has the others.
    row("api/metrics", S, GET=403, POST=403, PUT=403, PATCH=403, DELETE=403),
    row("api/schema", S, GET=200),
    row("v1/models", Who.KEY_HOLDER, GET=200),
    row("v1/models/<path:name>", Who.KEY_HOLDER, GET=404),
    row("v1/chat/completions", Who.KEY_HOLDER, POST=400),
    row("v1/embeddings", Who.KEY_HOLDER, POST=400),
    row("v1/messages", Who.KEY_HOLDER, POST=400),
    row("v1/messages/count_tokens", Who.KEY_HOLDER, POST=400),
    row("health/live", E, GET=200),
    row("health/ready", E, GET=(200, 503)),
    row("health/stream", E, GET=200),
    # Whoever comes from this machine, as these callers do; llmsite/tests/test_metrics.py has the others.
    row("metrics", E, GET=200),
]

ADMIN_PAGES = [
    # To the sign-in; who is signed in already, and may not enter, is told so.
    row("admin/login/", E, **dict.fromkeys(_ALL_REDIRECT, (302, 403))),
    row("admin/logout/", E, POST=302),
    row("admin/", Who.STAFF),
    row("admin/<app_label>/", Who.STAFF),
    row("admin/<url>", Who.STAFF),
    row("admin/password_change/", E, **_ALL_REDIRECT),
    row("admin/password_change/done/", Who.STAFF),
    row("admin/autocomplete/", Who.PERMITTED),
    row("admin/jsi18n/", Who.STAFF),
    row("admin/r/<path:content_type_id>/<path:object_id>/", E, **_ALL_MISSING),
    row("admin/accounts/auditevent/export/", Who.PERMITTED),
    row("admin/accounts/user/<id>/password/", Who.PERMITTED, to="user"),
    row("admin/inference/conversation/<path:object_id>/read/", Who.PERMITTED, to="conversation"),
    row("admin/inference/chatmodelconfig/<path:object_id>/default/", Who.PERMITTED, to="model"),
    row("admin/inference/chatmodelconfig/clear-cache/", Who.PERMITTED),
]

# The tables that the admin shows, and the owner's row of each.
ADMIN_TABLES = {
    "accounts/session": "session",
    "accounts/apikey": "key",
    "accounts/team": "team",
    "accounts/auditevent": "event",
    "accounts/ledgerentry": "entry",
    "accounts/user": "user",
    "auth/group": "group",
    "embeddings/documentversion": "document_version",
    "inference/chatmodelconfig": "model",
    "inference/conversation": "conversation",
    "training/dataset": "dataset",
    "training/datasetversion": "dataset_version",
    "training/trainingrun": "run",
    "training/evaluation": "evaluation",
    "training/promotion": "promotion",
    "inference/generation": "generation",
    "inference/verifiedanswer": "verified",
    "feedback/feedback": "feedback",
    "feedback/example": "example",
    "accounts/reservation": "reservation",
    "accounts/spending": "spending",
    "django_tasks_database/dbtaskresult": "task",
    "embeddings/collection": "collection",
    "embeddings/document": "document",
    "embeddings/page": "page",
    "embeddings/chunk": "chunk",
    "embeddings/searchindex": "index",
    "inference/adapter": "adapter",
    "inference/engineprocess": "process",
    "inference/adapterload": "load",
    "inference/message": "question",
    "inference/answersource": "source",
    "training/datasetrow": "dataset_row",
    "training/metric": "metric",
    "training/evaluationanswer": "evaluation_answer",
}

# Those of which a page asks for a reason before it shows what somebody wrote.
PRIVATE_TABLES = (
    "embeddings/collection",
    "embeddings/document",
    "embeddings/documentversion",
    "embeddings/page",
    "embeddings/chunk",
    "feedback/feedback",
    "feedback/example",
    "inference/generation",
    "inference/message",
    "inference/answersource",
    "inference/verifiedanswer",
    "training/trainingrun",
    "training/evaluation",
    "training/evaluationanswer",
)
# What staff may add, change and delete there; all else is only read.
CHANGED_TABLES = ("accounts/user", "accounts/team", "auth/group", "inference/chatmodelconfig")


def _pages_of_table(table: str, target: str) -> Iterator[Row]:
    for page in ("", "add/"):
        yield row(f"admin/{table}/{page}", Who.PERMITTED)
    for page in ("history/", "delete/", "change/"):
        yield row(f"admin/{table}/<path:object_id>/{page}", Who.PERMITTED, to=target)
    # Leads to the page `change/`, whether there is such a row or not.
    yield row(f"admin/{table}/<path:object_id>/", Who.STAFF, to=target)


ADMIN = [
    *ADMIN_PAGES,
    *(
        row(f"admin/{table}/<path:object_id>/open/", Who.PERMITTED, to=ADMIN_TABLES[table])
        for table in PRIVATE_TABLES
    ),
    *(page for table, target in ADMIN_TABLES.items() for page in _pages_of_table(table, target)),
]

# What not even a superuser may do: rows that the site writes are only read, a role is never deleted, and the
# search of a field wants to know which field.
REFUSED_TO_ALL = {
    "admin/autocomplete/",
    "admin/auth/group/<path:object_id>/delete/",
    *(
        f"admin/{table}/{page}"
        for table in ADMIN_TABLES.keys() - set(CHANGED_TABLES)
        for page in ("add/", "<path:object_id>/delete/")
    ),
}

ROWS = [*PAGES, *API, *ADMIN]

SOCKETS = {"ws/chat/": Who.SIGNED_IN}
