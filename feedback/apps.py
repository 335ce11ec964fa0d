from django.apps import AppConfig


class FeedbackConfig(AppConfig):
    name = "feedback"

    def ready(self) -> None:
        from django.db.models.signals import post_delete

        from accounts import erasure, export, roles
        from feedback import personal_data, review
        from feedback.models import Feedback

        roles.contribute(roles.CURATOR, "feedback.view_feedback", "feedback.view_example")
        erasure.register(personal_data.erase)
        export.contribute("feedback", personal_data.export)
        post_delete.connect(review.forget, sender=Feedback)
