"""Addresses of feedback: its pages, and what lies below `/api/`."""

from django.urls import path

from feedback import api
from feedback.pages import entry, queue

pages = [
    path("feedback/", queue.queue, name="feedback-queue"),
    path("feedback/<uuid:pk>/", entry.entry, name="feedback-entry"),
    path("feedback/<uuid:pk>/claim/", entry.claim, name="feedback-claim"),
    path("feedback/<uuid:pk>/release/", entry.release, name="feedback-release"),
    path("feedback/<uuid:pk>/accept/", entry.accept, name="feedback-accept"),
    path("feedback/<uuid:pk>/reject/", entry.reject, name="feedback-reject"),
    path("feedback/<uuid:pk>/revoke/", entry.revoke, name="feedback-revoke"),
]

api_root = [
    path("feedback", api.feedback),
    path("feedback/<uuid:pk>", api.FeedbackView.as_view()),
]
