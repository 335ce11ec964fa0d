"""Dates and times on the pages, one way of writing them: `{% load moments %}`.

Each filter gives a <time> element, or nothing for None. The site computes in UTC, and says so;
`static/js/times.js` then shows a `moment` in the reader's own zone. `exact` and `clock` stay in UTC: they
stand beside charts and tables that count by it. The formats are in `llmsite/formats/`.
"""

from datetime import date, datetime

from django import template
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()
_NOTHING = SafeString("")


@register.filter
def moment(value: datetime | None) -> SafeString:
    """A moment in a list or among facts: short, and in words where one points at it."""
    return _in_reader_zone(value, "short", "DATETIME_FORMAT")


@register.filter
def long_moment(value: datetime | None) -> SafeString:
    """A moment in a title."""
    return _in_reader_zone(value, "long", "LONG_DATETIME_FORMAT")


@register.filter
def day(value: date | None) -> SafeString:
    """A day, which is the same in every zone."""
    if value is None:
        return _NOTHING
    iso = f"{value:%Y-%m-%d}"
    return format_html('<time datetime="{}">{}</time>', iso, date_format(value, "DATE_FORMAT"))


@register.filter
def exact(value: datetime | None) -> SafeString:
    """A moment to the second, in UTC, as the page around it says."""
    return _in_utc(value, "EXACT_DATETIME_FORMAT")


@register.filter
def clock(value: datetime | None) -> SafeString:
    """A time of today to the second, likewise."""
    return _in_utc(value, "EXACT_TIME_FORMAT")


@register.filter
def in_words(value: datetime) -> str:
    """A moment as plain text, for an attribute."""
    return f"{date_format(value, 'LONG_DATETIME_FORMAT')} UTC"


def _in_reader_zone(value: datetime | None, length: str, form: str) -> SafeString:
    if value is None:
        return _NOTHING
    html = '<time datetime="{}" data-form="{}" title="{}">{} UTC</time>'
    return format_html(html, value.isoformat(), length, in_words(value), date_format(value, form))


def _in_utc(value: datetime | None, form: str) -> SafeString:
    if value is None:
        return _NOTHING
    return format_html('<time datetime="{}">{}</time>', value.isoformat(), date_format(value, form))
