"""The sign-in pages: plain forms."""

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render, resolve_url
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from accounts.cookies import end_sign_in, set_cookies
from accounts.forms import LoginForm, RegisterForm
from accounts.models import User
from accounts.tokens import sign_in
from llmsite.core.errors import NotAllowed


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def login(request: HttpRequest) -> HttpResponse:
    form = LoginForm(request.POST or None)
    if request.method == "GET" and request.user.is_authenticated:
        return redirect(_next_page(request))
    if request.method == "POST" and form.is_valid():
        return _signed_in(request, form.user)
    context = {"form": form, "next": _next_page(request), "registration_open": settings.REGISTRATION_OPEN}
    return render(request, "accounts/login.html", context, status=400 if form.errors else 200)


@sensitive_post_parameters()
@require_http_methods(["GET", "POST"])
def register(request: HttpRequest) -> HttpResponse:
    if not settings.REGISTRATION_OPEN:
        raise NotAllowed
    if request.method == "GET" and request.user.is_authenticated:
        return redirect(_next_page(request))
    form = RegisterForm(request.POST or None)
    if request.method == "POST" and (user := form.register()):
        return _signed_in(request, user)
    context = {"form": form, "next": _next_page(request)}
    return render(request, "accounts/register.html", context, status=400 if form.errors else 200)


@require_POST
def logout(request: HttpRequest) -> HttpResponse:
    return end_sign_in(request, redirect(settings.LOGOUT_REDIRECT_URL))


def _signed_in(request: HttpRequest, user: User) -> HttpResponse:
    # A new sign-in replaces the one this browser had, so that none is left behind unseen.
    pair = sign_in(user, user_agent=request.headers.get("User-Agent", ""))
    return set_cookies(end_sign_in(request, redirect(_next_page(request))), pair)


def _next_page(request: HttpRequest) -> str:
    target = request.POST.get("next") or request.GET.get("next") or ""
    own = url_has_allowed_host_and_scheme(target, {request.get_host()}, require_https=request.is_secure())
    return target if own else resolve_url(settings.LOGIN_REDIRECT_URL)
