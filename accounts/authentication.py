"""Django REST framework's way to `accounts.credentials`."""

from typing import TYPE_CHECKING

from django.http import HttpRequest
from rest_framework.authentication import BaseAuthentication
from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from accounts.credentials import Credential, authenticate
from accounts.models import User

if TYPE_CHECKING:
    from rest_framework.views import APIView  # It reads the settings that name this module.


class BearerOrCookie(BaseAuthentication):
    """A bearer (access JWT or API key), else the HttpOnly cookie with a CSRF proof."""

    def authenticate(self, request: Request) -> tuple[User, Credential] | None:
        credential = authenticate(request._request)
        return None if credential is None else (credential.user, credential)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="llmsite"'


class HasScope(BasePermission):
    """A signed-in caller whose key, if it is one, has the view's `scope`."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        if not isinstance(request.auth, Credential):
            return False
        request.auth.require(view.scope)  # type: ignore[attr-defined]
        return True


class IsSignedIn(BasePermission):
    """A person who signed in; a key, however wide, does not reach the account itself."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        return isinstance(request.auth, Credential) and request.auth.session is not None


def user_of(request: Request | HttpRequest) -> User:
    """The user of a request that a permission or `login_required` has let in."""
    assert isinstance(request.user, User)
    return request.user


def credential_of(request: Request) -> Credential:
    """The credential of a request that a permission has let in."""
    assert isinstance(request.auth, Credential)
    return request.auth
