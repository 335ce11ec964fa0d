"""All settings, in one file. docs/settings.md describes them; a test holds it to this file."""

import os
import sys
from datetime import timedelta
from pathlib import Path

from django.utils.translation import gettext_lazy as _
from redis.backoff import NoBackoff
from redis.retry import Retry

from llmsite import __version__
from llmsite.core.env import Environment
from llmsite.core.keys import derive_key
from llmsite.core.logs import logging_config

BASE_DIR = Path(__file__).resolve().parent.parent
_env_file = os.environ.get("ENV_FILE", str(BASE_DIR / ".env"))
env = Environment(Path(_env_file) if _env_file else None)

# --- The frame -----------------------------------------------------------------------------------

SECRET_KEY = env.secret_key("SECRET_KEY", example_file=BASE_DIR / ".env.example")
ENVIRONMENT = env.one_of("ENVIRONMENT", "development", ("development", "production"))
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env.flag("DEBUG", False)

ALLOWED_HOSTS = env.items("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"], example="llm.example.org")
CSRF_TRUSTED_ORIGINS = env.items("CSRF_TRUSTED_ORIGINS", [], example="https://llm.example.org")

# Pages elsewhere that may call the API with a key; a cookie never counts for them.
CORS_ALLOWED_ORIGINS = env.origins("CORS_ALLOWED_ORIGINS", [], example="https://app.example.org")

HOST = env.text("HOST", "127.0.0.1", form="an address to listen on", example="0.0.0.0")  # noqa: S104
PORT = env.whole("PORT", 8000, least=1, most=65535)

ROOT_URLCONF = "llmsite.urls"
ASGI_APPLICATION = "llmsite.asgi.application"

INSTALLED_APPS = [
    "llmsite.admin_app.WorkplaceConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_ratelimit",
    "channels",
    "django_tasks",
    "django_tasks_db",
    "accounts",
    "embeddings",
    "inference",
    "feedback",
    "training",
    "dashboard",
    "llmsite",
]
if "runserver" in sys.argv or "pytest" in sys.modules:
    # Daphne brings Twisted into every process that has it installed (28 MB): `runserver` and the
    # live-server tests need it, the site itself is served by uvicorn.
    INSTALLED_APPS.insert(0, "daphne")

