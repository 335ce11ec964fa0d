"""Settings, stores, files and limits of the machine that doctor runs on."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

import redis
from django.conf import settings
from django.core import checks
from django.db import Error as DatabaseFailure
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from embeddings.errors import EncoderError
from embeddings.parsing.parser import limits_in_force
from embeddings.parsing.reasons import ParsingFailed
from embeddings.weights import is_on_this_machine, model_folder
from llmsite.core.disk import FOLDERS, LEAST_FREE, free_bytes
from llmsite.core.env import SECRET_KEY_BYTES
from llmsite.doctor.findings import Finding, failed, ok, warning
from llmsite.doctor.sqlite_file import look_at_file
from training import process

MEGABYTE = 10**6
FULL = 100 * MEGABYTE
"""With less free than this, an upload or a training may not fit any more."""
REDIS_SECONDS = 2


def look_at_settings() -> Iterator[Finding]:
    """Django's own checks, those of a deployment included where this is one, and who may read `.env`."""
    found = checks.run_checks(include_deployment_checks=settings.PRODUCTION)
    wrong = [one for one in found if one.level >= checks.WARNING and not one.is_silenced()]
    if not wrong:
        yield ok("settings", f"They are read, for {settings.ENVIRONMENT}.")
    for one in wrong:
        tell = failed if one.level >= checks.ERROR else warning
        yield tell("settings", f"{one.id}: {one.msg}", one.hint or "See docs/settings.md.")
    yield from _exposures()


def _exposures() -> Iterator[Finding]:
    env_file = Path(os.environ.get("ENV_FILE") or Path(settings.BASE_DIR) / ".env")
    if env_file.is_file() and stat.S_IMODE(env_file.stat().st_mode) & 0o077:
        yield warning(
            "settings", ".env, which holds secrets, can be read by others.", f"chmod 600 {env_file}"
        )
    if settings.PRODUCTION and settings.DEBUG:
        yield failed("settings", "DEBUG shows code and settings to visitors.", "Set DEBUG=false.")
    if settings.METRICS_TOKEN and len(settings.METRICS_TOKEN.encode()) < SECRET_KEY_BYTES:
        yield warning("settings", "METRICS_TOKEN is short.", "Make one: openssl rand -hex 32")


def look_at_database() -> Iterator[Finding]:
    if connection.vendor == "sqlite" and (wrong := list(look_at_file(str(connection.settings_dict["NAME"])))):
        yield from wrong
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT sqlite_version()" if connection.vendor == "sqlite" else "SHOW server_version"
            )
            version = cursor.fetchone()[0]
    except DatabaseFailure as error:
        yield failed(
            "database",
            f"It does not answer ({type(error).__name__}).",
            "Start it, or correct DATABASE_URL. What lies in it cannot be looked at meanwhile.",
        )
        return
    yield ok("database", f"{connection.display_name} {version} answers.")
    if connection.vendor == "sqlite" and settings.PRODUCTION:
        yield warning(
            "database",
            "SQLite takes one writer at a time.",
            "For more than one web process, or many users, set DATABASE_URL to a PostgreSQL.",
        )
    if connection.vendor == "postgresql":
        yield from _look_at_vectors()


def _look_at_vectors() -> Iterator[Finding]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT installed_version FROM pg_available_extensions WHERE name = 'vector'")
        row = cursor.fetchone()
    if row is None:
        text = "PostgreSQL has no pgvector: vectors are searched in the memory of the process model instead."
        yield warning("database", text, "Install pgvector where there are very many documents.")


def look_at_migrations() -> Iterator[Finding]:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        yield failed("migrations", f"{len(missing)} are missing.", "Run: python manage.py migrate")
    else:
        yield ok("migrations", "All are there.")


def look_at_redis() -> Iterator[Finding]:
    if not settings.REDIS_URL:
        yield ok("redis", "REDIS_URL is not set: right for one web process, and for no more.")
        return
    store = redis.Redis.from_url(
        settings.REDIS_URL, socket_timeout=REDIS_SECONDS, socket_connect_timeout=REDIS_SECONDS
    )
    try:
        server, memory = store.info("server"), store.info("memory")
    except (redis.RedisError, OSError) as error:
        text = f"The Redis of REDIS_URL does not answer ({type(error).__name__})."
        yield failed("redis", text, "Start it, or correct REDIS_URL; until then limits are stricter.")
        return
    finally:
        store.close()
    yield ok("redis", f"Redis {server['redis_version']} answers.")
    if memory.get("maxmemory") and memory.get("maxmemory_policy") != "noeviction":
        yield warning(
            "redis",
            f"With maxmemory-policy {memory['maxmemory_policy']} it forgets limits when it is full.",
            "Set maxmemory-policy noeviction, and enough maxmemory.",
        )


