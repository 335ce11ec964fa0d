"""Staff in a real browser: a run begins, its curve grows, it is promoted and rolled back."""

import asyncio
import re
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone

from accounts.models import User
from accounts.roles import OPERATOR, set_roles
from conftest import PASSWORD
from feedback.models import Example, ExampleKind, Feedback
from feedback.tests.making import make_answer, make_feedback
from inference.engine.base_model import base_model
from inference.models import ChatModelConfig
from inference.tests.browser.conftest import PATIENCE
from training.models import (
    DatasetRow,
    Evaluation,
    EvaluationAnswer,
    Metric,
    Promotion,
    RunStatus,
    TrainingRun,
)
from training.promotion import converge
from training.tests.making import (
    BASE,
    Engine,
    make_adapter,
    make_evaluation,
    make_local_model,
    make_run,
    make_version,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAUGHTY = "<script>alert('xss')</script><img src=x onerror=alert(1)> \x1b[31mred"
CHART = "window.Chart?.getChart(document.querySelector('canvas'))"
POINTS = f"() => {CHART}?.data.datasets.map((one) => one.data.length)"
WIDE = """() => [...document.querySelectorAll("main *")]
  .filter((one) => one.getBoundingClientRect().right > one.closest("main").getBoundingClientRect().right)
  .filter((one) => !one.closest(".table-frame"))
  .map((one) => `${one.tagName}.${one.className}`)"""
LABELS = f"() => {CHART}?.data.datasets.map((one) => one.label)"


async def wide_ones(page):
    return await page.evaluate(WIDE)


async def drawn(page, points):
    """Wait until the chart's curves have so many points. (The page lets nobody evaluate a string in it.)"""
    async with asyncio.timeout(PATIENCE / 1000):
        while sorted(await page.evaluate(POINTS) or []) != sorted(points):
            await page.wait_for_timeout(100)


@pytest.fixture
def operator(cookies):
    """Alice, whose cookies the visitors have."""
    alice = User.objects.get(username="alice")
    set_roles(alice, [OPERATOR])
    return alice


@sync_to_async
def logged(run, *steps):
    """What a trainer would have logged, a step every second."""
    now, last = timezone.now(), max(steps)
    Metric.objects.bulk_create(
        Metric(
            run=run,
            step=step,
            loss=2.5 / (1 + step / 12),
            eval_loss=2.6 / (1 + step / 15) if step % 10 == 0 else None,
            learning_rate=2e-4 * (1 - step / 100),
            gradient_norm=1.0,
            tokens_per_second=950.0,
            logged_at=now - timedelta(seconds=last - step),
        )
        for step in steps
    )
    TrainingRun.objects.filter(pk=run.pk).update(step=last, beat_at=now)


@sync_to_async
def running(operator, **values):
    return make_run(operator, status=RunStatus.RUNNING, step=0, total_steps=100, **values)


@sync_to_async
def finished(operator, **values):
    """A run whose adapter fits what this site serves, and the model that it can be put behind."""
    base = base_model("", _models_root())
    run = make_run(operator, base_model=base.name, base_sha256=base.sha256, **values)
    model = ChatModelConfig.objects.filter(alias=BASE).first() or make_local_model()
    ChatModelConfig.objects.filter(pk=model.pk).update(provider_model=base.name, is_active=True)
    return run, make_adapter(run), model


def _models_root():
    from django.conf import settings

    return settings.MODELS_ROOT


@sync_to_async
def corrected(operator, run, evaluation, *, question, answer, before, after):
    """An accepted correction that the run's data set has, and what the model says to it."""
    feedback = make_feedback(operator, make_answer(operator, question, before))
    example = Example.objects.create(
        feedback=feedback,
        kind=ExampleKind.EVALUATION,
        prompt=[{"role": "user", "content": question}],
        chosen=answer,
    )
    DatasetRow.objects.create(version=run.version, number=0, feedback=feedback, user=operator)
    scores = {"before": {"rouge_l": 0.1}, "after": {"rouge_l": 0.9}}
    EvaluationAnswer.objects.create(
        evaluation=evaluation, example=example, before=before, after=after, scores=scores, preferred="after"
    )


async def test_the_curve_grows_and_is_the_same_after_a_reload(visit, operator):
    run = await running(operator)
    await logged(run, *range(1, 6))
    visitor = await visit()
    page = visitor.page
    await visitor.open(f"/training/runs/{run.pk}/")
    await drawn(page, [5, 0])

    await logged(run, *range(6, 31))
    await drawn(page, [30, 3])
    await page.get_by_text("Step 30 of 100").wait_for()
    assert re.search(r"about \d+ (s|min) left", await page.locator("#facts").inner_text())
    await page.reload()
    await drawn(page, [30, 3])

    assert await page.evaluate(LABELS) == ["Loss", "Held-out loss"]
    await page.select_option("#curve", "tokens_per_second")
    assert await page.evaluate(LABELS) == ["Tokens a second"]
    await page.click("text=The numbers")
    assert await page.locator("#metrics tbody tr").count() == 30


async def test_the_page_follows_a_run_to_its_end(visit, operator):
    run = await running(operator)
    visitor = await visit()
    page = visitor.page
    await visitor.open(f"/training/runs/{run.pk}/")
    await page.get_by_text("Nothing is logged yet.").wait_for()

    await logged(run, 1, 2)
    await drawn(page, [2, 0])
    ended = {"status": RunStatus.FAILED, "ended_at": timezone.now(), "error_code": "out_of_memory"}
    await TrainingRun.objects.filter(pk=run.pk).aupdate(**ended)

    await page.get_by_text("It needed more memory than it may take.").wait_for()
    assert await page.get_by_text("Cancel the run").count() == 0


async def test_a_run_is_evaluated_promoted_and_rolled_back(visit, operator):
    run, adapter, model = await finished(operator)
    engine = await sync_to_async(Engine)()
    visitor = await visit()
    page = visitor.page
    await visitor.open("/training/")
    await page.click(f"text={run.name}")

    await page.locator("summary", has_text="Evaluate").click()
    await page.get_by_role("button", name="Evaluate the run").click()
    await page.get_by_text("It waits for the trainer").first.wait_for()
    await Evaluation.objects.all().adelete()
    await sync_to_async(make_evaluation)(run)
    await page.get_by_text("It passes the gate").wait_for()

    await page.locator("summary", has_text="Promote").click()
    await page.get_by_text("Everybody who asks this model").click()
    await page.get_by_label("Your password").fill(PASSWORD)
    await page.get_by_role("button", name="Promote it").click()
    await page.locator("#moves .is-loading").wait_for()
    await sync_to_async(engine.says)(adapter)
    await sync_to_async(converge)()
    await page.locator("#moves .is-live").wait_for()
    assert (await ChatModelConfig.objects.aget(pk=model.pk)).adapter == adapter.name

    await page.get_by_role("link", name="Models in use").last.click()
    await page.get_by_text(f"stands on {adapter.name}").wait_for()
    await page.locator("summary", has_text="Roll back").click()
    await page.get_by_role("button", name="Roll it back").click()
    await page.get_by_text("is its base model alone again").wait_for()
    assert (await ChatModelConfig.objects.aget(pk=model.pk)).adapter == ""
    assert await page.locator("#history .moves li").count() == 2


async def test_all_of_it_needs_no_script(visit, operator):
    run, adapter, _ = await finished(operator)
    await sync_to_async(make_evaluation)(run)
    await logged(run, 1, 2, 3)
    visitor = await visit(java_script_enabled=False)
    page = visitor.page
    await visitor.open(f"/training/runs/{run.pk}/")

    await page.click("text=The numbers")
    assert await page.locator("#metrics tbody tr").count() == 3
    await page.locator("summary", has_text="Promote").click()
    await page.get_by_text("Everybody who asks this model").click()
    await page.get_by_label("Your password").fill(PASSWORD)
    await page.get_by_role("button", name="Promote it").click()

    await page.locator("#moves .is-loading").wait_for()
    assert await Promotion.objects.filter(adapter=adapter).acount() == 1


async def test_two_runs_are_compared_in_one_chart(visit, operator):
    first, second = await running(operator, name="Low rank"), await running(operator, name="High rank")
    await logged(first, *range(1, 21))
    await logged(second, *range(1, 11))
    visitor = await visit()
    page = visitor.page
    await visitor.open("/training/")

    for name in ("Low rank", "High rank"):
        await page.get_by_label(f"Compare {name}").check()
    await page.get_by_role("button", name="Compare the chosen runs").click()

    await drawn(page, [10, 20])
    assert sorted(await page.evaluate(LABELS)) == ["High rank", "Low rank"]


async def test_what_people_and_models_wrote_is_text_here(visit, operator):
    run, _, _ = await finished(operator, name=NAUGHTY, version=await sync_to_async(make_version)(NAUGHTY))
    evaluation = await sync_to_async(make_evaluation)(run)
    texts = dict.fromkeys(("question", "answer", "before", "after"), NAUGHTY)
    await corrected(operator, run, evaluation, **texts)
    await logged(run, 1, 2)
    visitor = await visit()
    page = visitor.page
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: dialogs.append(dialog.message))

    for path in (
        "/training/",
        f"/training/runs/{run.pk}/",
        f"/training/compare/?run={run.pk}&run={(await running(operator, name=NAUGHTY)).pk}",
        f"/training/origins/?of={NAUGHTY}",
        f"/training/origins/?of={run.pk}",
    ):
        await visitor.open(path)
        assert "alert('xss')" in await page.content(), path
        assert await page.locator("img[src=x]").count() == 0
    assert dialogs == []


