from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "dashboard"

    def ready(self) -> None:
        from django.db.models.signals import post_delete, pre_delete

        from accounts.models import ApiKey, User
        from dashboard import roller
        from inference.models import Generation
        from inference.models.generations import rolled_up_changed

        pre_delete.connect(roller.note_deletion, sender=Generation)
        post_delete.connect(roller.count_deleted, sender=Generation)
        rolled_up_changed.connect(roller.change, sender=Generation)
        post_delete.connect(roller.forget_key, sender=ApiKey)
        post_delete.connect(roller.forget_person, sender=User)
