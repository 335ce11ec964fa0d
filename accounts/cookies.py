"""The two cookies of a sign-in, set and cleared with the same attributes."""

from typing import TypeVar

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.models import User
from accounts.tokens import TokenPair, sign_in, sign_out

R = TypeVar("R", bound=HttpResponseBase)


def set_cookies(response: R, pair: TokenPair) -> R:
    """Both live as long as the refresh token; an access token inside ends by its own `exp`."""
    lifetime = int(settings.REFRESH_TOKEN_LIFETIME.total_seconds())
    for name, value in ((settings.ACCESS_COOKIE, pair.access), (settings.REFRESH_COOKIE, pair.refresh)):
        response.set_cookie(
            name,
            value,
            max_age=lifetime,
            path="/",
            secure=settings.AUTH_COOKIE_SECURE,
            httponly=True,
            samesite="Lax",
        )
    return response


def clear_cookies(response: R) -> R:
    for name in (settings.ACCESS_COOKIE, settings.REFRESH_COOKIE):
        response.delete_cookie(name, path="/", samesite="Lax")
        response.cookies[name]["secure"] = settings.AUTH_COOKIE_SECURE or ""
        response.cookies[name]["httponly"] = True
    return response


def begin_sign_in(request: HttpRequest, response: R, user: User) -> R:
    """Log in: a new sign-in replaces the one this browser had, so that none is left behind unseen."""
    pair = sign_in(user, request=request)
    return set_cookies(end_sign_in(request, response), pair)


def end_sign_in(request: HttpRequest, response: R) -> R:
    """Log out: the sign-in of the request's cookies ends, and the cookies go."""
    sign_out(
        access=request.COOKIES.get(settings.ACCESS_COOKIE),
        refresh=request.COOKIES.get(settings.REFRESH_COOKIE),
    )
    return clear_cookies(response)
