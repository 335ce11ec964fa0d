"""Sign-in for scripts and programs, and the keys of an account."""

from datetime import datetime
from decimal import Decimal
from typing import Any, TypedDict

from django.conf import settings
from django.middleware.csrf import get_token
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema_field, extend_schema_view
from rest_framework import generics, serializers, status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from accounts.authentication import IsSignedIn, user_of
from accounts.cookies import begin_sign_in, end_sign_in, set_cookies
from accounts.credentials import authenticate, require_csrf
from accounts.forms import RegisterForm
from accounts.keys import create_key, revoke_key
from accounts.limits.forms import count_try
from accounts.models import ApiKey, Scope, User, access_api_key
from accounts.money import MICRO, as_money
from accounts.passwords import check_password
from accounts.tokens import TokenPair, rotate, sign_in, sign_out, sign_out_of
from llmsite.core.errors import InvalidInput, NotAllowed, NotSignedIn, WrongCredentials
from llmsite.core.paging import KeysetPagination
from llmsite.core.rates import normal_rate
from llmsite.core.rest import validated
from llmsite.core.schema import documented, nothing
from llmsite.core.serializers import RefusesUnknownFields, StrictSerializer

TAG = "Accounts and keys"


class LoginSerializer(StrictSerializer):
    username = serializers.CharField(max_length=150)
    password = serializers.CharField(max_length=4096, trim_whitespace=False)


class RegisterSerializer(LoginSerializer):
    email = serializers.EmailField(required=False, allow_blank=True, default="")


class RefreshSerializer(StrictSerializer):
    refresh = serializers.CharField(required=False, max_length=200)


@extend_schema_field({"type": "string", "pattern": r"^\d{1,9}(\.\d{1,6})?$"})
class MoneyField(serializers.DecimalField):
    """An amount in the site's currency as a decimal string; millionths in the row."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_digits=15, decimal_places=6, min_value=Decimal(0), **options)

    def to_internal_value(self, data: Any) -> Any:
        return int(super().to_internal_value(data) * MICRO)

    def to_representation(self, micro: int) -> str:  # type: ignore[override]
        return as_money(micro)


class ApiKeySerializer(RefusesUnknownFields, serializers.ModelSerializer[ApiKey]):
    scopes = serializers.ListField(child=serializers.ChoiceField(Scope.choices), required=False)
    models = serializers.ListField(
        child=serializers.CharField(max_length=100), required=False, source="allowed_models", max_length=100
    )
    rate_limit = serializers.CharField(required=False, allow_blank=True, max_length=20)
    monthly_budget = MoneyField(required=False, allow_null=True, source="monthly_budget_micro")

    class Meta:
        model = ApiKey
        fields = (
            "id",
            "name",
            "public_id",
            "scopes",
            "models",
            "rate_limit",
            "monthly_budget",
            "created_at",
            "last_used_at",
            "expires_at",
        )
        read_only_fields = ("id", "public_id", "created_at", "last_used_at")

    def validate_expires_at(self, value: datetime | None) -> datetime | None:
        if value is not None and value <= timezone.now():
            raise serializers.ValidationError(_("This moment lies in the past."))
        return value

    def normal_rate_limit(self, value: str) -> str:
        return normal_rate(value) if value else ""


class NewApiKeySerializer(ApiKeySerializer):
    """A key that was just made."""

    key = serializers.CharField(read_only=True)

    class Meta(ApiKeySerializer.Meta):
        fields = (*ApiKeySerializer.Meta.fields, "key")  # type: ignore[assignment]


class CsrfToken(TypedDict):
    csrf_token: str


class Pair(TypedDict):
    access: str
    refresh: str


class Me(TypedDict):
    id: int
    username: str
    email: str
    is_staff: bool


NEW_KEY = {"name": "My program", "scopes": ["chat"]}


class OpenView(APIView):
    """A door for people who are not signed in yet; the CSRF proof is asked all the same."""

    authentication_classes = ()
    permission_classes = (AllowAny,)


class CsrfView(OpenView):
    @documented("A CSRF token", tag=TAG, gives=CsrfToken, for_everybody=True)
    def get(self, request: Request) -> Response:
        """A CSRF token for scripts that sign in with cookies; send it back as `X-CSRFToken`."""
        return Response({"csrf_token": get_token(request._request)})


class RegisterView(OpenView):
    @documented(
        "Make an account",
        tag=TAG,
        takes=RegisterSerializer,
        gives={201: Me},
        fails=(NotAllowed,),
        for_everybody=True,
    )
    def post(self, request: Request) -> Response:
        """Signs in by cookies. Closed where the operator has closed it."""
        require_csrf(request._request)
        if not settings.REGISTRATION_OPEN:
            raise NotAllowed
        count_try(request._request, "register")
        user = _register(validated(RegisterSerializer(data=request.data)))
        return begin_sign_in(request._request, Response(_me(user), status=status.HTTP_201_CREATED), user)


class LoginView(OpenView):
    @documented(
        "Sign in by cookies",
        tag=TAG,
        takes=LoginSerializer,
        gives=Me,
        fails=(WrongCredentials,),
        for_everybody=True,
    )
    def post(self, request: Request) -> Response:
        """For the scripts of the site's own pages."""
        require_csrf(request._request)
        user = _check_password(request)
        return begin_sign_in(request._request, Response(_me(user)), user)


