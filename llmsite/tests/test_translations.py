"""Every sentence of the site has its Spanish, and the compiled catalogs are those of the .po files."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import polib
import pytest
from django.conf import settings
from django.utils.translation.template import templatize

ROOT = Path(settings.BASE_DIR)
CATALOGS = ROOT / "locale" / "es" / "LC_MESSAGES"
DOMAINS = ("django", "djangojs")
APPS = ("accounts", "dashboard", "embeddings", "feedback", "inference", "llmsite", "training")
GETTEXT = {"_", "gettext", "gettext_lazy", "gettext_noop"}
GETTEXT |= {"ngettext", "ngettext_lazy", "pgettext", "pgettext_lazy"}
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}")
# The first argument of each call in a page's script, and in what Django makes out of a template.
SCRIPT_CALL = re.compile(r"""\bn?gettext\(\s*("(?:[^"\\]|\\.)*")""")
_TEXT = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
TEMPLATE_CALL = re.compile(rf"\b(?:n?gettext\(|pgettext\(u'[^']*', ){_TEXT}[,)]")


@pytest.mark.parametrize("domain", DOMAINS)
def test_everything_is_translated(domain: str) -> None:
    catalog = _catalog(domain)
    assert len(catalog) > 0
    assert [entry.msgid for entry in catalog if not entry.translated() or entry.fuzzy] == []
    assert [entry.msgid for entry in catalog.obsolete_entries()] == []


@pytest.mark.parametrize("domain", DOMAINS)
def test_plurals_have_all_forms_of_the_language(domain: str) -> None:
    """Spanish has three, the last of which is that of 0 and of 6; a missing one is shown in English."""
    catalog = _catalog(domain)
    declared = re.match(r"nplurals=(\d+);", catalog.metadata["Plural-Forms"])
    assert declared is not None
    forms = set(range(int(declared[1])))
    plurals = {entry.msgid: entry.msgstr_plural for entry in catalog if entry.msgid_plural}
    assert {msgid: found for msgid, found in plurals.items() if {n for n in found if found[n]} != forms} == {}


@pytest.mark.parametrize("domain", DOMAINS)
def test_placeholders_survive(domain: str) -> None:
    for entry in _catalog(domain):
        for translated in _translations(entry):
            original = entry.msgid_plural or entry.msgid
            assert set(PLACEHOLDER.findall(translated)) == set(PLACEHOLDER.findall(original)), entry.msgid


@pytest.mark.parametrize("domain", DOMAINS)
def test_compiled_catalog_is_current(domain: str) -> None:
    compiled = polib.mofile(str(CATALOGS / f"{domain}.mo"))
    assert _content(compiled) == _content(_catalog(domain)), "run manage.py compilemessages"


def test_catalogs_have_every_string_of_the_code() -> None:
    in_code = {"django": {*_python_strings(), *_template_strings()}, "djangojs": set(_script_strings())}
    for domain in DOMAINS:
        known = {entry.msgid for entry in _catalog(domain)}
        assert in_code[domain] - known == set(), "run manage.py makemessages, and translate"
        assert known - in_code[domain] == set(), "no longer used"


def _catalog(domain: str) -> polib.POFile:
    return polib.pofile(str(CATALOGS / f"{domain}.po"))


def _translations(entry: polib.POEntry) -> list[str]:
    return list(entry.msgstr_plural.values()) or [entry.msgstr]


def _content(catalog: polib.POFile | polib.MOFile) -> dict[tuple[str | None, str], list[str]]:
    return {(entry.msgctxt, entry.msgid): _translations(entry) for entry in catalog}


def _python_strings() -> Iterator[str]:
    for app in APPS:
        for path in (ROOT / app).rglob("*.py"):
            if "tests" not in path.parts:
                yield from _marked(ast.parse(path.read_text()))


def _marked(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in GETTEXT):
            continue
        position = 1 if node.func.id.startswith("pgettext") else 0
        argument = node.args[position]
        if isinstance(argument, ast.Constant):
            yield argument.value


def _template_strings() -> Iterator[str]:
    for path in (ROOT / "templates").rglob("*.*"):
        calls = TEMPLATE_CALL.findall(templatize(path.read_text()))
        yield from (ast.literal_eval(argument) for argument in calls)


def _script_strings() -> Iterator[str]:
    for path in (ROOT / "static" / "js").rglob("*.js"):
        yield from (ast.literal_eval(argument) for argument in SCRIPT_CALL.findall(path.read_text()))
