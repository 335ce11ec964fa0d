"""What docker-compose.yml, the Dockerfile and scripts/write-env promise to who puts the site on a server."""

import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from shutil import copy
from threading import Thread

import jsonschema
import pytest
import yaml
from django.core.management import get_commands

import llmsite
from llmsite import settings
from llmsite.alive import answers
from llmsite.backup.files import KINDS
from llmsite.testing import compose

ROOT = compose.ROOT
SCHEMA = json.loads((Path(__file__).parent / "compose-spec/compose-spec.json").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
WHOLE = compose.load({"DOMAIN": "llm.example.org"})
SERVICES = WHOLE["services"]
OWN = ("migrate", "web", "model", "worker", "trainer", "restore")
FOREIGN = set(SERVICES) - set(OWN)

WITHOUT_HEALTH = {
    "migrate": "It ends; the others wait for its status.",
    "worker": "It has no port; /health/ready and an alert tell whether tasks stand still.",
    "trainer": "The same.",
    "restore": "Somebody waits for its end.",
}
WRITABLE_ROOT = {"vllm": "It compiles kernels into its home."}
BACKUPS = "/srv/llmsite/backups"
OF_COMPOSE = {"COMPOSE_PROFILES", "COMPOSE_FILE"}
ROOTS = {name for name in settings.env.declared if name.endswith("_ROOT")}
every_service = pytest.mark.parametrize("name", SERVICES)


def image_environment():
    """What the last stage of the Dockerfile sets."""
    last = DOCKERFILE.rpartition("\nFROM ")[2].replace("\\\n", " ")
    return dict(re.findall(r"(?:^ENV|\s)\s*([A-Z_]+)=(\S*)", re.search(r"^ENV .*$", last, re.MULTILINE)[0]))


def mounted(name):
    """By where it is mounted: the name of a volume, or a file of this folder, and whether it may write."""
    return {
        path: (source, "ro" not in options)
        for source, path, *options in (volume.split(":") for volume in SERVICES[name].get("volumes", []))
    }


# --- The file ------------------------------------------------------------------------------------------


def test_it_fits_the_schema_of_compose_files():
    raw = yaml.safe_load(compose.COMPOSE_FILE.read_text())
    for values in (raw, WHOLE):
        jsonschema.Draft7Validator(SCHEMA).validate(values)


def test_the_file_for_gpus_names_services_of_the_other_one():
    more = yaml.safe_load((ROOT / "deploy/gpu.yml").read_text())
    jsonschema.Draft7Validator(SCHEMA).validate(more)
    assert more["services"].keys() <= set(OWN)


def test_the_schema_refuses_what_is_no_compose_file():
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft7Validator(SCHEMA).validate({"services": {"web": {"image": "x", "helthcheck": {}}}})


def test_it_says_what_to_do_where_there_is_no_env_file():
    with pytest.raises(compose.Unset, match="scripts/write-env"):
        compose.load({})


@every_service
def test_each_service_has_a_health_check_or_a_reason(name):
    check = SERVICES[name]["healthcheck"]
    assert check.get("disable", False) is (name in WITHOUT_HEALTH)
    if name not in WITHOUT_HEALTH:
        assert check["test"][0] in ("CMD", "CMD-SHELL")
        assert {"interval", "timeout"} <= check.keys()


@every_service
def test_each_service_is_limited(name):
    assert {"cpus", "memory", "pids"} <= SERVICES[name]["deploy"]["resources"]["limits"].keys()
    assert SERVICES[name]["logging"]["options"].keys() == {"max-size", "max-file"}


@every_service
def test_each_service_is_confined(name):
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is (name not in WRITABLE_ROOT)
    assert not service.keys() & {"privileged", "network_mode", "pid"}


@every_service
def test_each_image_is_one_version(name):
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.search(r"\d+\.\d+\.\d+", tag)
    assert not re.search("latest|main|edge", tag)
    if name in OWN:
        assert tag == llmsite.__version__


def test_only_the_proxy_can_be_reached_from_outside():
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"proxy"}
    public = [port for port in SERVICES["proxy"]["ports"] if not port.startswith("127.0.0.1:")]
    assert public == ["80:80", "443:443", "443:443/udp"]


def test_the_site_believes_the_addresses_of_a_network_that_only_proxy_and_web_are_in():
    subnet = WHOLE["networks"]["front"]["ipam"]["config"][0]["subnet"]
    assert SERVICES["web"]["environment"]["TRUSTED_PROXIES"] == subnet
    inside = {name for name, service in SERVICES.items() if "front" in service["networks"]}
    assert inside == {"proxy", "web"}


