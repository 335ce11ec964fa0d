"""The SDKs of both major versions, each in a process that serves all tests."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from inference.tests.serving import serving

ROOT = Path(__file__).resolve().parents[3]
PREVIOUS = ROOT / ".venv" / "previous-sdks"
VERSIONS = ("current", "previous")


class Driver:
    """One process with one version of each SDK."""

    def __init__(self, version: str) -> None:
        environment = {**os.environ, "NO_PROXY": "127.0.0.1"}
        if version == "previous":
            assert PREVIOUS.is_dir(), "run scripts/install dev"
            environment["PYTHONPATH"] = str(PREVIOUS)
        command = [sys.executable, str(Path(__file__).with_name("driver.py"))]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def call(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="session")
def drivers() -> Iterator[dict[str, Driver]]:
    running = {version: Driver(version) for version in VERSIONS}
    yield running
    for driver in running.values():
        driver.close()


@dataclass
class SDK:
    """What a test calls the site with."""

    driver: Driver
    url: str

    async def openai(
        self, method: str, key: str, *, how: str = "whole", retries: int = 0, **arguments: Any
    ) -> dict[str, Any]:
        options = {"base_url": f"{self.url}/v1", "api_key": key, "max_retries": retries}
        return await self._call("openai", options, method, how, arguments)

    async def anthropic(
        self, method: str, key: str, *, how: str = "whole", retries: int = 0, **arguments: Any
    ) -> dict[str, Any]:
        options = {"base_url": self.url, "api_key": key, "max_retries": retries}
        return await self._call("anthropic", options, method, how, arguments)

    async def _call(
        self, sdk: str, options: dict[str, Any], method: str, how: str, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        order = {"sdk": sdk, "options": options, "method": method, "how": how, "arguments": arguments}
        return await asyncio.to_thread(self.driver.call, order)


@pytest_asyncio.fixture(params=VERSIONS)
async def sdk(
    request: pytest.FixtureRequest, drivers: dict[str, Driver], transactional_db: None, settled: None
) -> AsyncIterator[SDK]:
    async with serving() as url:
        yield SDK(drivers[request.param], url)