async def test_origins_lead_from_a_correction_to_the_model_and_back(visit, operator):
    run, adapter, _ = await finished(operator)
    evaluation = await sync_to_async(make_evaluation)(run)
    await corrected(
        operator,
        run,
        evaluation,
        question="Who keeps the bees?",
        answer="Ida.",
        before="Nobody.",
        after="Ida.",
    )
    feedback = await Feedback.objects.aget()
    visitor = await visit()
    page = visitor.page
    await visitor.open("/training/origins/")

    await page.fill("#of", str(feedback.pk))
    await page.keyboard.press("Enter")
    await page.locator(".chain code", has_text=adapter.name).wait_for()
    await page.locator(".chain a", has_text=run.name).click()
    await page.locator(".chain summary", has_text="Show them").click()
    await page.locator(".chain code", has_text=str(feedback.pk)).wait_for()


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
async def test_nothing_stands_out_of_the_page(visit, operator, width):
    run, adapter, model = await finished(operator, name="A_very_long_name_of_a_run_" * 3)
    evaluation = await sync_to_async(make_evaluation)(run)
    long = "word" * 60
    await corrected(operator, run, evaluation, question=long, answer=long, before=long, after=long)
    await logged(run, *range(1, 41))
    await sync_to_async(Promotion.objects.create)(model=model, adapter=adapter, status="live")
    await ChatModelConfig.objects.filter(pk=model.pk).aupdate(adapter=adapter.name)
    visitor = await visit(viewport={"width": width, "height": 800})
    other = await running(operator)
    for path in (
        "/training/",
        f"/training/runs/{run.pk}/",
        f"/training/compare/?run={run.pk}&run={other.pk}",
        "/training/models/",
        f"/training/origins/?of={run.pk}",
    ):
        await visitor.open(path)
        for summary in await visitor.page.locator("main summary").all():
            if await summary.is_visible():
                await summary.click()
        assert await visitor.page.evaluate("document.documentElement.scrollWidth") <= width, path
        main = await visitor.page.evaluate(
            "(main => [main.scrollWidth, main.clientWidth])(document.querySelector('main'))"
        )
        assert main[0] <= main[1], (path, await wide_ones(visitor.page))