def test_stores_have_no_way_out():
    assert WHOLE["networks"]["back"]["internal"] is True
    for name in ("postgres", "redis", "migrate"):
        assert SERVICES[name]["networks"] == ["back"]


def test_volumes_are_declared_and_used():
    used = {source for name in SERVICES for source, _ in mounted(name).values()}
    files = {source for source in used if source.startswith("./")}
    assert used - files == set(WHOLE["volumes"])
    for source in files:
        assert (ROOT / source).exists(), source


def test_secrets_are_declared_used_and_written(tmp_path):
    used = {secret for service in SERVICES.values() for secret in service.get("secrets", [])}
    assert used == set(WHOLE["secrets"])
    folder = write_env(tmp_path)
    assert {value["file"] for value in WHOLE["secrets"].values()} == {
        f"secrets/{path.name}" for path in (folder / "secrets").iterdir()
    }
    for name, service in SERVICES.items():
        text = json.dumps([service.get("environment"), service.get("command"), service.get("healthcheck")])
        asked = set(re.findall(r"/run/secrets/(\w+)", text))
        assert asked <= set(service.get("secrets", [])), name


@every_service
def test_a_start_waits_for_what_it_needs(name):
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        ends = "service_completed_successfully" if other == "migrate" else "service_healthy"
        assert wait["condition"] == ends
        assert other not in WITHOUT_HEALTH or other == "migrate"


def test_nothing_of_the_site_starts_before_the_tables_are_there():
    assert "postgres" in SERVICES["migrate"]["depends_on"]
    assert SERVICES["migrate"]["restart"] == "no"
    for name in OWN[1:]:
        assert "migrate" in SERVICES[name]["depends_on"]


# --- The site in it ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OWN)
def test_the_site_s_processes_are_one_image_with_settings_that_exist(name):
    service = SERVICES[name]
    assert (service["image"], service["build"]) == (SERVICES["web"]["image"], SERVICES["web"]["build"])
    assert service["env_file"] == [".env"]
    known = settings.env.declared.keys()
    named = {variable.removesuffix("_FILE") for variable in service["environment"]}
    assert named <= known
    assert service["command"][:2] == ["python", "manage.py"]
    assert service["command"][2] in get_commands()


def test_variables_of_the_file_are_written_or_have_a_default(tmp_path):
    written = compose.read_env(write_env(tmp_path) / ".env")
    asked = compose.variables()
    assert {name for name, default in asked.items() if not default} <= written.keys()
    known = asked.keys() | settings.env.declared.keys() | OF_COMPOSE
    assert written.keys() <= known


def test_a_restore_runs_by_hand_alone_where_it_reaches_all_that_a_backup_has():
    service = SERVICES["restore"]
    assert (service["profiles"], service["restart"]) == (["tools"], "no")
    folders = image_environment()
    for kind in KINDS:
        assert mounted("restore")[folders[kind.setting]] == mounted("web")[folders[kind.setting]]
    assert mounted("restore")[BACKUPS] == mounted("web")[BACKUPS] == ("backups", True)


def test_the_commands_of_the_docs_name_services_and_commands_that_exist():
    text = (ROOT / "docs/operations.md").read_text()
    told = re.findall(r"docker compose (?:run|exec)((?: -\S+)*) (\w+) python manage.py (\w+)", text)
    assert {("restore", "restore"), ("web", "backup")} <= {(service, command) for _, service, command in told}
    for _, service, command in told:
        assert service in SERVICES
        assert command in get_commands()


def test_web_runs_twice():
    assert SERVICES["web"]["deploy"]["replicas"] == SERVICES["web"]["environment"]["WEB_PROCESSES"] == "2"


