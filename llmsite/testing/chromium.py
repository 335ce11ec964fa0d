"""Finds a Chromium for the browser tests, and installs one where there is none.

In order: what CHROMIUM names, one on PATH, one that Playwright has downloaded, one from the npm package
`@sparticuz/chromium`, which needs no root and no system library. `python -m llmsite.testing.chromium`
installs the last into .cache/chromium when none of the others is there, and prints the path.
"""

import ctypes.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NPM_PACKAGE = "@sparticuz/chromium@153.0.0"
FOLDER = Path(__file__).resolve().parents[2] / ".cache" / "chromium"
UNPACKED = FOLDER / "unpacked"
ON_PATH = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
OF_PLAYWRIGHT = (
    "chromium-*/chrome-linux*/chrome",
    "chromium-*/chrome-mac*/*.app/Contents/MacOS/*",
    "chromium_headless_shell-*/chrome-*/*headless*shell",
)
# The package's program is packed with brotli; its own module unpacks it under the temporary folder.
UNPACK = "import chromium from '@sparticuz/chromium'; await chromium.executablePath()"


class ChromiumMissing(RuntimeError):
    """No Chromium was found, and none could be installed."""


def find_chromium() -> Path:
    """The browser's program. Raises ChromiumMissing with what to do."""
    found = next(_candidates(), None)
    if found is None:
        raise ChromiumMissing(
            "No Chromium found. Install one, or run scripts/test, which gets one through npm."
        )
    return found


def launch_options() -> dict[str, Any]:
    """What to give Playwright's `chromium.launch`."""
    program = find_chromium()
    environment = dict(os.environ)
    if program.parent == UNPACKED and ctypes.util.find_library("nss3") is None:
        environment["LD_LIBRARY_PATH"] = str(UNPACKED / "al2023" / "lib")
    # Chromium's sandbox refuses to run as root, as tests in a container do. The pages are our own.
    return {"executable_path": str(program), "args": ["--no-sandbox"], "env": environment}


def ensure_chromium() -> Path:
    """The browser's program, from npm if there is no other. Raises ChromiumMissing."""
    found = next(_candidates(), None)
    if found is not None:
        return found
    if not (shutil.which("npm") and shutil.which("node")):
        raise ChromiumMissing(
            "The browser tests need Chromium: install chromium, or npm (then one is fetched)."
        )
    _install()
    return find_chromium()


def _candidates() -> Iterator[Path]:
    named = os.environ.get("CHROMIUM")
    if named:
        yield Path(named)
    yield from (Path(found) for name in ON_PATH if (found := shutil.which(name)))
    for pattern in OF_PLAYWRIGHT:
        yield from (path for path in sorted(_playwright_folder().glob(pattern)) if os.access(path, os.X_OK))
    if (UNPACKED / "chromium").is_file():
        yield UNPACKED / "chromium"


def _playwright_folder() -> Path:
    named = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", "")
    if named not in ("", "0"):
        return Path(named)
    cache = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / cache / "ms-playwright"


def _install() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    # npm installs beside the nearest package.json, so this one keeps it here.
    (FOLDER / "package.json").write_text('{"private": true}\n')
    _run("npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--no-save", NPM_PACKAGE)
    half = FOLDER / "unpacking"
    shutil.rmtree(half, ignore_errors=True)
    half.mkdir()
    # Under this name of a runtime the module also unpacks the libraries that a bare system lacks.
    _run(
        "node",
        "--input-type=module",
        "--eval",
        UNPACK,
        TMPDIR=str(half),
        AWS_EXECUTION_ENV="AWS_Lambda_nodejs22.x",
    )
    shutil.rmtree(UNPACKED, ignore_errors=True)
    half.rename(UNPACKED)


def _run(*command: str, **environment: str) -> None:
    ended = subprocess.run(command, cwd=FOLDER, env=os.environ | environment, capture_output=True, text=True)
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no message"])[-1]
        raise ChromiumMissing(f"Chromium could not be installed: `{command[0]} …` said: {last}")


if __name__ == "__main__":
    try:
        print(ensure_chromium())
    except ChromiumMissing as error:
        sys.exit(str(error))
