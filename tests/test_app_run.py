"""An app's life: whatever happens, the error says what happened and nothing is left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from app_parts import processes_in, write_app
from ditto.errors import AppError, MissingCapabilityError
from ditto.host import ports
from ditto.host.app import AppRun


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An app's folder, and at the end the check that nothing of the app is left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    home = tmp_path / "app"
    home.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    yield home
    assert processes_in(home) == []
    assert list(temporary.iterdir()) == []


def test_start_load_stop(folder: Path) -> None:
    spec = write_app(folder)
    run = AppRun(spec)
    with run:
        assert run.port != 20001 or spec.service.port == run.port
        assert run.pids() == [run.pid]
        result = run.load()
        assert (result.exit_code, result.stdout.strip()) == (0, "20 requests")
        assert run.load(requests=7).stdout.strip() == "7 requests"
        assert run.memory().rss_bytes > 1_000_000
        assert "serving" in run.entry.log.read_text()
        assert run.run_folder.is_dir()
    run.stop()
    run.stop()


def test_a_client_that_cannot_be_told_a_number_makes_that_of_the_app(folder: Path) -> None:
    spec = write_app(folder)
    assert spec.load.makes is None
    load = spec.load.model_copy(update={"command": tuple(w.replace("{requests}", "9") for w in spec.load.command)})
    with AppRun(spec.model_copy(update={"load": load})) as run:
        assert run.load().makes == load.makes == spec.load.requests.native
        assert run.load(command=spec.load.command).makes is None


def test_lens_run_has_its_own_numbers(folder: Path) -> None:
    spec = write_app(folder, service='lens_command = ["python3", "server.py", "{port}", "chatty"]')
    with AppRun(spec, which="lens") as run:
        assert run.load().stdout.strip() == "3 requests"
        assert b"chatty" in Path(f"/proc/{run.pid}/cmdline").read_bytes()


def test_numbers_of_successive_clients_are_apart_by_chance(folder: Path) -> None:
    with AppRun(write_app(folder)) as run:
        clients = [run.start_load(requests=1) for _ in range(12)]
        numbers = [client.pid for client in clients]
        for client in clients:
            client.wait(10)
    # Without it they are one or two apart each time.
    assert len({later - earlier for earlier, later in pairwise(numbers)}) >= 6


def test_cpu_time_is_counted(folder: Path) -> None:
    with AppRun(write_app(folder, client="burn")) as run:
        before = run.cpu_times()
        run.load(requests=2)
        used = run.cpu_times() - before
    assert used.run_s >= 0.6
    assert used.user_s + used.system_s == pytest.approx(used.run_s, abs=0.05)


def test_held_service_waits_before_its_exec(folder: Path) -> None:
    with AppRun(write_app(folder), hold=True) as run:
        pid = run.pid
        time.sleep(0.2)
        assert b"ditto-hold" in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert ports.is_free(run.port)
        run.release()
        run.wait_ready()
        assert run.pid == pid
        assert b"server.py" in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"ditto-hold" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        run.load()


def test_held_service_that_is_never_released_ends(folder: Path) -> None:
    with AppRun(write_app(folder), hold=True) as run:
        assert run.pids() == [run.pid]


def test_wrap_changes_command_and_environment(folder: Path) -> None:
    def wrap(command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        return ["env", "WRAPPED=yes", *command], {**environment, "ALSO": "this"}

    with AppRun(write_app(folder), wrap=wrap) as run:
        environment = Path(f"/proc/{run.pid}/environ").read_bytes().split(b"\0")
        assert {b"WRAPPED=yes", b"ALSO=this"} <= set(environment)
        run.load()


def test_clone_takes_the_place_of_the_service(folder: Path) -> None:
    spec = write_app(folder, server="early")
    command = [sys.executable, str(folder / "server.py"), "{port}", "plain"]
    with AppRun.for_clone(spec, command) as run:
        assert run.load().stdout.strip() == "20 requests"


def test_setup_prepare_and_servers_beside(folder: Path) -> None:
    extra = f"""
