"""The documentation of the API in a real browser, on a real web process.

The visitor fails the test for a report of the content security policy and a request to another host.
"""

import pytest

pytestmark = pytest.mark.asyncio(loop_scope="session")

PHONE = {"viewport": {"width": 375, "height": 812}, "is_mobile": True, "has_touch": True}
PREDICT = "#operations-Questions_and_answers-api_predict_create"


async def test_it_lists_the_doors_and_the_console_stays_empty(visit):
    visitor = await visit()
    page, said = visitor.page, []
    page.on("console", lambda message: said.append(message.text))
    await visitor.open("/chat/")
    await page.click(".user-menu summary")
    await page.click(".user-menu >> text=API documentation")

    await page.wait_for_selector(PREDICT)
    assert await page.locator(".opblock").count() > 30
    assert await page.title() == "API documentation · llmsite"
    assert await page.locator(".account-header h1").inner_text() == "API documentation"
    assert said == []


async def test_a_request_is_tried_by_keyboard_alone(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/docs/")
    operation = page.locator(PREDICT)
    await operation.locator(".opblock-summary-control").focus()
    await page.keyboard.press("Enter")
    await operation.locator(".try-out__btn").focus()
    await page.keyboard.press("Enter")
    await operation.locator("textarea").fill('{"prompt": "Hello there", "model": "echo"}')
    await operation.locator(".execute").focus()
    await page.keyboard.press("Enter")

    # The cookie of the page, with its CSRF token.
    live = operation.locator(".live-responses-table .response").first
    await live.wait_for()
    assert await live.locator(".response-col_status").first.inner_text() == "200"
    assert "Hello there" in await live.locator(".microlight").first.inner_text()


@pytest.mark.parametrize(
    ("options", "theme"), [({"locale": "es-ES"}, "light"), ({"color_scheme": "dark"}, "dark")]
)
async def test_it_fits_a_phone_a_language_and_a_theme(options, theme, visit):
    visitor = await visit(**PHONE, **options)
    page = visitor.page
    await visitor.open("/docs/")
    await page.wait_for_selector(PREDICT)

    await page.locator(f"{PREDICT} .opblock-summary-control").click()
    await page.wait_for_selector(f"{PREDICT} .responses-table")
    width = await page.evaluate("document.documentElement.scrollWidth")
    assert width == 375
    dark = await page.evaluate("document.documentElement.classList.contains('dark-mode')")
    assert dark == (theme == "dark")
    if "locale" in options:
        assert await page.locator(".account-header h1").inner_text() == "Documentación de la API"


async def test_text_is_readable_in_both_themes(visit):
    """Contrast of 4.5 to 1 at least, of what is read most."""
    for scheme in ("light", "dark"):
        visitor = await visit(color_scheme=scheme)
        page = visitor.page
        await visitor.open("/docs/")
        await page.wait_for_selector(PREDICT)
        await page.locator(f"{PREDICT} .opblock-summary-control").click()
        await page.wait_for_selector(f"{PREDICT} .responses-table")
        for part in (
            ".opblock-tag",
            ".opblock-summary-path",
            ".opblock-summary-description",
            ".opblock-description p",
            ".opblock-section-header h4",
            ".responses-inner td",
            ".docs-intro",
        ):
            contrast = await page.locator(part).first.evaluate(CONTRAST)
            assert contrast >= 4.5, (scheme, part, contrast)


async def test_the_chosen_theme_wins(visit):
    visitor = await visit()
    page = visitor.page
    await visitor.open("/docs/")
    await page.wait_for_selector(PREDICT)
    await page.click(".user-menu summary")
    await page.click("[data-theme-choice=dark]")
    assert await page.evaluate("document.documentElement.classList.contains('dark-mode')")


# How much lighter than its ground a text is, or darker: the ratio of WCAG 2.
CONTRAST = """element => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const read = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const over = (top, under) => [0, 1, 2].map((at) => (top[at] * top[3] + under[at] * (255 - top[3])) / 255);
  const grounds = [];
  for (let one = element; one; one = one.parentElement) {
    grounds.push(read(getComputedStyle(one).backgroundColor));
  }
  let ground = [255, 255, 255];
  for (const one of grounds.reverse()) ground = over(one, ground);
  const light = (color) => {
    const [red, green, blue] = color.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const text = light(over(read(getComputedStyle(element).color), ground));
  const [brighter, darker] = [text, light(ground)].sort((a, b) => b - a);
  return (brighter + 0.05) / (darker + 0.05);
}"""
