"""What a child is given to do, and how it says something."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any


class ChildFailure(Exception):
    """The job cannot be done. `code` is a stable word of `training.failures`, `data` fills its sentence."""

    def __init__(self, code: str, **data: Any) -> None:
        super().__init__(code, data)
        self.code = code
        self.data = data


class Stopped(Exception):
    """The parent has asked for the end, and what was to be kept is kept."""


@dataclass(frozen=True, slots=True)
class Job:
    """`folder` is the working folder, and the only one that can be written to; `data` says what to do."""

    folder: Path
    data: dict[str, Any]
    files: Mapping[str, IO[bytes]] = field(default_factory=dict)
    """Opened by the parent."""
    output: int = -1
    """The descriptor that leads to the parent."""

    def tell(self, event: str, **values: Any) -> None:
        """One line of JSON. What is not a number any more (NaN) is told as null."""
        line = json.dumps({"event": event, **{name: _plain(value) for name, value in values.items()}})
        os.write(self.output, f"{line}\n".encode())


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
