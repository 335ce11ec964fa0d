"""The visitor of the chat's tests."""

from inference.tests.browser.conftest import cookies, site, visit  # noqa: F401
