"""Addresses of inference: its pages, what lies below `/api/` and `/v1/`, and its socket."""

from django.urls import path

import inference.anthropic_api.urls
import inference.openai_api.urls
from inference import api, model_api, predict, query, views
from inference.consumers import ChatConsumer

pages = [
    path("", views.home, name="home"),
    path("chat/", views.chat, name="chat"),
    path("chat/<uuid:pk>/", views.chat, name="conversation"),
    path("chat/<uuid:pk>/rename/", views.rename, name="conversation-rename"),
    path("chat/<uuid:pk>/delete/", views.delete, name="conversation-delete"),
]

api_root = [
    path("predict", predict.predict),
    path("query", query.query),
    path("predict/stream", predict.predict_stream),
    path("generations/<uuid:pk>/events", predict.events),
    path("generations/<uuid:pk>/stop", predict.stop),
    path("models", model_api.ModelListView.as_view()),
    path("model", model_api.DefaultModelView.as_view()),
    path("cache", model_api.CacheView.as_view()),
    path("conversations", api.ConversationListView.as_view()),
    path("conversations/<uuid:pk>", api.ConversationView.as_view()),
    path("conversations/<uuid:pk>/messages", api.messages),
]

v1 = [*inference.openai_api.urls.v1, *inference.anthropic_api.urls.v1]

sockets = [
    path("ws/chat/", ChatConsumer.as_asgi()),
]
