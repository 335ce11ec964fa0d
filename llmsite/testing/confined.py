"""Runs a service of docker-compose.yml from an unpacked image, confined as an engine would, by means of root.

Its root folder is the image's, read-only; volumes, tmpfs and secrets lie where the file says. It runs as the
image's user without capabilities and without a way to new ones, and may make no namespaces, as under an
engine's seccomp profile. Not done: cgroups (limits of processor and memory) and a network of its own. All
of it happens in the mount namespace of the caller, whose end undoes it (`scripts/verify-image`).
"""

import ctypes
import os
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NO_NEW_PRIVILEGES, DROP_FROM_BOUNDING_SET, SET_SECCOMP, MODE_FILTER = 38, 24, 22, 2
MOST_CAPABILITIES = 64
UNSHARE, SETNS = 272, 308  # On x86-64.
DEVICES = ("null", "zero", "full", "random", "urandom")


class Service:
    """One service: its folder tree is made at once, processes are started in it by `start` and `run`."""

    def __init__(
        self, name: str, declared: Mapping[str, Any], *, image: Path, config: Mapping[str, Any], place: Path
    ) -> None:
        """`config` is the image's configuration; `place` has the secrets and the volumes of the site."""
        self.name = name
        self.tree = place / "trees" / name
        self.environment = dict(line.split("=", 1) for line in config["Env"])
        self.environment |= {key: str(value) for key, value in declared["environment"].items()}
        self._user, self._group = map(int, config["User"].split(":"))
        self._folder = config["WorkingDir"]
        self._declared = declared
        self._mount_all(image, place)

    def _mount_all(self, image: Path, place: Path) -> None:
        declared = self._declared
        binds = [volume.split(":") for volume in declared.get("volumes", [])]
        tmpfs = [entry.partition(":")[::2] for entry in declared["tmpfs"]]
        # An engine makes the places to mount at, before it makes the root folder read-only.
        for point in [path for _, path, *_ in binds] + [path for path, _ in tmpfs] + ["/run/secrets", "/sys"]:
            (image / point.lstrip("/")).mkdir(parents=True, exist_ok=True)
        self.tree.mkdir(parents=True, exist_ok=True)
        mount("--bind", image, self.tree)
        mount("-o", "remount,bind,ro", self.tree)
        self._mount_system()
        for volume, path, *options in binds:
            source = place / "volumes" / volume
            if not source.exists():
                source.mkdir(parents=True, mode=0o700)
                os.chown(source, self._user, self._group)
            mount("--bind", source, self._at(path))
            if "ro" in options:
                mount("-o", "remount,bind,ro", self._at(path))
        for path, options in tmpfs:
            mount("-t", "tmpfs", "-o", f"nosuid,nodev,{options}", "tmpfs", self._at(path))
        self._mount_secrets(place)
        mount("--bind", "/etc/hosts", self._at("/etc/hosts"))

    def _mount_system(self) -> None:
        mount("-t", "proc", "proc", self._at("/proc"))
        mount("--bind", "-o", "ro", "/sys", self._at("/sys"))
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", self._at("/dev"))
        for device in DEVICES:
            self._at(f"/dev/{device}").touch()
            mount("--bind", f"/dev/{device}", self._at(f"/dev/{device}"))
        self._at("/dev/shm").mkdir()
        mount("-t", "tmpfs", "-o", "mode=1777,size=64m", "tmpfs", self._at("/dev/shm"))
        self._at("/dev/fd").symlink_to("/proc/self/fd")

    def _mount_secrets(self, place: Path) -> None:
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", self._at("/run/secrets"))
        for secret in self._declared["secrets"]:
            target = self._at(f"/run/secrets/{secret}")
            target.touch()
            mount("--bind", "-o", "ro", place / "secrets" / secret, target)

    def _at(self, path: str) -> Path:
        return self.tree / path.lstrip("/")

    def start(self, log: Path, **environment: str) -> "subprocess.Popen[bytes]":
        """The service's own command."""
        with log.open("ab") as output:
            return subprocess.Popen(
                self._declared["command"],
                env={**self.environment, **environment},
                stdout=output,
                stderr=output,
                preexec_fn=self._enter,
            )

    def run(self, command: Sequence[str], **environment: str) -> "subprocess.CompletedProcess[str]":
        """Another command in the same place, as `docker compose exec` does it."""
        return subprocess.run(
            command,
            env={**self.environment, **environment},
            preexec_fn=self._enter,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def _enter(self) -> None:
        """In the new process, before its program."""
        libc = ctypes.CDLL(None, use_errno=True)
        os.chroot(self.tree)
        os.chdir(self._folder)
        for capability in range(MOST_CAPABILITIES):
            libc.prctl(DROP_FROM_BOUNDING_SET, capability, 0, 0, 0)
        os.setgroups([])
        os.setgid(self._group)
        os.setuid(self._user)
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        _refuse_namespaces(libc)


class _Program(ctypes.Structure):
    """The kernel's `sock_fprog`."""

    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


def _refuse_namespaces(libc: ctypes.CDLL) -> None:
    load, jump_if_equal, answer, allow, refuse = 0x20, 0x15, 0x06, 0x7FFF0000, 0x00050001
    steps = [
        (load, 0, 0, 0),
        (jump_if_equal, 1, 0, UNSHARE),
        (jump_if_equal, 0, 1, SETNS),
        (answer, 0, 0, refuse),
        (answer, 0, 0, allow),
    ]
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    program = _Program(len(steps), code)
    if libc.prctl(SET_SECCOMP, MODE_FILTER, ctypes.byref(program), 0, 0):
        raise OSError(ctypes.get_errno(), "seccomp")


def mount(*arguments: object) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True)
