from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"

    def ready(self) -> None:
        from accounts import erasure, export, roles
        from inference import adapters
        from training import lineage, promotion

        erasure.register(lineage.erase)
        export.contribute("training", lineage.export)
        roles.contribute(
            roles.OPERATOR,
            "training.view_dataset",
            "training.view_datasetversion",
            "training.view_trainingrun",
            "training.view_evaluation",
            "training.view_promotion",
            "training.view_metric",
            "training.view_datasetrow",
        )
        roles.contribute(roles.CURATOR, "training.view_evaluationanswer")

        adapters.want(promotion.wanted)
        adapters.after_report(promotion.converge)
