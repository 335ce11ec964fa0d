"""The admin's view of training: history is read only; runs are called off and models moved by actions."""

from training.admin.datasets import DatasetAdmin, DatasetRowAdmin, DatasetVersionAdmin
from training.admin.evaluations import EvaluationAdmin, EvaluationAnswerAdmin
from training.admin.promotions import PromotionAdmin
from training.admin.runs import MetricAdmin, TrainingRunAdmin

__all__ = [
    "DatasetAdmin",
    "DatasetRowAdmin",
    "DatasetVersionAdmin",
    "EvaluationAdmin",
    "EvaluationAnswerAdmin",
    "MetricAdmin",
    "PromotionAdmin",
    "TrainingRunAdmin",
]
