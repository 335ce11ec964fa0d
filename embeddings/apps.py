from django.apps import AppConfig


class EmbeddingsConfig(AppConfig):
    name = "embeddings"

    def ready(self) -> None:
        from django.db.models.signals import pre_delete
        from django_tasks.signals import task_finished

        from accounts import erasure, export, roles
        from accounts.models import Team
        from embeddings import personal_data
        from embeddings.collections import unshare
        from embeddings.ingestion import note_failed_task

        roles.contribute(
            roles.OPERATOR,
            "embeddings.view_collection",
            "embeddings.view_document",
            "embeddings.view_documentversion",
            "embeddings.view_searchindex",
        )
        roles.contribute(roles.ADMIN, "embeddings.view_page", "embeddings.view_chunk")
        erasure.register(personal_data.erase)
        export.contribute("documents", personal_data.export)
        task_finished.connect(note_failed_task)

        pre_delete.connect(unshare, sender=Team)
