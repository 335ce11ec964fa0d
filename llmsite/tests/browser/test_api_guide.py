"""Every example of docs/api.md on a real site: in a shell, in Python, and in a page of another origin."""

import asyncio
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import pytest_asyncio
from asgiref.sync import sync_to_async
from playwright.async_api import Error

from accounts.keys import create_key
from embeddings.tests.fakes import ScriptedEncoder
from embeddings.tests.serving import serving
from inference.models import ChatModelConfig
from llmsite.testing.site import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "api.md").read_text()
PARTS = re.findall(r"^## (.+?)$(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
EXAMPLES = {
    heading: block
    for heading, text in PARTS
    for block in re.findall(r"^```(sh|python|js)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
}
SHOWN = {
    "Ask": [
        r'"text": ?"This is a scripted answer',
        r'"model": ?"smollm2-135m-instruct"',
        r'"conversation": ?"',
    ],
    "Stream": ["event: started", "event: delta", "event: finished"],
    "With OpenAI's SDK": [r"'smollm2-135m-instruct', 'all-MiniLM-L6-v2'\]", r"(?s)(This is a scripted.*){2}"],
    "With Anthropic's SDK": ["This is a scripted answer"],
    "From a page elsewhere": [r"^\d+ This is a scripted answer"],
    "Embeddings": [r'"embeddings": \[\[.*\], \[.*\]\]'],
    "Answers from documents": [r'"answered": ?false', r'"sources": ?\[\]', r'"confidence_score": ?0'],
    "Search documents": [r'"results": \[\]', r'"complete": true'],
    "Ask once": [r'(?s)"id": ("[0-9a-f-]{36}").*\n.*"id": \1'],
}


async def test_every_example_is_run():
    assert set(SHOWN) == set(EXAMPLES)
    assert len(re.findall(r"^```", GUIDE, re.MULTILINE)) == 2 * (len(EXAMPLES) + 1)  # And the form of errors.


class Page(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def elsewhere():
    """Two other origins; the site names the first."""
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), Page) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever).start()
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def site(django_db_setup, django_db_blocker, elsewhere):
    encoder = ScriptedEncoder()
    with serving(lambda: encoder) as model_process:
        settings = {
            "MODEL_URL": f"http://127.0.0.1:{model_process.port}",
            "CORS_ALLOWED_ORIGINS": elsewhere[0],
        }
        with django_db_blocker.unblock(), Site(**settings) as running:
            yield running
        encoder.release_all()


@pytest_asyncio.fixture(loop_scope="session")
async def key(transactional_db, site, alice):
    def make():
        ChatModelConfig.objects.all().delete()
        alias = "smollm2-135m-instruct"
        ChatModelConfig.objects.create(
            alias=alias, provider="scripted", provider_model="scripted", is_default=True
        )
        return create_key(alice, "My program", scopes=["chat", "embed", "documents"])[1]

    return await sync_to_async(make)()


@pytest.mark.parametrize("heading", SHOWN)
async def test_an_example_works_as_it_stands(heading, key, site, browser, elsewhere):
    language, code = EXAMPLES[heading]
    if language == "js":
        output = await in_a_page(code, browser, elsewhere[0], site, key)
    else:
        command = ["bash", "-ec", code] if language == "sh" else [sys.executable, "-c", code]
        output = await run(command, LLMSITE_URL=site.url, LLMSITE_KEY=key)

    for expected in SHOWN[heading]:
        assert re.search(expected, output, re.MULTILINE), output


async def test_a_page_that_is_not_named_is_refused_by_the_browser(key, site, browser, elsewhere):
    _, code = EXAMPLES["From a page elsewhere"]
    with pytest.raises(Error, match="Failed to fetch"):
        await in_a_page(code, browser, elsewhere[1], site, key)


async def run(command, **environment):
    process = await asyncio.create_subprocess_exec(
        *command,
        env={**os.environ, "NO_PROXY": "127.0.0.1", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 0, f"{output.decode()}\n{errors.decode()}"
    return output.decode()


async def in_a_page(code, browser, origin, site, key):
    """What the code writes to the console of a page of `origin`."""
    page = await browser.new_page()
    try:
        await page.goto(origin)
        script = f"""async ([LLMSITE_URL, LLMSITE_KEY]) => {{
          const lines = [];
          const console = {{ log: (...values) => lines.push(values.join(" ")) }};
          {code}
          return lines.join("\\n");
        }}"""
        return await page.evaluate(script, [site.url, key])
    finally:
        await page.close()
