"""Addresses of training: its pages, and what lies below `/api/`."""

from django.urls import path

from training import dataset_api

pages: list = []

api_root = [
    path("training/datasets", dataset_api.datasets),
    path("training/datasets/preview", dataset_api.preview),
    path("training/datasets/<uuid:pk>", dataset_api.DatasetView.as_view()),
    path("training/datasets/<uuid:pk>/rows", dataset_api.DatasetRowsView.as_view()),
]
