"""Addresses of accounts: its pages, and what lies below `/api/auth/`."""

from django.urls import path

from accounts import account_views, api, password_views, views

pages = [
    path("login/", views.login, name="login"),
    path("register/", views.register, name="register"),
    path("logout/", views.logout, name="logout"),
    path("password-reset/", password_views.reset, name="password-reset"),
    path("password-reset/sent/", password_views.reset_sent, name="password-reset-sent"),
    path("password-reset/done/", password_views.reset_done, name="password-reset-done"),
    path(
        "password-reset/<str:uid>/<str:token>/", password_views.reset_confirm, name="password-reset-confirm"
    ),
    path("account/", account_views.account, name="account"),
    path("account/password/", password_views.change, name="password-change"),
    path("account/email/", account_views.change_email, name="email-change"),
    path("account/sessions/end-others/", account_views.end_other_sessions, name="sessions-end"),
    path("account/sessions/<uuid:pk>/end/", account_views.end_session, name="session-end"),
    path("account/keys/", account_views.add_key, name="key-add"),
    path("account/keys/<int:pk>/revoke/", account_views.revoke, name="key-revoke"),
    path("account/download/", account_views.download, name="data-download"),
    path("account/delete/", account_views.delete, name="account-delete"),
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
