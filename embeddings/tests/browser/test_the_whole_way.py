"""From a file to the marked passage: all three processes, the real models and a real browser."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from django.conf import settings

from inference.models import ChatModelConfig
from llmsite.testing.site import Site, database_url, free_port

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="session")]

PATIENCE = 120_000  # milliseconds: the first start on a machine makes the models ready

HEDGEHOG = "The hedgehog Mortimer lives behind the old mill in Tarnbrook and eats forty-two beetles a night."
FILLER = (
    "The village council met on a Tuesday and spoke about the repair of the bridge, as it does each year. "
)
HERON = "La garza Filomena anida junto al faro de Puerto Grajo y come treinta cangrejos al día."
RELLENO = (
    "El ayuntamiento se reunió el martes y habló de la reparación del puente, como hace todos los años. "
)


def markdown(name: str, *, about: str, between: str) -> dict[str, Any]:
    text = f"# One\n\n{between * 40}\n\n# Two\n\n{about}\n\n# Three\n\n{between * 40}"
    return {"name": name, "mimeType": "text/markdown", "buffer": text.encode()}


FILES = [
    markdown("tarnbrook.md", about=HEDGEHOG, between=FILLER),
    markdown("puerto-grajo.md", about=HERON, between=RELLENO),
]
SHOWN = """(selector) => {
  const { top, bottom } = document.querySelector(selector).getBoundingClientRect();
  return top < innerHeight && bottom > 0;
}"""


@contextmanager
def process(name: str, environment: dict[str, str]) -> Iterator[None]:
    running = subprocess.Popen([sys.executable, "manage.py", name], cwd=settings.BASE_DIR, env=environment)
    try:
        yield
    finally:
        running.terminate()
        running.wait(30)


@pytest.fixture(scope="module")
def site(
    django_db_setup: None, django_db_blocker: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    places = {
        "MODEL_URL": f"http://127.0.0.1:{free_port()}",
        "MEDIA_ROOT": str(tmp_path_factory.mktemp("media")),
        "LOG_LEVEL": "warning",
    }
    with django_db_blocker.unblock(), ExitStack() as started:
        environment = {
            **os.environ,
            **places,
            "DATABASE_URL": database_url(),
            "REDIS_URL": settings.REDIS_URL,
        }
        for name in ("serve_model", "worker"):
            started.enter_context(process(name, environment))
        yield started.enter_context(Site(**places, RATE_LIMIT="600/m"))


async def follow_to_the_passage(visitor, link) -> str:
    """Click a link to a source; the text that the reader marks, which has to be in view."""
    async with visitor.context.expect_page() as opened:
        await link.click()
    reader = await opened.value
    passage = reader.locator("mark#passage")
    await passage.wait_for()
    assert await reader.evaluate(SHOWN, "mark#passage")
    text = await passage.inner_text()
    await reader.close()
    return text


@pytest.mark.timeout(400)
async def test_a_file_is_uploaded_asked_about_and_read_where_the_answer_cites_it(visit):
    visitor = await visit()
    page = visitor.page
    page.set_default_timeout(PATIENCE)
    # What the model process says of itself may have come before the tables of this test were made.
    await ChatModelConfig.objects.aupdate_or_create(
        alias=settings.DEFAULT_MODEL,
        defaults={"provider": "local", "provider_model": settings.DEFAULT_MODEL, "languages": ["en"]},
    )

    await visitor.open("/documents/")
    await page.set_input_files("#upload-files", FILES)
    await page.locator("tr[data-status=ready]").nth(1).wait_for()
    await page.click("text=Ask these documents")
    await page.wait_for_url("**/chat/?collection=*")
    await page.select_option("#model", settings.DEFAULT_MODEL)
    await page.fill("#prompt", "Where does the hedgehog Mortimer live?")
    await page.keyboard.press("Enter")
    await visitor.answer.locator(".source").first.wait_for()
    await visitor.answer_ends()

    assert re.search("mill|Tarnbrook", await visitor.answer_text())
    assert await visitor.answer.get_attribute("data-grounding") == "passages"
    assert HEDGEHOG[:60] in await follow_to_the_passage(visitor, visitor.answer.locator(".source-link").first)

    # The model knows English alone, so a question in Spanish is answered in the document's own words.
    await page.fill("#prompt", "¿Dónde anida la garza Filomena y cuántos cangrejos come al día?")
    await page.keyboard.press("Enter")
    await page.wait_for_selector(".message:nth-child(4)[data-status=finished] .message-body[data-rendered]")

    assert await visitor.answer.get_attribute("data-grounding") == "extract"
    assert await visitor.answer.locator(".message-extract").is_visible()
    assert HERON in await visitor.answer_text()
    assert HERON[:60] in await follow_to_the_passage(visitor, visitor.answer.locator("a.citation").first)
    await page.reload()
    assert await visitor.answer.locator("a.citation").count() > 0
    assert await page.input_value("#collection") != ""
