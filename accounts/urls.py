"""Addresses of accounts: its pages, and what lies below `/api/auth/`."""

from django.urls import path

from accounts import api
from accounts.pages import account, password, sign_in

pages = [
    path("login/", sign_in.login, name="login"),
    path("register/", sign_in.register, name="register"),
    path("logout/", sign_in.logout, name="logout"),
    path("password-reset/", password.reset, name="password-reset"),
    path("password-reset/sent/", password.reset_sent, name="password-reset-sent"),
    path("password-reset/done/", password.reset_done, name="password-reset-done"),
    path("password-reset/<str:uid>/<str:token>/", password.reset_confirm, name="password-reset-confirm"),
    path("account/", account.account, name="account"),
    path("account/password/", password.change, name="password-change"),
    path("account/email/", account.change_email, name="email-change"),
    path("account/sessions/end-others/", account.end_other_sessions, name="sessions-end"),
    path("account/sessions/<uuid:pk>/end/", account.end_session, name="session-end"),
    path("account/keys/", account.add_key, name="key-add"),
    path("account/keys/<int:pk>/revoke/", account.revoke, name="key-revoke"),
    path("account/training/", account.change_consent, name="training-consent"),
    path("account/download/", account.download, name="data-download"),
    path("account/delete/", account.delete, name="account-delete"),
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
