"""Tasks for the tests of the worker; what they do is chosen by the test, in this process."""

from django_tasks import task

from llmsite.core.worker import checkpoint

calls: list[object] = []
does: dict[str, object] = {}


@task()
def plain(name: str) -> str:
    calls.append(name)
    if (do := does.get(name)) is not None:
        do()
    checkpoint()
    return name


@task(priority=50)
def urgent(name: str) -> None:
    calls.append(name)
