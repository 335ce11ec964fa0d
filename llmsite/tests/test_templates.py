"""What all templates have in common: buttons that say what they do, and one way of writing dates."""

import re
from datetime import UTC, date, datetime

import pytest
from django.conf import settings
from django.template import engines
from django.utils import translation

TEMPLATES = sorted((settings.BASE_DIR / "templates").rglob("*.*"))
OWN_DATES = re.compile(r"\|\s*(?:date|time):(?:\"|')(?!YEAR_MONTH_FORMAT|Y-m\b)")
UNSHOWN_MOMENT = re.compile(r"\{\{\s*[\w.]+_at\s*\}\}")
MOMENT = datetime(2026, 3, 5, 21, 4, 9, tzinfo=UTC)


def rendered(source: str, language: str) -> str:
    with translation.override(language):
        template = engines["django"].from_string("{% load moments %}" + source)
        return template.render({"it": MOMENT, "day": date(2026, 3, 5), "none": None})


def test_every_button_says_whether_it_sends_its_form():
    buttons = [
        (path.name, tag) for path in TEMPLATES for tag in re.findall(r"<button\b[^>]*>", path.read_text())
    ]
    assert len(buttons) > 60
    assert [one for one in buttons if not re.search(r'\btype="(?:button|submit)"', one[1])] == []


def test_dates_are_written_by_the_filters_for_them():
    for path in TEMPLATES:
        text = path.read_text()
        assert not OWN_DATES.search(text), path
        assert not UNSHOWN_MOMENT.search(text), path


@pytest.mark.parametrize(
    ("source", "language", "shown"),
    [
        ("{{ it|moment }}", "en", "5 Mar 2026, 21:04 UTC"),
        ("{{ it|moment }}", "es", "5 mar 2026, 21:04 UTC"),
        ("{{ it|long_moment }}", "en", "5 March 2026, 21:04 UTC"),
        ("{{ it|long_moment }}", "es", "5 de marzo de 2026, 21:04 UTC"),
        ("{{ it|exact }}", "en", "5 Mar 2026, 21:04:09"),
        ("{{ it|clock }}", "es", "21:04:09"),
        ("{{ day|day }}", "en", "5 Mar 2026"),
        ("{{ day|day }}", "es", "5 mar 2026"),
    ],
)
def test_a_moment_is_a_time_in_the_readers_language(source, language, shown):
    html = rendered(source, language)
    assert re.fullmatch(r'<time datetime="2026-03-05[^"]*"[^>]*>(.*)</time>', html).group(1) == shown


def test_the_title_of_a_moment_and_what_the_admin_shows_are_of_one_kind():
    assert 'title="5 de marzo de 2026, 21:04 UTC"' in rendered("{{ it|moment }}", "es")
    assert rendered("{{ it }}", "en") == "5 Mar 2026, 21:04"
    assert rendered("{{ it|in_words }}", "en") == "5 March 2026, 21:04 UTC"


def test_no_moment_is_nothing():
    assert rendered("{{ none|moment }}{{ none|long_moment }}{{ none|day }}{{ none|exact }}", "en") == ""
