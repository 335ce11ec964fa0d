"""Addresses of the dashboard."""

from django.urls import path

from dashboard import pages as views

pages = [
    path("dashboard/", views.overview, name="dashboard"),
    path("dashboard/data/", views.data, name="dashboard-data"),
    path("dashboard/csv/", views.export, name="dashboard-csv"),
    path("dashboard/answers/", views.answer_list, name="dashboard-answers"),
    path("dashboard/answers/<uuid:pk>/", views.answer, name="dashboard-answer"),
]
