"""A child of trainings that kills itself once, in the middle of writing a checkpoint."""

import os
import signal
import sys
from pathlib import Path

from training.child import __main__ as child
from training.child import checkpoints

DIES_AT = 10
"""Files: the second of the third checkpoint's four."""


def main():
    mark = Path(sys.argv[2]) / "died"
    write_file, written = checkpoints.write_file, []

    def die(path, data):
        written.append(path)
        if len(written) == DIES_AT and not mark.exists():
            mark.touch()
            path.write_bytes(data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        return write_file(path, data)

    checkpoints.write_file = die
    child.main()


if __name__ == "__main__":
    main()
