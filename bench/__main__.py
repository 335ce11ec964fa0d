"""Runs the benchmarks one after another: `python -m bench [NAME...]`.

A benchmark is a module in this folder that prints its rows when run. Each runs in a process of its own,
so that none pays for what another has imported or left in memory.
"""

import subprocess
import sys
from pathlib import Path

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))


def main(wanted: list[str]) -> int:
    """Run the wanted benchmarks, or all; 1 if one of them failed."""
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        print(f"There is no benchmark {', '.join(unknown)}; there are: {', '.join(NAMES)}", file=sys.stderr)
        return 1
    failed = False
    for name in wanted or NAMES:
        print(f"\n== {name}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"bench.{name}"]).returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
