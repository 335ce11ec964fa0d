"""Addresses of accounts: its pages, and what lies below `/api/auth/`."""

from django.urls import path

from accounts import api, views

pages = [
    path("login/", views.login, name="login"),
    path("register/", views.register, name="register"),
    path("logout/", views.logout, name="logout"),
]

api_auth = [
    path("csrf", api.CsrfView.as_view()),
    path("register", api.RegisterView.as_view()),
    path("login", api.LoginView.as_view()),
    path("token", api.TokenView.as_view()),
    path("refresh", api.RefreshView.as_view()),
    path("logout", api.LogoutView.as_view()),
    path("me", api.MeView.as_view()),
    path("keys", api.ApiKeyListView.as_view()),
    path("keys/<int:pk>", api.ApiKeyView.as_view()),
]
