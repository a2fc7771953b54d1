"""Servers under the lens that set their limit of open files, or change their user before they execute a program."""

from __future__ import annotations

import os
import pwd
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from ditto.host import lens
from ditto.host.lens import LensMode, LensRun
from ditto.paths import lens_directory

pytestmark = [
    pytest.mark.valgrind,
    pytest.mark.skipif(
        shutil.which("valgrind") is None or not (lens_directory() / "lens-amd64-linux").is_file(),
        reason="valgrind is not installed, or the lens is not built",
    ),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed"),
]

LIMITS = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
int main(int argc, char **argv) {
    for (int i = 2; i < argc; i++) {
        struct rlimit limit = {atoi(argv[i]), atoi(argv[i])}, now;
        int failed = argv[1][0] == 's' ? setrlimit(RLIMIT_NOFILE, &limit) : prlimit(0, RLIMIT_NOFILE, &limit, NULL);
        getrlimit(RLIMIT_NOFILE, &now);
        printf("%d %d %d\\n", failed, (int)now.rlim_cur, (int)now.rlim_max);
    }
    int opened = 3;
    while (open("/dev/null", O_RDONLY) >= 0) opened++;
    printf("%d\\n", opened);
    return 0;
}
"""

CHANGES_USER = """
#include <stdlib.h>
#include <unistd.h>
int main(int argc, char **argv) {
    if (setgid(atoi(argv[1])) || setuid(atoi(argv[1]))) return 3;
    execl("/bin/true", "true", (char *)0);
    return 4;
}
"""


def run(folder: Path, text: str, *words: str, extra: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    (folder / "p.c").write_text(text)
    subprocess.run(["gcc", "-O1", "-w", "-o", folder / "p", folder / "p.c"], check=True)
    made = LensRun.create(folder / "lens", extra=extra, mode=LensMode.COUNT)
    with made.control:
        return subprocess.run(
            made.command([str(folder / "p"), *words]), env=made.env(), capture_output=True, text=True, timeout=60
        )


@pytest.mark.parametrize("how", ["setrlimit", "prlimit"])
def test_any_lower_limit_of_open_files_is_set(tmp_path: Path, how: str) -> None:
    done = run(tmp_path, LIMITS, how, "200", "64", "100")
    assert done.stdout.splitlines()[:3] == ["0 200 200", "0 64 64", "0 100 100"], done.stderr
    assert 80 <= int(done.stdout.splitlines()[3]) <= 100


def test_a_limit_that_may_not_be_is_refused_as_natively(tmp_path: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = hard + 100
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):
        may = False
    else:
        may = True
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    done = run(tmp_path, LIMITS, "setrlimit", "64", str(wanted))
    assert done.stdout.splitlines()[1] == (f"0 {wanted} {wanted}" if may else "-1 64 64"), done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change its user")
@pytest.mark.parametrize("private", [False, True])
def test_a_program_that_was_executed_after_a_change_of_user_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    """Also where the lens lies in a folder that is root's alone."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    if private:
        hidden = tmp_path / "hidden"
        shutil.copytree(lens_directory(), hidden, symlinks=True, ignore=shutil.ignore_patterns("obj"))
        hidden.chmod(0o700)
        monkeypatch.setattr(lens, "lens_directory", lambda: hidden)
    done = run(tmp_path, CHANGES_USER, str(pwd.getpwnam("nobody").pw_uid))
    assert done.returncode == 0 and done.stderr == ""
    assert not list((tmp_path / "lens" / "vgdb").iterdir())
