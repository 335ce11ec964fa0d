"""What can be wrong with a data set, as stable words; `training.problems` says them in sentences."""

from typing import Any


class BadRow(Exception):
    """One row is not right; the others may be."""

    def __init__(self, code: str, **data: Any) -> None:
        super().__init__(code)
        self.code = code
        self.data = data


class Unreadable(Exception):
    """The file as a whole gives no rows, or none behind this place."""

    def __init__(self, code: str, *, line: int | None = None, **data: Any) -> None:
        super().__init__(code)
        self.code = code
        self.line = line
        self.data = data