def look_at_model_files() -> Iterator[Finding]:
    """The chat model's and the encoder's. What is an id of a hub is looked for when it is loaded."""
    path = settings.LOCAL_MODEL_PATH
    if settings.LOCAL_BASE_URL:
        yield ok("model files", "LOCAL_BASE_URL serves the chat models; their files are not the site's.")
    elif path:
        yield from _look_at_path(path)
    else:
        yield from _look_at_packaged()
    yield from _look_at_encoder()


def _look_at_path(path: str) -> Iterator[Finding]:
    if not path.startswith(("/", ".", "~")):
        yield ok(
            "model files", f"{path} is an id of the hub, or a folder here; it is fetched when it is loaded."
        )
    elif Path(path).expanduser().exists():
        yield ok("model files", f"{path} is there.")
    else:
        todo = "Correct LOCAL_MODEL_PATH, or put the model there."
        yield failed("model files", f"There is nothing at {path}.", todo)


def _look_at_packaged() -> Iterator[Finding]:
    from inference.engine.errors import EngineError
    from inference.engine.packaged import PACKAGED_MODEL, packaged_gguf
    from inference.engine.prepare import is_whole

    folder = settings.MODELS_ROOT / PACKAGED_MODEL
    try:
        whole = is_whole(folder, packaged_gguf())
    except (EngineError, OSError) as error:
        yield failed("model files", str(error), "Install requirements-model.txt.")
        return
    if whole:
        yield ok("model files", f"The packaged chat model is ready in {folder}.")
    else:
        text = "The packaged chat model is not ready, or not whole."
        yield failed("model files", text, "Run: python manage.py prepare_model")


def _look_at_encoder() -> Iterator[Finding]:
    name = settings.EMBEDDING_MODEL
    if not is_on_this_machine(name):
        yield ok("model files", f"The encoder {name} is an id of the hub; it is fetched when it is loaded.")
        return
    try:
        model_folder(name)
    except EncoderError as error:
        yield failed("model files", str(error), "Correct EMBEDDING_MODEL, or mend its files.")
    else:
        yield ok("model files", f"The encoder {name} is there.")


def look_at_disk() -> Iterator[Finding]:
    for name in FOLDERS:
        folder = Path(getattr(settings, name))
        free = free_bytes(name)
        if folder.exists() and os.statvfs(folder).f_flag & os.ST_RDONLY:
            todo = "Right in a container that only reads there, or not at all; else mount it to be written."
            yield warning("disk", f"{name} is on a file system that is read-only here.", todo)
        elif folder.exists() and not os.access(folder, os.W_OK):
            todo = f"Let the site's user write to {folder}, or set {name} to another folder."
            yield failed("disk", f"{name} cannot be written.", todo)
        elif free < LEAST_FREE:
            yield _short_of_space(name, folder, free)
        else:
            yield ok("disk", f"{free // MEGABYTE:,} MB are free for {name}.")


def _short_of_space(name: str, folder: Path, free: int) -> Finding:
    text = f"{free // MEGABYTE} MB are free for {name}"
    todo = f"Make room below {folder}, or set {name} to a larger disk."
    if free < FULL:
        return failed("disk", f"Only {text}: nothing can be relied on to be kept.", todo)
    return warning("disk", f"{text}.", todo)


def look_at_limits() -> Iterator[Finding]:
    """What the children that read documents are kept from; tried in children, which takes some seconds."""
    failures: list[str] = []
    while (held := _tried(failures)) is None:
        if len(failures) == 2:
            text = f"They could not be tried, twice ({', '.join(failures)})."
            todo = "Run doctor again when this machine has less to do, and room for temporary files."
            yield failed("document limits", text, todo)
            return
    yield _limits(
        "document limits",
        held,
        "This machine does not keep the readers of documents from: {loose}.",
        "The other limits hold. Allow user namespaces and seccomp where documents come from strangers.",
    )


def _tried(failures: list[str]) -> dict[str, bool] | None:
    """The limits of documents; None where a child did not come to its end, and `failures` has why."""
    try:
        return limits_in_force()
    except ParsingFailed as failure:
        failures.append(failure.code)
        return None


def look_at_training_limits() -> Iterator[Finding]:
    """What trainings are kept from, likewise."""
    held = process.limits_in_force()
    # Only root can become somebody else, and the site should not run as root.
    held.pop("another user", None)
    yield _limits(
        "training limits",
        held,
        "This machine does not keep trainings from: {loose}.",
        "The other limits hold. They need Linux with user namespaces, seccomp and Landlock.",
    )


def _limits(part: str, held: Mapping[str, bool], text: str, todo: str) -> Finding:
    loose = ", ".join(name for name, holds in sorted(held.items()) if not holds)
    return warning(part, text.format(loose=loose), todo) if loose else ok(part, f"All {len(held)} hold.")
