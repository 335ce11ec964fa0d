"""What people call the device behind a `User-Agent` header."""

import re

from django.utils.translation import gettext as _

# In this order: most browsers also name those that they want to be taken for.
_BROWSERS = (
    ("Edge", r"Edg(e|A|iOS)?/"),
    ("Opera", r"OPR/|Opera"),
    ("Samsung Internet", r"SamsungBrowser/"),
    ("Firefox", r"Firefox/|FxiOS/"),
    ("Chrome", r"Chrome/|CriOS/|HeadlessChrome/|Chromium/"),
    ("Safari", r"Version/.* Safari/"),
)
_SYSTEMS = (
    ("iPhone", r"iPhone"),
    ("iPad", r"iPad"),
    ("Android", r"Android"),
    ("Windows", r"Windows"),
    ("macOS", r"Macintosh"),
    ("ChromeOS", r"CrOS"),
    ("Linux", r"Linux|X11"),
)
_PROGRAM = re.compile(r"^([A-Za-z][\w.+-]{0,39})(/|$)")


def device_name(user_agent: str) -> str:
    """ "Firefox on Linux", a program's own name, or "Unknown device"."""
    browser = _first(_BROWSERS, user_agent)
    system = _first(_SYSTEMS, user_agent)
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    program = _PROGRAM.match(user_agent)
    if program and program[1] != "Mozilla":
        return program[1]
    return browser or system or _("Unknown device")


def _first(patterns: tuple[tuple[str, str], ...], user_agent: str) -> str:
    return next((name for name, pattern in patterns if re.search(pattern, user_agent)), "")
