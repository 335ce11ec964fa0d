from training.models.datasets import Dataset, DatasetRow, DatasetVersion, Layout
from training.models.evaluations import Evaluation, EvaluationAnswer, Preference
from training.models.promotions import Promotion, PromotionStatus
from training.models.runs import ENDED, Metric, RunStatus, TrainingRun

__all__ = [
    "ENDED",
    "Dataset",
    "DatasetRow",
    "DatasetVersion",
    "Evaluation",
    "EvaluationAnswer",
    "Layout",
    "Metric",
    "Preference",
    "Promotion",
    "PromotionStatus",
    "RunStatus",
    "TrainingRun",
]