setup = ["sh", "-c", "echo {{port}} >made-by-setup"]
[[beside]]
name = "back"
command = ["{sys.executable}", "server.py", "{{port}}"]
port = 20002
[prepare]
command = ["sh", "-c", "echo {{port}} {{port:back}} >made-by-prepare"]
"""
    with AppRun(write_app(folder, extra=extra)) as run:
        assert (folder / "made-by-setup").read_text().strip() == str(run.port)
        run.prepare()
        own, back = (folder / "made-by-prepare").read_text().split()
        assert own == str(run.port) != back
        socket.create_connection(("127.0.0.1", int(back))).close()
        assert len(run.pids()) == 1, "servers beside are not the app's"


def test_load_for_starts_again_and_ends(folder: Path) -> None:
    with AppRun(write_app(folder)) as run:
        results = run.load_for(0.8, requests=5)
        assert len(results) >= 2
        assert all(result.exit_code == 0 for result in results[:-1])
        results = run.load_for(0.3, requests=1_000_000)
        assert [result.ended_by_us for result in results] == [True]
        results = run.load_for(30.0, requests=5, again=False)
        assert [(result.exit_code, result.ended_by_us) for result in results] == [(0, False)]
        results = run.load_for(0.3, requests=1_000_000, again=False)
        assert [result.ended_by_us for result in results] == [True]


def test_load_in_the_background(folder: Path) -> None:
    with AppRun(write_app(folder)) as run:
        client = run.start_load(requests=1_000_000)
        assert client.is_running()
        assert client.stop().ended_by_us
        run.start_load(requests=1_000_000)  # is left to stop()


@pytest.mark.parametrize("ready", ['{ log = "^serv|serving" }', "{ seconds = 0.5 }", '"tcp"'])
def test_ways_to_be_ready(folder: Path, ready: str) -> None:
    with AppRun(write_app(folder, service=f"ready = {ready}")) as run:
        run.load()


def test_app_that_ends_early(folder: Path) -> None:
    with pytest.raises(AppError, match=r"small ended with exit code 3; last lines: starting early \| no database"):
        AppRun(write_app(folder, server="early")).start()


def test_app_that_is_never_ready(folder: Path) -> None:
    with pytest.raises(AppError, match=r"not ready after 0.5 s: .* does not accept connections"):
        AppRun(write_app(folder, server="never"), ready_timeout_s=0.5).start()


def test_app_that_dies_under_load(folder: Path) -> None:
    with AppRun(write_app(folder, client="die")) as run, pytest.raises(AppError, match="small ended with exit code 9"):
        run.load()


def test_client_that_fails(folder: Path) -> None:
    with AppRun(write_app(folder, client="fail")) as run:
        with pytest.raises(AppError, match=r"load failed with exit code 4: .*cannot agree with the server"):
            run.load()
        with pytest.raises(AppError, match="load failed with exit code 4"):
            run.load_for(5)


def test_client_that_hangs(folder: Path) -> None:
    with AppRun(write_app(folder, client="hang")) as run, pytest.raises(AppError, match=r"did not end within 0\.3 s"):
        run.load(timeout_s=0.3)


def test_setup_and_prepare_that_fail(folder: Path) -> None:
    with pytest.raises(AppError, match=r"setup failed with exit code 7: sh -c .*; last lines: no space"):
        AppRun(write_app(folder, extra='setup = ["sh", "-c", "echo no space >&2; exit 7"]')).start()
    with (
        AppRun(write_app(folder, extra='[prepare]\ncommand = ["false"]')) as run,
        pytest.raises(AppError, match="prepare failed with exit code 1: false"),
    ):
        run.prepare()


def test_port_in_use(folder: Path) -> None:
    spec = write_app(folder)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(AppError, match=f"port {port}, wanted by --port {port}, is in use"):
            AppRun(spec, port=port).start()


def test_commands_that_are_missing(folder: Path) -> None:
    spec = write_app(folder, extra='setup = ["no-such-program-here"]')
    with pytest.raises(MissingCapabilityError, match=r"no-such-program-here: command not found \(command of setup\)"):
        AppRun(spec).start()
    spec = write_app(folder, extra='[[beside]]\ncommand = ["pgbench"]')
    if not any(Path(place, "pgbench").exists() for place in os.environ["PATH"].split(":")):
        with pytest.raises(MissingCapabilityError, match="apt-get install postgresql-contrib"):
            AppRun(spec).start()


def test_a_script_that_cannot_be_executed(folder: Path) -> None:
    script = folder / "run.sh"
    script.write_text("exec sleep 60\n")
    script.chmod(0o755)
    spec = write_app(folder)
    service = spec.service.model_copy(update={"command": ("./run.sh", "{port}")})
    with pytest.raises(AppError, match="cannot be executed: Exec format error"):
        AppRun(spec.model_copy(update={"services": (service,)})).start()


@pytest.mark.parametrize("server", ["daemon", "stubborn", "chatty"])
def test_nothing_is_left_of_difficult_servers(folder: Path, server: str) -> None:
    with AppRun(write_app(folder, server=server), stop_patience_s=0.5) as run:
        run.load()
        assert len(run.pids()) == (2 if server == "stubborn" else 1)
        if server == "daemon":
            assert run.pids() != [run.pid]
            assert run.cpu_times().run_s > 0


def test_a_title_over_the_environment_does_not_hide_a_daemon(folder: Path) -> None:
    # What nginx and others do: leave by a fork, then write a title over arguments and environment.
    source = folder / "titled.c"
    source.write_text(
        """
        #include <string.h>
        #include <stdlib.h>
        #include <unistd.h>
        #include <arpa/inet.h>
        extern char **environ;
        int main(int argc, char **argv) {
            char *end = argv[0];
            struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
            int s = socket(AF_INET, SOCK_STREAM, 0);
            for (int i = 0; environ[i]; i++) end = environ[i] + strlen(environ[i]);
            if (fork()) _exit(0);
            setsid();
            memset(argv[0], 0, end - argv[0]);
            strcpy(argv[0], "titled: master");
            a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
            if (bind(s, (void *)&a, sizeof a) || listen(s, 9)) return 1;
            for (;;) close(accept(s, 0, 0));
        }
        """
    )
    subprocess.run(["cc", "-o", folder / "titled", source], check=True)
    spec = write_app(folder)
    service = spec.service.model_copy(update={"command": ("./titled", "{port}")})
    with AppRun(spec.model_copy(update={"services": (service,)})) as run:
        assert len(run.pids()) == 1
        assert run.pids() != [run.pid]


def _driver(folder: Path, body: str) -> subprocess.Popen[str]:
    """A program of its own that uses an AppRun as the command line does."""
    code = f"""