def test_each_process_has_the_folders_it_works_with():
    """Which these are: comments in the file say why."""
    folders = image_environment()
    writes = {
        name: {root for root in ROOTS if mounted(name).get(folders[root], ("", False))[1]} for name in OWN
    }
    assert writes == {
        "migrate": set(),
        "web": {"MEDIA_ROOT", "DATASETS_ROOT", "ADAPTERS_ROOT"},
        "model": {"MODELS_ROOT", "INDEX_ROOT"},
        "worker": {"MEDIA_ROOT", "DATASETS_ROOT", "ADAPTERS_ROOT"},
        "trainer": {"TRAINING_ROOT", "ADAPTERS_ROOT", "MODELS_ROOT"},
        "restore": {"MEDIA_ROOT", "DATASETS_ROOT", "ADAPTERS_ROOT", "INDEX_ROOT", "MODELS_ROOT"},
    }
    for name in OWN:
        metrics = SERVICES[name]["environment"]["PROMETHEUS_MULTIPROC_DIR"]
        assert mounted(name)[metrics] == ("metrics", True)
    for name in OWN[1:]:
        assert mounted(name)[folders["MODELS_ROOT"]][0] == "models"
    owner = re.search(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)
    options = WHOLE["volumes"]["metrics"]["driver_opts"]["o"]
    assert f"uid={owner[1]},gid={owner[2]}" in options


def test_the_image_s_settings_exist_and_name_every_folder():
    names = image_environment()
    of_python = {"PATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE", "HOME", "HF_HOME", "ENV_FILE"}
    assert names.keys() - of_python <= settings.env.declared.keys()
    assert names.keys() >= ROOTS


# --- The Dockerfile --------------------------------------------------------------------------------------


def test_the_dockerfile_is_as_hadolint_wants_it():
    ended = subprocess.run(["hadolint", "Dockerfile"], cwd=ROOT, env=tools(), capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "")


def test_hadolint_would_say_something(tmp_path):
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM debian:latest\nRUN cd /tmp && apt-get install gcc\n")
    assert subprocess.run(["hadolint", bad], env=tools(), capture_output=True).returncode


