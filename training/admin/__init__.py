"""The admin's view of training: read only."""

from training.admin.datasets import DatasetAdmin, DatasetVersionAdmin
from training.admin.runs import EvaluationAdmin, PromotionAdmin, TrainingRunAdmin

__all__ = ["DatasetAdmin", "DatasetVersionAdmin", "EvaluationAdmin", "PromotionAdmin", "TrainingRunAdmin"]