import sys, time
from pathlib import Path
from ditto.artifacts.app import load_app
from ditto.host import interrupts
from ditto.host.app import AppRun
interrupts.install()
spec = load_app(Path({str(folder / "app.toml")!r}))
try:
{body}
except KeyboardInterrupt:
    sys.exit(130)
"""
    environment = {**os.environ, "TMPDIR": str(folder.parent / "tmp")}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("server", ["plain", "daemon", "never"])
def test_interruption_leaves_nothing(folder: Path, server: str, number: signal.Signals) -> None:
    write_app(folder, server=server)
    body = """
    run = AppRun(spec)
    print("go", flush=True)
    run.start()
    run.load(1000000)
"""
    driver = _driver(folder, body)
    assert driver.stdout is not None
    driver.stdout.readline()
    wanted = 1 if server == "never" else 2
    deadline = time.monotonic() + 20
    while len(processes_in(folder)) < wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    driver.send_signal(number)
    assert driver.wait(30) == 130


def test_a_killed_observer_leaves_the_app_serving(folder: Path) -> None:
    write_app(folder)
    body = """
    run = AppRun(spec).start()
    print(run.port, *run.pids(), flush=True)
    time.sleep(600)
"""
    driver = _driver(folder, body)
    assert driver.stdout is not None
    port, pid = (int(word) for word in driver.stdout.readline().split())
    driver.kill()
    driver.wait()
    time.sleep(0.2)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"alive")
            assert connection.recv(100) == b"alive"
    finally:
        with AppRun(write_app(folder)):
            assert len(list((folder.parent / "tmp").iterdir())) == 2, "the folder stays while its app runs"
        os.kill(pid, signal.SIGKILL)
        while processes_in(folder):
            time.sleep(0.01)
        with AppRun(write_app(folder)):
            assert len(list((folder.parent / "tmp").iterdir())) == 1, "a later run removes it"


def test_runs_side_by_side_do_not_end_each_other(folder: Path) -> None:
    spec = write_app(folder, server="daemon")
    with AppRun(spec) as first:
        with AppRun(spec) as second:
            assert not set(first.pids()) & set(second.pids())
        assert len(first.pids()) == 1
        first.load()