MIDDLEWARE = [
    "llmsite.core.middleware.RequestMiddleware",
    "llmsite.core.cors.CorsMiddleware",
    "llmsite.core.vendor_middleware.VendorMiddleware",
    "llmsite.core.safety_headers.SafetyHeadersMiddleware",
    "llmsite.core.static_files.StaticFilesMiddleware",
    "accounts.middleware.GateMiddleware",
    "llmsite.core.inline.Locale",
    "llmsite.core.inline.Pages",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "libraries": {"moments": "llmsite.core.moments"},
            "context_processors": [
                "django.template.context_processors.request",
                "django.template.context_processors.i18n",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Messages ride in a signed cookie, because the site has one sign-in and no Django session beside it.
MESSAGE_STORAGE = "django.contrib.messages.storage.cookie.CookieStorage"
SILENCED_SYSTEM_CHECKS = [
    # The admin asks for SessionMiddleware; our sign-in needs no session (accounts/middleware.py).
    "admin.E410",
    # And for Django's AuthenticationMiddleware, whose place accounts.middleware.GateMiddleware takes.
    "admin.E408",
    # And for MessageMiddleware, which pages have within llmsite.core.inline.Pages.
    "admin.E409",
    # They look for Django's security, frame and CSRF middleware by name, and find our classes that use them
    # (llmsite/core/inline.py, safety_headers.py). llmsite/tests/test_pages.py and test_forgery.py look at
    # what those do.
    "security.W001",
    "security.W002",
    "security.W003",
    # The folder of uploads is made when the first file comes.
    "files.E001",
]

# --- Stores --------------------------------------------------------------------------------------

DATABASES = {"default": env.database("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # IMMEDIATE takes the write lock at BEGIN, so two writers wait for each other (up to 20 s)
    # where the default would fail at once; WAL lets readers go on meanwhile. What is deleted is
    # overwritten, so that no text of an erased person stays in free pages.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 20,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA secure_delete=ON;",
    }
else:
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"]["OPTIONS"] = {"connect_timeout": 3, "options": "-c lock_timeout=10s"}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = env.url("REDIS_URL", schemes=("redis", "rediss", "unix"), example="redis://localhost:6379/0")
if REDIS_URL:
    CACHES = {
        "default": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": REDIS_URL,
            # A Redis that does not answer must not hold up a request.
            "OPTIONS": {"SOCKET_CONNECT_TIMEOUT": 0.3, "SOCKET_TIMEOUT": 0.3},
        },
    }
    # Level 2 of the cache of answers: plain JSON in a part of its own, which can be cleared by itself.
    CACHES["answers"] = {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "llmsite:answers",
        "OPTIONS": {
            "SERIALIZER": "django_redis.serializers.json.JSONSerializer",
            "SOCKET_CONNECT_TIMEOUT": 0.3,
            "SOCKET_TIMEOUT": 0.3,
            # Without retries of its own, which would make of 0.3 seconds several.
            "CONNECTION_POOL_KWARGS": {"retry": Retry(NoBackoff(), 0)},
        },
    }
else:
    CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}

# What takes longer than a request may is done by `manage.py worker` (llmsite/core/worker.py).
TASKS = {"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}}

CACHE_KEY = derive_key(SECRET_KEY, "cache")
CACHE_TTL = env.seconds("CACHE_TTL", 3600.0)
CACHE_L1_SIZE = env.whole("CACHE_L1_SIZE", 1000, least=0)
SEMANTIC_CACHE = env.flag("SEMANTIC_CACHE", False)
SEMANTIC_CACHE_THRESHOLD = env.fraction("SEMANTIC_CACHE_THRESHOLD", 0.8)

# --- Limits --------------------------------------------------------------------------------------

RATE_LIMIT = env.rate("RATE_LIMIT", "60/m")
RATE_LIMIT_ADDRESS = env.rate("RATE_LIMIT_ADDRESS", "600/m")
LOGIN_RATE_LIMIT = env.rate("LOGIN_RATE_LIMIT", "10/m")
WEB_PROCESSES = env.whole("WEB_PROCESSES", 4, least=1)

# django-ratelimit counts the forms (accounts/limits/forms.py). Where its cache lost a count, it lets the form
# through to the exact limit behind it.
RATELIMIT_FAIL_OPEN = True
if not REDIS_URL:
    # It warns that memory is not shared between processes; without Redis there is one.
    SILENCED_SYSTEM_CHECKS += ["django_ratelimit.E003", "django_ratelimit.W001"]

# --- Models and providers ------------------------------------------------------------------------

DEVICE = env.one_of("DEVICE", "auto", ("auto", "cuda", "mps", "cpu"))
DEFAULT_MODEL = env.text(
    "DEFAULT_MODEL", "smollm2-135m-instruct", form="the alias of a model", example="claude-sonnet"
)
CURRENCY = env.currency("CURRENCY", "USD")
LOCAL_MODEL_PATH = env.text(
    "LOCAL_MODEL_PATH", form="a Hugging Face folder or id, or a GGUF file", example="Qwen/Qwen3-0.6B"
)
LOCAL_CONTEXT = env.whole("LOCAL_CONTEXT", 2048, least=64)
MODELS_ROOT = env.path("MODELS_ROOT", BASE_DIR / "models")
MODEL_URL = env.url("MODEL_URL", f"http://127.0.0.1:{PORT + 1}", example="http://model:8001")
EMBEDDING_MODEL = env.text(
    "EMBEDDING_MODEL",
    "all-MiniLM-L6-v2",
    form="a sentence-transformers folder or a Hugging Face id",
    example="intfloat/multilingual-e5-small",
)
LOCAL_BASE_URL = env.url("LOCAL_BASE_URL", example="http://127.0.0.1:8000/v1")

ANTHROPIC_API_KEY = env.text("ANTHROPIC_API_KEY", form="a key", example="(from the provider's console)")
ANTHROPIC_BASE_URL = env.url("ANTHROPIC_BASE_URL", example="https://api.anthropic.com")
OPENAI_API_KEY = env.text("OPENAI_API_KEY", form="a key", example="(from the provider's console)")
OPENAI_BASE_URL = env.url("OPENAI_BASE_URL", example="https://api.openai.com/v1")

PROVIDER_BASE_URLS = env.base_urls("PROVIDER_BASE_URLS", [], example="http://gpu1:8000/v1")
PROVIDER_CONCURRENCY = env.whole("PROVIDER_CONCURRENCY", 600, least=1)
PROVIDER_QUEUE = env.whole("PROVIDER_QUEUE", 200)

CONNECT_TIMEOUT = env.seconds("CONNECT_TIMEOUT", 3.0)
FIRST_TOKEN_TIMEOUT = env.seconds("FIRST_TOKEN_TIMEOUT", 30.0)
IDLE_TIMEOUT = env.seconds("IDLE_TIMEOUT", 20.0)
TOTAL_TIMEOUT = env.seconds("TOTAL_TIMEOUT", 300.0)

# --- Accounts ------------------------------------------------------------------------------------

AUTH_USER_MODEL = "accounts.User"
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "chat"
LOGOUT_REDIRECT_URL = "login"
REGISTRATION_OPEN = env.flag("REGISTRATION_OPEN", not PRODUCTION)

PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

SIMPLE_JWT = {
    "SIGNING_KEY": derive_key(SECRET_KEY, "jwt").hex(),
    "ALGORITHM": "HS256",
    "AUDIENCE": "llmsite",
    "ISSUER": f"llmsite:{ENVIRONMENT}",
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=10),
    "USER_ID_CLAIM": "sub",
    "UPDATE_LAST_LOGIN": False,
}
REFRESH_TOKEN_LIFETIME = timedelta(days=14)
ROTATION_KEY = derive_key(SECRET_KEY, "refresh-rotation")

# The __Host- prefix is only valid on cookies with Secure, which plain HTTP on loopback cannot have.
_cookie_prefix = "__Host-" if PRODUCTION else "llmsite_"
ACCESS_COOKIE = f"{_cookie_prefix}at"
REFRESH_COOKIE = f"{_cookie_prefix}rt"
CSRF_COOKIE_NAME = f"{_cookie_prefix}csrf"
CSRF_COOKIE_SECURE = SESSION_COOKIE_SECURE = AUTH_COOKIE_SECURE = PRODUCTION
CSRF_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_HTTPONLY = True
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_SECURE = PRODUCTION
CSRF_FAILURE_VIEW = "llmsite.core.error_pages.csrf_failure"

# --- Mail ----------------------------------------------------------------------------------------

globals().update(env.email("EMAIL_URL", "consolemail://"))
EMAIL_TIMEOUT = 10  # Seconds; Django would wait for a silent mail server for ever.
DEFAULT_FROM_EMAIL = env.text(
    "DEFAULT_FROM_EMAIL",
    "llmsite@localhost",
    form="an e-mail address",
    example="llmsite@example.org",
)
PASSWORD_RESET_TIMEOUT = 3600

# --- HTTP ----------------------------------------------------------------------------------------

SECURE_SSL_REDIRECT = PRODUCTION
SECURE_HSTS_SECONDS = 31_536_000 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_REDIRECT_EXEMPT = [r"^health/", r"^metrics$"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        "script-src": ["'self'"],
        "style-src": ["'self'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "manifest-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
        "frame-ancestors": ["'none'"],
    },
}

MAX_PROMPT_CHARACTERS = env.whole("MAX_PROMPT_CHARACTERS", 200_000, least=1)
DATA_UPLOAD_MAX_MEMORY_SIZE = 2_621_440
MAX_UPLOAD_MB = env.whole("MAX_UPLOAD_MB", 50, least=1)
STORAGE_QUOTA_MB = env.whole("STORAGE_QUOTA_MB", 5000)
MEDIA_ROOT = env.path("MEDIA_ROOT", BASE_DIR / "media")
INDEX_ROOT = env.path("INDEX_ROOT", BASE_DIR / "media" / "indexes")
ADAPTERS_ROOT = env.path("ADAPTERS_ROOT", BASE_DIR / "media" / "adapters")
DATASETS_ROOT = env.path("DATASETS_ROOT", BASE_DIR / "media" / "datasets")
TRAINING_ROOT = env.path("TRAINING_ROOT", BASE_DIR / "media" / "training")
TRAINING_MEMORY_MB = env.whole("TRAINING_MEMORY_MB", 0)
TRAINING_DISK_MB = env.whole("TRAINING_DISK_MB", 5000, least=1)
TRAINING_HOURS = env.whole("TRAINING_HOURS", 24, least=1)
TRAINING_NICE = env.whole("TRAINING_NICE", 19, most=19)
# On the same volume as what is kept of it, so that keeping it is a matter of its name.
FILE_UPLOAD_TEMP_DIR = MEDIA_ROOT / "uploads"
FILE_UPLOAD_HANDLERS = ["llmsite.core.upload_handler.UploadHandler"]
DATA_UPLOAD_MAX_NUMBER_FILES = 100

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["accounts.authentication.BearerOrCookie"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "EXCEPTION_HANDLER": "llmsite.core.rest.exception_handler",
    "DEFAULT_SCHEMA_CLASS": "llmsite.core.schema.SiteSchema",
    "UNAUTHENTICATED_USER": "django.contrib.auth.models.AnonymousUser",
}

SPECTACULAR_SETTINGS = {
    "TITLE": "llmsite",
    "VERSION": __version__,
    "OAS_VERSION": "3.1.1",
    "DEFAULT_GENERATOR_CLASS": "llmsite.api_docs.Generator",
    "SCHEMA_PATH_PREFIX": "/",
    "COMPONENT_SPLIT_REQUEST": True,
    # Choices stand where they belong, and not in components with invented names.
    "POSTPROCESSING_HOOKS": [],
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
}

# --- How long things are kept --------------------------------------------------------------------

# Days; 0 keeps for ever. A worker removes what is older (llmsite/retention/).
RETENTION_CONVERSATIONS_DAYS = env.whole("RETENTION_CONVERSATIONS_DAYS", 0)
RETENTION_ONE_OFF_DAYS = env.whole("RETENTION_ONE_OFF_DAYS", 0)
RETENTION_FEEDBACK_DAYS = env.whole("RETENTION_FEEDBACK_DAYS", 0)
RETENTION_DOCUMENTS_DAYS = env.whole("RETENTION_DOCUMENTS_DAYS", 0)
RETENTION_TRAINING_METRICS_DAYS = env.whole("RETENTION_TRAINING_METRICS_DAYS", 0)
RETENTION_LEDGER_DAYS = env.whole("RETENTION_LEDGER_DAYS", 0)
RETENTION_AUDIT_DAYS = env.whole("RETENTION_AUDIT_DAYS", 0)
RETENTION_ADMIN_LOG_DAYS = env.whole("RETENTION_ADMIN_LOG_DAYS", 0)
RETENTION_TASKS_DAYS = env.whole("RETENTION_TASKS_DAYS", 1)

# --- Language, files, logs -----------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("es", _("Spanish"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
FORMAT_MODULE_PATH = "llmsite.formats"
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles" if PRODUCTION else None
STATICFILES_DIRS = [BASE_DIR / "static"]
# A production image has run collectstatic; elsewhere files are served from where they lie.
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = not PRODUCTION
WHITENOISE_ALLOW_ALL_ORIGINS = False
_static_storage = (
    "llmsite.core.static_files.ManifestStorage"
    if PRODUCTION
    else "django.contrib.staticfiles.storage.StaticFilesStorage"
)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": _static_storage},
}

LOG_LEVEL = env.one_of("LOG_LEVEL", "info", ("debug", "info", "warning", "error"))
LOG_PROMPTS = env.flag("LOG_PROMPTS", False)
METRICS_TOKEN = env.text("METRICS_TOKEN", form="a secret", example="(openssl rand -hex 32)")
# prometheus-client reads it from the environment (llmsite/core/shared_values.py); here it is declared.
PROMETHEUS_MULTIPROC_DIR = env.text(
    "PROMETHEUS_MULTIPROC_DIR",
    form="a folder",
    example="/dev/shm/llmsite-metrics",  # noqa: S108 - an example
)
OTEL_EXPORTER_OTLP_ENDPOINT = env.url("OTEL_EXPORTER_OTLP_ENDPOINT", example="http://127.0.0.1:4318")
LOGGING = logging_config(LOG_LEVEL.upper(), gathered="serve_web" in sys.argv)

TRUSTED_PROXIES = env.networks("TRUSTED_PROXIES", [], example="10.0.0.0/8")
