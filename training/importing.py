"""Data sets come into being: from a file, or from what people said of answers. Nothing is half stored."""

import json
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from feedback import export
from llmsite.core.errors import DatabaseAway, DatasetUnreadable, InvalidInput
from training import reading, storage, versions
from training.formats.problems import BadRow
from training.formats.shapes import SHAPES
from training.formats.turns import CONTROL
from training.models import Layout
from training.problems import Problem
from training.reading import Reading
from training.report import Facts
from training.rows import Row, content_of
from training.storage import Draft
from training.tokens import tokenizer_file
from training.versions import LEAST_ROWS, Imported, PeopleChanged, Person, Rows

NAME_LENGTH = 100
COLUMNS = ("system", "prompt", "completion", "chosen", "rejected", "label", "text", "messages")
"""The columns of a file that may be named otherwise there."""
TRIES = 3
"""How often an import is begun again because somebody in it took back what they allowed meanwhile."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What a file would become. `problems` are the first rows that are not right, of `bad`.

    In `tools` rows what tools were asked, or gave, is plain text.
    """

    layout: str
    shape: str
    mapping: dict[str, str]
    rows: list[Row]
    count: int
    problems: list[Problem]
    bad: int
    tools: int
    report: dict[str, Any]


# --- From a file ------------------------------------------------------------------------------------


def import_file(
    path: Path,
    name: str,
    *,
    dataset: str,
    user: User | None,
    columns: Mapping[str, str] | None = None,
    leave_out_bad: bool = False,
) -> Imported:
    """Make the file at `path`, which was called `name`, a version of the data set named `dataset`.

    `columns` are names of ours (COLUMNS) with those that the file has for them. Without `leave_out_bad` one
    row that is not right refuses the whole; with it, rows longer than the model's context are left out, too.
    Raises InvalidInput, UnsupportedDataset, DatasetUnreadable, DatasetWithdrawn, TooLarge and DiskFull.
    """
    title, known = clean_name(dataset), clean_columns(columns or {})
    kind = reading.kind_of(name, path)
    storage.sweep()
    limit = settings.LOCAL_CONTEXT if leave_out_bad and tokenizer_file() else None
    with storage.draft() as draft:
        read = reading.read(path, kind, columns=known, most_tokens=limit, keep=draft.add)
        if read.bad and not leave_out_bad:
            raise reading.refusal_of(read)
        _require_rows(read.facts)
        origin = {"source": "file", "file": shown_name(name), "format": kind, "shape": read.shape}
        return _again(
            lambda: _from_file(read, draft, title, user, origin=origin, leave_out_bad=leave_out_bad)
        )


def look_at(path: Path, name: str, *, columns: Mapping[str, str] | None = None) -> Preview:
    """What the file would become; nothing is stored. Raises as `import_file` does, but not for bad rows."""
    kind = reading.kind_of(name, path)
    read = reading.read(
        path, kind, columns=clean_columns(columns or {}), most_tokens=None, keep=lambda line: None
    )
    report = versions.report_on(read.facts) if read.facts.count else {}
    return Preview(
        read.layout,
        read.shape,
        read.mapping,
        read.first,
        read.facts.count,
        read.problems,
        read.bad,
        read.tools,
        report,
    )


def _from_file(
    read: Reading, draft: Draft, title: str, user: User | None, *, origin: dict[str, Any], leave_out_bad: bool
) -> Imported:
    """The rows of the draft, without those whose people do not allow it: these are as bad as others."""
    people, unwilling = _people_of(read)
    problems = [Problem("unwilling", read.facts.lines[number]) for number in sorted(unwilling)]
    if problems and not leave_out_bad:
        raise DatasetUnreadable(reason=Problem.several(problems, len(problems)), field="file")
    first = [problem.as_dict() for problem in [*read.problems, *problems][: reading.NAMED_PROBLEMS]]
    origin = origin | {"mapping": read.mapping}
    origin["left_out"] = {"rows": read.bad + len(problems), "first": first}
    values = {"layout": read.layout, "origin": origin}
    if not unwilling:
        values["report"] = versions.report_on(read.facts)
        return versions.store(draft, title, user, values=values, people=people)
    staying: dict[int, Person] = {}
    with versions.rows_to_store() as rows:
        for number, line in enumerate(draft.lines()):
            if number in unwilling:
                continue
            if number in people:
                staying[rows.facts.count] = people[number]
            rows.add(json.loads(line), line=read.facts.lines[number])
        _require_rows(rows.facts)
        values["report"] = versions.report_on(rows.facts)
        return versions.store(rows.draft, title, user, values=values, people=staying)


def _people_of(read: Reading) -> tuple[dict[int, Person], set[int]]:
    """Whose rows these are, as an export that comes back has them; and those whose people do not allow it.

    Rows are told by what is in them. Where several people said the same, each has one of them, whoever allows
    training first; the last of them has what is left.
    """
    if read.layout == Layout.TEXT:
        return {}, set()
    numbers: dict[bytes, list[int]] = {}
    for number, content in enumerate(read.facts.contents):
        numbers.setdefault(content, []).append(number)
    willing, unwilling = _known_people(export.ExportFormat(read.layout), numbers.keys())
    found: dict[int, Person] = {}
    refused: set[int] = set()
    for content, known in numbers.items():
        allow = willing.get(content, [])
        persons = allow + unwilling.get(content, [])
        for at, number in enumerate(known if persons else ()):
            found[number] = persons[min(at, len(persons) - 1)]
            if at >= len(allow) and len(allow) < len(persons):
                refused.add(number)
    return found, refused


