"""An operator with a real browser: every chart with answers, without, and with hostile text everywhere."""

import asyncio

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from accounts.models import User
from accounts.roles import OPERATOR, set_roles
from dashboard import roller
from dashboard.tests.making import make_answer
from feedback.models import Feedback
from inference.tests.browser.conftest import PATIENCE
from training.models import Metric
from training.tests.making import make_run

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAUGHTY = "<script>alert(1)</script><img src=x onerror=alert(1)>\x1b[31m\u202eabc"
CHARTS = """() => Object.fromEntries([...document.querySelectorAll(".chart")].map((one) => {
  const chart = window.Chart?.getChart(one.querySelector("canvas"));
  return [one.dataset.key, chart ? {
    labels: chart.data.labels,
    names: chart.data.datasets.map((each) => each.label),
    points: chart.data.datasets.reduce((sum, each) => sum + each.data.filter((value) => value).length, 0),
    tooltip: (() => { chart.tooltip.setActiveElements([{ datasetIndex: 0, index: 0 }], { x: 0, y: 0 });
      chart.update("none");
      return chart.tooltip.title?.concat(chart.tooltip.body.flatMap((each) => each.lines)); })(),
  } : null];
}))"""
WIDE = """() => [...document.querySelectorAll("main *")]
  .filter((one) => one.getBoundingClientRect().right > innerWidth + 1 && !one.closest(".table-frame"))
  .map((one) => `${one.tagName}.${one.className}`)"""
EXPECTED = {
    *("requests", "errors", "latency", "first_token", "hits", "saved", "cost", "tokens", "models", "users"),
    *("keys", "unanswered", "feedback", "training"),
}


@pytest.fixture
def operator(cookies):
    alice = User.objects.get(username="alice")
    set_roles(alice, [OPERATOR])
    return alice


def fill(user, text=""):
    """Something in every chart; `text` is in every field that takes one."""
    names = {"model_alias": text or "scripted", "provider": (text or "scripted")[:50]}
    rows = [
        make_answer(user, cost_micro=2_000_000, **names),
        make_answer(
            user, status="failed", error_code=(text or "provider_timeout")[:50], request_id=text, **names
        ),
        make_answer(user, cache=(text or "l1")[:10], **names),
        make_answer(user, grounding="nothing", confidence=0.1, adapter=text, door=text[:20], **names),
    ]
    Feedback.objects.create(user=user, message=rows[0].message, rating=1, comment=text)
    run = make_run(name=(text or "First run")[:100], started_at=timezone.now(), step=20)
    Metric.objects.bulk_create(Metric(run=run, step=step, loss=2 / (step + 1)) for step in range(20))
    roller.roll_up()
    return rows


async def drawn(page):
    async with asyncio.timeout(PATIENCE / 1000):
        while not await page.evaluate("() => document.documentElement.dataset.charts === 'drawn'"):
            await page.wait_for_timeout(50)
    return await page.evaluate(CHARTS)


async def opened_dialogs(page):
    opened: list[str] = []
    page.on("dialog", lambda dialog: opened.append(dialog.message))
    return opened


async def test_without_answers_every_chart_says_so(visit, operator):
    visitor = await visit()
    await visitor.open("/dashboard/")
    charts = await drawn(visitor.page)
    assert charts.keys() == EXPECTED
    assert set(charts.values()) == {None}
    assert await visitor.page.locator(".chart-empty:visible").count() == len(EXPECTED)
    assert await visitor.page.get_by_text("The site is well.").is_visible()


async def test_every_chart_is_drawn_and_kept_true_while_somebody_looks(visit, operator):
    rows = await sync_to_async(fill)(operator)
    visitor = await visit()
    page = visitor.page
    await visitor.open("/dashboard/?range=1h&compare=1")
    charts = await drawn(page)
    assert {key for key, chart in charts.items() if chart and chart["points"]} == EXPECTED - {"keys", "saved"}

    table = page.locator("#chart-requests details")
    await table.get_by_text("As a table").click()
    await page.locator("#chart-requests .table-frame").evaluate("(one) => { one.scrollTop = 300; }")
    await sync_to_async(make_answer)(operator, model_alias="newcomer")
    await page.locator("#chart-models tbody").get_by_text("newcomer").wait_for(state="attached")
    assert "newcomer · scripted" in (await drawn(page))["models"]["labels"]
    assert await table.get_attribute("open") is not None
    assert await page.locator("#chart-requests .table-frame").evaluate("(one) => one.scrollTop") == 300

    # From a point to the answers behind it, and to one of them.
    await page.locator("#chart-errors details summary").click()
    row = (
        page.locator("#chart-errors tbody tr")
        .filter(has_text="25.00")
        .or_(page.locator("#chart-errors tbody tr").filter(has_text="33.33"))
    )
    await (
        (row.or_(page.locator("#chart-errors tbody tr").filter(has_text="20.00")))
        .first.get_by_role("link")
        .click()
    )
    await page.get_by_role("heading", name="Answers", level=1).wait_for()
    await page.locator(f"a[href$='{rows[1].pk}/']").click()
    await page.get_by_text("provider_timeout").wait_for()


async def test_hostile_text_is_text_in_every_chart_and_list(visit, operator):
    def hostile():
        operator.username = NAUGHTY[:60]
        operator.save()
        return fill(operator, NAUGHTY)

    rows = await sync_to_async(hostile)()
    visitor = await visit()
    page = visitor.page
    opened = await opened_dialogs(page)
    for path in ("/dashboard/?range=1h", "/dashboard/answers/", f"/dashboard/answers/{rows[1].pk}/"):
        await visitor.open(path)
        assert await page.locator("main img, main script:not([type='application/json'])").count() == 0, path
        assert "<script>alert(1)</script>" in await page.locator("main").inner_text() or "?range" in path
    await visitor.open("/dashboard/?range=1h")
    charts = await drawn(page)
    told = [str(chart) for chart in charts.values() if chart]
    assert any("<script>" in one for one in told)
    assert not any("\x1b" in one or "\u202e" in one for one in told)
    await page.wait_for_timeout(300)
    assert await page.locator("img").count() == 0
    assert opened == []


@pytest.mark.parametrize("path", ["/dashboard/?range=24h", "/dashboard/answers/"])
async def test_it_fits_a_phone(visit, operator, path):
    await sync_to_async(fill)(operator, "a-very-long-name-" * 5)
    visitor = await visit(viewport={"width": 375, "height": 800})
    await visitor.open(path)
    await visitor.page.wait_for_timeout(200)
    assert await visitor.page.evaluate(WIDE) == []


async def test_a_site_that_does_not_answer_is_told_until_it_does(visit, operator):
    visitor = await visit()
    page = visitor.page
    await page.clock.install()
    await visitor.open("/dashboard/?range=1h")
    told = page.get_by_text("The site does not answer.")
    assert not await told.is_visible()

    await page.route("**/dashboard/data/**", lambda route: route.fulfill(status=503, body=""))
    await page.clock.fast_forward(10_000)
    await told.wait_for()
    await page.unroute("**/dashboard/data/**")
    await page.clock.fast_forward(70_000)
    await told.wait_for(state="hidden")
