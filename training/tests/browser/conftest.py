"""An operator with a real browser on the real site."""

from inference.tests.browser.conftest import cookies, site, visit  # noqa: F401
