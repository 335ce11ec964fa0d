from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "llmsite"

    def ready(self) -> None:
        from llmsite.core import tracing, worker

        worker.note_requests()
        tracing.set_up()