def tools():
    return {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_what_runs_is_not_root_and_has_no_tools():
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert "HEALTHCHECK" in last
    assert not re.search(r"pip|apt-get|curl", last)


IGNORED = (
    ".env",
    ".env.local",
    "secrets/secret_key",
    ".git/config",
    ".venv/bin/python",
    "media/one",
    "models/one",
    "db.sqlite3",
    "db.sqlite3-wal",
    "accounts/tests/test_keys.py",
    ".cache/one",
    "staticfiles/one",
)
KEPT = ("manage.py", "accounts/models/user.py", "inference/models/chat.py", "locale/es/LC_MESSAGES/django.mo")


@pytest.mark.parametrize("path", IGNORED)
def test_secrets_and_data_stay_out_of_the_image(path):
    assert is_ignored(path)


@pytest.mark.parametrize("path", KEPT)
def test_code_comes_into_it(path):
    assert not is_ignored(path)


def is_ignored(path):
    """By .dockerignore: the last line that fits a path, or a folder above it, says it."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]
    above = [path, *(str(parent) for parent in Path(path).parents)]
    answer = False
    for line in lines:
        pattern = line.lstrip("!")
        anywhere = pattern.removeprefix("**/") if pattern.startswith("**/") else None
        if any(fits(one, pattern) or (anywhere and fits(Path(one).name, anywhere)) for one in above):
            answer = not line.startswith("!")
    return answer


def fits(path, pattern):
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)


# --- The command that writes .env --------------------------------------------------------------------------


def write_env(folder, *arguments):
    """`folder` after the command has run in it, as a copy of the project."""
    (folder / "scripts").mkdir(exist_ok=True)
    copy(ROOT / "scripts/write-env", folder / "scripts")
    command = [folder / "scripts/write-env", *(arguments or ("llm.example.org",))]
    # Nothing but what is on every Linux.
    subprocess.run(command, check=True, env={"PATH": "/usr/bin:/bin"}, capture_output=True)
    return folder


def test_it_writes_secrets_that_nobody_else_can_reach(tmp_path):
    folder = write_env(tmp_path)
    assert (folder / ".env").stat().st_mode & 0o777 == 0o600
    assert (folder / "secrets").stat().st_mode & 0o777 == 0o700
    texts = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
    assert all(len(text) >= 64 for text in texts.values())
    assert texts["database_password"] in texts["database_url"]
    assert texts["redis_password"] in texts["redis_url"]
    assert texts["redis_password"] in texts["redis_conf"]
    random = [texts[name] for name in texts if name.endswith(("key", "password", "token"))]
    assert len(set(random)) == len(random) == 5
    assert not any(text in (folder / ".env").read_text() for text in random)


def test_it_changes_nothing_that_is_there(tmp_path):
    folder = write_env(tmp_path)
    before = {path: path.read_bytes() for path in (folder / ".env", *(folder / "secrets").iterdir())}
    with pytest.raises(subprocess.CalledProcessError):
        write_env(folder)
    (folder / ".env").unlink()
    write_env(folder)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize(
    "arguments",
    [("",), ("llm.example.org/x",), ("$(id).org",), ("a.org", "--gpu", "x y"), ("192.168.1.5",), ("::1",)],
)
def test_it_takes_names_only(tmp_path, arguments):
    with pytest.raises(subprocess.CalledProcessError):
        write_env(tmp_path, *arguments)
    assert not (tmp_path / ".env").exists()


def test_its_head_names_what_compose_sets_whatever_stands_in_it(tmp_path):
    folder = write_env(tmp_path)
    values = compose.read_env(folder / ".env")
    ours = {name for name in compose.load(values)["services"]["web"]["environment"] if name not in values}
    head = (folder / ".env").read_text().split("\n\n")[0]
    named = set(re.findall(r"\b[A-Z]{2,}(?:_[A-Z]+)*\b", head))
    assert named == {name.removesuffix("_FILE") for name in ours}


def test_containers_read_what_a_strict_umask_closed(tmp_path):
    (tmp_path / "deploy" / "grafana").mkdir(mode=0o700, parents=True)
    (tmp_path / "deploy" / "grafana" / "board.json").touch(mode=0o600)
    (tmp_path / "deploy").chmod(0o700)
    write_env(tmp_path)
    modes = [
        path.stat().st_mode & 0o777 for path in ((tmp_path / "deploy"), *(tmp_path / "deploy").rglob("*"))
    ]
    assert modes == [0o755, 0o755, 0o644]


def test_the_image_can_be_read_by_its_user_whatever_umask_the_checkout_had():
    site = DOCKERFILE.partition("AS site")[2].partition("\nFROM ")[0]
    assert site.rindex("chmod -R a+rX /app") > site.rindex("compileall")


def test_a_gpu_brings_its_server(tmp_path):
    values = compose.read_env(write_env(tmp_path, "llm.example.org", "--gpu", "Qwen/Qwen3-0.6B") / ".env")
    service = compose.load(values)["services"]["vllm"]
    assert service["profiles"] == [values["COMPOSE_PROFILES"]]
    assert "Qwen/Qwen3-0.6B" in service["command"]
    assert values["LOCAL_BASE_URL"] == "http://vllm:8000/v1"


def test_the_site_reads_what_it_wrote(tmp_path):
    """The settings of `web`, with each secret from its file."""
    folder = write_env(tmp_path)
    values = compose.read_env(folder / ".env")
    environment = {**image_environment(), **values, **compose.load(values)["services"]["web"]["environment"]}
    environment = {
        name: value.replace("/run/secrets", str(folder / "secrets")) for name, value in environment.items()
    }
    environment |= {"PATH": os.environ["PATH"], "PROMETHEUS_MULTIPROC_DIR": ""}
    ended = subprocess.run(
        [sys.executable, "-c", SHOWN], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    written = {path.name: path.read_text() for path in (folder / "secrets").iterdir()}
    assert told == {
        "SECRET_KEY": written["secret_key"],
        "METRICS_TOKEN": written["metrics_token"],
        "REDIS_URL": written["redis_url"],
        "ALLOWED_HOSTS": ["llm.example.org", "web"],
        "CSRF_TRUSTED_ORIGINS": ["https://llm.example.org"],
        "database": ["postgres", written["database_password"]],
    }


SHOWN = """
import json
from llmsite import settings
names = ("SECRET_KEY", "METRICS_TOKEN", "REDIS_URL", "ALLOWED_HOSTS", "CSRF_TRUSTED_ORIGINS")
told = {name: getattr(settings, name) for name in names}
assert settings.PRODUCTION
database = settings.DATABASES["default"]
print(json.dumps({**told, "database": [database["HOST"], database["PASSWORD"]]}))
"""

# --- The health check --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "lives"), [(200, True), (400, False), (503, False)])
def test_a_process_lives_where_it_answers_well(status, lives, monkeypatch):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            hosts.append(self.headers["Host"])
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_arguments):
            pass

    hosts = []
    monkeypatch.setenv("ALLOWED_HOSTS", ".example.org, web")
    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        assert answers(f"http://127.0.0.1:{server.server_port}/health/live") is lives
        thread.join()
    assert hosts == ["example.org"]


def test_a_process_that_is_away_does_not_live():
    assert not answers("http://127.0.0.1:9/health/live")
