# ruff: noqa: F811
"""Archives whose rows and manifests are nonsense, and whose digests are right."""

import hashlib
import json

import pytest
from django.db import connection

from llmsite.backup.refusal import Refused
from llmsite.backup.restoring import restore
from llmsite.tests.backup.test_damage import backup, json_with, replaced, rewritten, untouched  # noqa: F401

pytestmark = pytest.mark.django_db(transaction=True)


def forged(place, *, rows=None, manifest=lambda one: one):
    digests = {}

    def change(info, content):
        if rows and info.name.startswith("rows/accounts.User/"):
            content = rows(content)
            digests[info.name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
        if info.name == "manifest.json":
            told = json.loads(content)
            told["parts"] |= digests
            content = json.dumps(manifest(told)).encode()
        return [(info, content)]

    return rewritten(place, change)


@pytest.mark.parametrize("line", [b"5\n", b"null\n", b'["x"]\n', b"{}\n", b"[" * 100_000 + b"\n"])
def test_a_line_that_is_no_row(backup, untouched, line):
    with pytest.raises(Refused, match=r"is no row of this table"):
        restore(forged(backup, rows=lambda content: content + line), force=True)
    untouched()


def test_a_value_that_its_column_does_not_take(backup, untouched):
    def rows(content):
        first, *rest = content.splitlines(keepends=True)
        row = [
            "nonsense" if isinstance(one, str) and one.count("-") == 4 else one for one in json.loads(first)
        ]
        return json.dumps(row).encode() + b"\n" + b"".join(rest)

    with pytest.raises(Refused, match=r"in its line 1, \w+ is no such value") as refused:
        restore(forged(backup, rows=rows), force=True)
    assert "nonsense" not in str(refused.value)
    untouched()


@pytest.mark.parametrize("odd", ["\ud800", "a\0b"], ids=["surrogate", "NUL"])
def test_a_text_that_no_database_takes(backup, untouched, odd):
    def rows(content):
        return content.replace(b'"alice"', json.dumps(odd).encode())

    if odd == "a\0b" and connection.vendor == "sqlite":
        # It takes this one, and gives it back.
        restore(forged(backup, rows=rows), force=True)
        return
    with pytest.raises(Refused, match=r"column does not take|did not take it"):
        restore(forged(backup, rows=rows), force=True)
    untouched()


def test_a_refusal_is_one_line_and_speaks_to_no_terminal(backup, untouched):
    told = {"site": "1\n\x1b]0;evil\x07", "format": 2}
    with pytest.raises(Refused) as refused:
        restore(rewritten(backup, replaced("about.json", json_with(**told))), force=True)
    assert str(refused.value).isprintable()
    untouched()


@pytest.mark.parametrize("migrations", [5, None, [["a"]], ["ab"], [[1, 2]], {"a": "b"}], ids=str)
def test_a_beginning_that_is_none(backup, untouched, migrations):
    with pytest.raises(Refused, match=r"about\.json cannot be read"):
        restore(rewritten(backup, replaced("about.json", json_with(migrations=migrations))), force=True)
    untouched()


@pytest.mark.parametrize(
    "values",
    [
        {"tables": {"accounts.User": 5}},
        {"tables": {"accounts.User": {}}},
        {"files": 5},
        {"missing": 5},
        {"migrations": 5},
        {"migrations": [["a"]]},
        {"parts": {"x": 5}},
        {"missing": [5]},
        {"files": {"documents": "many"}},
        {"tables": {"accounts.User": {"rows": 1, "columns": [["id"]]}}},
    ],
    ids=str,
)
def test_a_manifest_that_is_none(backup, untouched, values):
    with pytest.raises(Refused):
        restore(forged(backup, manifest=lambda one: one | values), force=True)
    untouched()