class TokenView(OpenView):
    @documented(
        "Sign in with tokens",
        tag=TAG,
        takes=LoginSerializer,
        gives=Pair,
        fails=(WrongCredentials,),
        for_everybody=True,
    )
    def post(self, request: Request) -> Response:
        """The pair itself, for programs, which keep it out of a browser's reach."""
        user = _check_password(request)
        return Response(_pair(sign_in(user, request=request._request)))


class RefreshView(OpenView):
    @documented(
        "Go on being signed in",
        tag=TAG,
        takes=RefreshSerializer,
        gives={200: Pair, 204: nothing("The new pair is in the cookies.")},
        fails=(NotSignedIn,),
        for_everybody=True,
    )
    def post(self, request: Request) -> Response:
        """The next pair: in the body for a program that sent its token there, else in the cookies."""
        cookie = request.COOKIES.get(settings.REFRESH_COOKIE)
        if cookie:  # A browser, whatever it was made to send.
            require_csrf(request._request)
        values = validated(RefreshSerializer(data=request.data))
        if "refresh" in values:
            return Response(_pair(rotate(values["refresh"])))
        require_csrf(request._request)
        if not cookie:
            raise NotSignedIn
        return set_cookies(Response(status=status.HTTP_204_NO_CONTENT), rotate(cookie))


class LogoutView(OpenView):
    @documented(
        "Sign out",
        tag=TAG,
        takes=RefreshSerializer,
        gives={204: nothing("Signed out.")},
        fails=(NotSignedIn, NotAllowed),
        for_everybody=True,
    )
    def post(self, request: Request) -> Response:
        """Ends the sign-in of a program's bearer, of a refresh token in the body, or of the cookies."""
        done = Response(status=status.HTTP_204_NO_CONTENT)
        if "HTTP_AUTHORIZATION" in request.META:
            credential = authenticate(request._request)
            if credential is None or credential.session is None:
                raise NotAllowed  # A key is revoked, not logged out.
            sign_out_of(credential.session)
            return done
        if request.COOKIES.get(settings.REFRESH_COOKIE) or request.COOKIES.get(settings.ACCESS_COOKIE):
            require_csrf(request._request)
        values = validated(RefreshSerializer(data=request.data))
        if "refresh" in values:
            sign_out(refresh=values["refresh"])
            return done
        require_csrf(request._request)
        return end_sign_in(request._request, done)


class MeView(APIView):
    @documented("Who you are", tag=TAG, gives=Me)
    def get(self, request: Request) -> Response:
        """The person behind the sign-in or the key."""
        return Response(_me(user_of(request)))


class ApiKeyPages(KeysetPagination):
    ordering = ("-created_at", "-id")


@extend_schema_view(get=documented("Your API keys", tag=TAG, gives=ApiKeySerializer(many=True)))
class ApiKeyListView(generics.ListAPIView[ApiKey]):
    permission_classes = (IsSignedIn,)
    serializer_class = ApiKeySerializer
    pagination_class = ApiKeyPages

    def get_queryset(self) -> Any:
        return ApiKey.objects.visible_to(user_of(self.request))

    @documented(
        "Make an API key", tag=TAG, takes=ApiKeySerializer, example=NEW_KEY, gives={201: NewApiKeySerializer}
    )
    def post(self, request: Request) -> Response:
        """The answer has the `key` itself, once. Without scopes it may do all that you may."""
        if not user_of(request).has_perm("accounts.add_apikey"):
            raise NotAllowed
        values = validated(ApiKeySerializer(data=request.data))
        key, text = create_key(user_of(request), **values)
        return Response({**ApiKeySerializer(key).data, "key": text}, status=status.HTTP_201_CREATED)


class ApiKeyView(APIView):
    permission_classes = (IsSignedIn,)

    @documented("Revoke an API key", tag=TAG, gives={204: nothing("It is refused from now on.")})
    def delete(self, request: Request, pk: int) -> Response:
        """Programs that use it are refused within five seconds."""
        user = user_of(request)
        revoke_key(access_api_key(user, pk), actor=user)
        return Response(status=status.HTTP_204_NO_CONTENT)


def _check_password(request: Request) -> User:
    values = validated(LoginSerializer(data=request.data))
    return check_password(values["username"], values["password"], request._request)


def _register(values: dict[str, Any]) -> User:
    """A new user by the rules of the page's form. Raises InvalidInput for the first field that is wrong."""
    form = RegisterForm({**values, "password1": values["password"], "password2": values["password"]})
    if (user := form.register()) is None:
        field, reasons = next(iter(form.errors.items()))
        raise InvalidInput(field="password" if field.startswith("password") else field, reason=reasons[0])
    return user


def _pair(pair: TokenPair) -> Pair:
    return {"access": pair.access, "refresh": pair.refresh}


def _me(user: User) -> Me:
    return {"id": user.pk, "username": user.username, "email": user.email, "is_staff": user.is_staff}
