"""Finding the program of a command, and saying which Debian package has it when it is missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ditto.errors import MissingCapabilityError

# The package of a command that is not named like its package.
_PACKAGES = {
    "redis-server": "redis-server",
    "redis-benchmark": "redis-tools",
    "redis-cli": "redis-tools",
    "memcached": "memcached",
    "memcaslap": "libmemcached-tools",
    "memaslap": "libmemcached-tools",
    "memcslap": "libmemcached-tools",
    "memslap": "libmemcached-tools",
    "nginx": "nginx",
    "wrk": "wrk",
    "ab": "apache2-utils",
    "curl": "curl",
    "valgrind": "valgrind",
    "gcc": "gcc",
    "cc": "gcc",
    "make": "make",
    "clang": "clang",
    "bpftool": "bpftool",
    "strace": "strace",
    "postgres": "postgresql",
    "pgbench": "postgresql-contrib",
    "mariadbd": "mariadb-server",
    "haproxy": "haproxy",
    "apache2": "apache2",
    "lighttpd": "lighttpd",
    "caddy": "caddy",
    "php": "php-cli",
    "unbound": "unbound",
    "dnsperf": "dnsperf",
    "varnishd": "varnish",
    "node": "nodejs",
    "python3": "python3",
    "sysbench": "sysbench",
    "stress-ng": "stress-ng",
    "taskset": "util-linux",
}

# Debian keeps servers where a plain user's PATH does not look.
_ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def search_path(environment: dict[str, str] | None = None) -> str:
    """The PATH that commands of an app are looked up in: the user's, then the administrator's folders."""
    path = (environment or dict(os.environ)).get("PATH", os.defpath)
    parts = path.split(os.pathsep)
    return os.pathsep.join(parts + [folder for folder in _ADMIN_FOLDERS if folder not in parts])


def environment_in(folder: Path) -> dict[str, str]:
    """The environment of an app's commands, which run in ``folder``.

    PWD is as a shell would have it: runtimes that trust it ask the kernel where it is wrong.
    """
    return {**os.environ, "PATH": search_path(), "PWD": str(folder.resolve())}


def find_program(name: str, folder: Path | None = None) -> str | None:
    """Full path of ``name``, with slashes relative to ``folder``, else in `search_path`; None where missing."""
    if "/" in name:
        path = (folder or Path.cwd()) / name
        return str(path) if path.is_file() and os.access(path, os.X_OK) else None
    return shutil.which(name, path=search_path())


def require_program(command: Sequence[str], folder: Path | None = None, wanted_by: str = "") -> str:
    """Full path of the program of ``command``.

    Raises:
        MissingCapabilityError: there is no such program; names it and the Debian package where that is known.
    """
    found = find_program(command[0], folder)
    if found is not None:
        return found
    name = Path(command[0]).name
    package = _PACKAGES.get(name)
    remedy = f"apt-get install {package}" if package else "install it, or correct the command"
    by = f" (command of {wanted_by})" if wanted_by else ""
    raise MissingCapabilityError(f"{command[0]}: command not found{by}", remedy)
