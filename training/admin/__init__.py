"""The admin's view of training: read only."""

from training.admin.datasets import DatasetAdmin, DatasetVersionAdmin

__all__ = ["DatasetAdmin", "DatasetVersionAdmin"]
