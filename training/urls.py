"""Addresses of training: its pages, and what lies below `/api/`."""

from django.urls import path

from training import dataset_api, promotion_api, run_api
from training.pages import compare, datasets, history, lineage, run, runs

pages = [
    path("training/", runs.runs, name="training"),
    path("training/start/", runs.start, name="training-start"),
    path("training/runs/<uuid:pk>/", run.run, name="training-run"),
    path("training/runs/<uuid:pk>/cancel/", run.cancel, name="training-run-cancel"),
    path("training/runs/<uuid:pk>/evaluate/", run.evaluate, name="training-run-evaluate"),
    path("training/runs/<uuid:pk>/promote/", run.promote, name="training-run-promote"),
    path("training/compare/", compare.compare, name="training-compare"),
    path("training/models/", history.history, name="training-history"),
    path("training/rollback/", history.roll_back, name="training-rollback"),
    path("training/datasets/", datasets.datasets, name="training-datasets"),
    path("training/datasets/upload/", datasets.upload, name="training-dataset-upload"),
    path("training/datasets/preview/", datasets.preview, name="training-dataset-preview"),
    path("training/datasets/build/", datasets.build, name="training-dataset-build"),
    path("training/datasets/<uuid:pk>/", datasets.dataset, name="training-dataset"),
    path("training/datasets/<uuid:pk>/delete/", datasets.delete, name="training-dataset-delete"),
    path("training/origins/", lineage.lineage, name="training-lineage"),
]

api_root = [
    path("training/datasets", dataset_api.datasets),
    path("training/datasets/preview", dataset_api.preview),
    path("training/datasets/<uuid:pk>", dataset_api.DatasetView.as_view()),
    path("training/datasets/<uuid:pk>/rows", dataset_api.DatasetRowsView.as_view()),
    path("training/runs", run_api.RunListView.as_view()),
    path("training/runs/<uuid:pk>", run_api.RunView.as_view()),
    path("training/runs/<uuid:pk>/cancel", run_api.CancelView.as_view()),
    path("training/metrics", run_api.MetricListView.as_view()),
    path("training/evaluations", promotion_api.EvaluationListView.as_view()),
    path("training/evaluations/<uuid:pk>", promotion_api.EvaluationView.as_view()),
    path("training/runs/<uuid:pk>/promote", promotion_api.PromoteView.as_view()),
    path("training/promotions", promotion_api.PromotionListView.as_view()),
    path("training/rollback", promotion_api.RollbackView.as_view()),
]
