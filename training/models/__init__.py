from training.models.datasets import Dataset, DatasetRow, DatasetVersion, Layout
from training.models.evaluations import Evaluation
from training.models.promotions import Promotion, PromotionStatus
from training.models.runs import ENDED, Metric, RunStatus, TrainingRun

__all__ = [
    "ENDED",
    "Dataset",
    "DatasetRow",
    "DatasetVersion",
    "Evaluation",
    "Layout",
    "Metric",
    "Promotion",
    "PromotionStatus",
    "RunStatus",
    "TrainingRun",
]