def _known_people(
    wanted: export.ExportFormat, contents: Set[bytes]
) -> tuple[dict[bytes, list[Person]], dict[bytes, list[Person]]]:
    """Who is known to have said any of these: those who allow training on it, and the others."""
    allowing = User.objects.filter(is_active=True, training_consent_at__isnull=False)
    allow = set(allowing.values_list("pk", flat=True))
    willing: dict[bytes, list[Person]] = {}
    unwilling: dict[bytes, list[Person]] = {}
    for feedback, data in export.known(wanted):
        is_willing = feedback.consented_at is not None and feedback.user_id in allow
        for row in _converted(wanted, data):
            if isinstance(row, dict) and (content := content_of(row)) in contents:
                side = willing if is_willing else unwilling
                side.setdefault(content, []).append(Person(feedback.pk, feedback.user_id))
    return willing, unwilling


# --- From feedback ----------------------------------------------------------------------------------


def from_feedback(wanted: str, *, dataset: str, user: User | None) -> Imported:
    """Make all that may be learnt from feedback, as "sft", "dpo" or "kto", a version of a data set.

    A row that cannot be trained on is left out, and the version's origin says so. Raises as `import_file`.
    """
    title = clean_name(dataset)
    if wanted not in (Layout.SFT, Layout.PREFERENCE, Layout.RATED):
        raise InvalidInput(
            field="format", reason=_("Choose one of: %(choices)s.") % {"choices": "sft, dpo, kto"}
        )
    storage.sweep()

    def build() -> Imported:
        with versions.rows_to_store() as rows:
            return _from_feedback(rows, wanted, title, user)

    return _again(build)


def _from_feedback(rows: Rows, wanted: str, title: str, user: User | None) -> Imported:
    people: dict[int, Person] = {}
    left_out: list[Problem] = []
    for line, (row, person) in enumerate(_feedback_rows(export.ExportFormat(wanted)), start=1):
        if isinstance(row, BadRow):
            left_out.append(Problem(row.code, line, row.data))
            continue
        people[rows.facts.count] = person
        rows.add(row, line=line)
    if not rows.facts.count and not left_out:
        raise reading.unreadable("no_feedback")
    _require_rows(rows.facts)
    first = [problem.as_dict() for problem in left_out[: reading.NAMED_PROBLEMS]]
    origin: dict[str, Any] = {"source": "feedback", "format": wanted, "at": timezone.now().isoformat()}
    origin["left_out"] = {"rows": len(left_out), "first": first}
    values = {"layout": wanted, "origin": origin, "report": versions.report_on(rows.facts)}
    return versions.store(rows.draft, title, user, values=values, people=people)


def _feedback_rows(wanted: export.ExportFormat) -> Iterator[tuple[Row | BadRow, Person]]:
    """The rows of an export as they are kept, or what is wrong with them. Closed accounts teach nothing."""
    closed = set(User.objects.filter(is_active=False).values_list("pk", flat=True))
    for exported in export.rows(wanted):
        if exported.user_id in closed:
            continue
        person = Person(exported.feedback_id, exported.user_id)
        yield from ((row, person) for row in _converted(wanted, exported.data))


def _converted(wanted: export.ExportFormat, data: dict[str, Any]) -> list[Row | BadRow]:
    shape = next(shape for shape in SHAPES if shape.name == _SHAPES[wanted])
    try:
        return list(shape.convert(data))
    except BadRow as error:
        return [error]


_SHAPES = {
    export.ExportFormat.SFT: "messages",
    export.ExportFormat.DPO: "preference",
    export.ExportFormat.KTO: "rated",
}


# --- What both have in common -----------------------------------------------------------------------


def _again(build: Callable[[], Imported]) -> Imported:
    """Build it anew where people have changed their minds meanwhile. Raises DatabaseAway where they go on."""
    for _try in range(TRIES):
        try:
            return build()
        except PeopleChanged:
            continue
    raise DatabaseAway


def _require_rows(facts: Facts) -> None:
    if facts.count < LEAST_ROWS:
        raise reading.unreadable("too_few" if facts.count else "no_rows", count=facts.count)


# --- What callers give ------------------------------------------------------------------------------


def clean_name(name: str) -> str:
    """A name of a data set. Raises InvalidInput."""
    name = " ".join(name.split())
    if not name:
        raise InvalidInput(field="name", reason=_("This field may not be empty."))
    if len(name) > NAME_LENGTH or CONTROL.search(name):
        reason = _("A name has %(most)s characters at most, and none that cannot be shown.")
        raise InvalidInput(field="name", reason=reason % {"most": NAME_LENGTH})
    return name


def clean_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """Our names of columns with the file's. Raises InvalidInput for a name that is none of ours."""
    for ours, theirs in columns.items():
        if ours not in COLUMNS or not theirs.strip() or len(theirs) > NAME_LENGTH:
            reason = _("Give pairs such as prompt=question; the names before the sign are: %(names)s.")
            raise InvalidInput(field="columns", reason=reason % {"names": ", ".join(COLUMNS)})
    return dict(columns)


def columns_of(text: str) -> dict[str, str]:
    """What somebody typed, such as "prompt=question, completion=reply". Raises InvalidInput."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    return clean_columns({ours.strip().lower(): theirs.strip() for ours, _sign, theirs in pairs})


def shown_name(name: str) -> str:
    """A file's name that can be shown: without folders and control marks."""
    from embeddings.uploads import safe_name

    return safe_name(name)
