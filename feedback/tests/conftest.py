"""What the tests of feedback share."""

from inference.tests.conftest import _standin, settled, standin, vendors

__all__ = ["_standin", "settled", "standin", "vendors"]
