"""php-fpm cloned by the command line: nginx, which stays what it is, serves wrk from the clone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ditto.artifacts.app import load_app
from ditto.artifacts.profile import load_profile
from ditto.host.app import AppRun
from ditto.host.recorder import CallCounter
from ditto.host.requests import count_requests
from test_databases_end_to_end import BINARIES, ditto

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.ebpf,
    pytest.mark.valgrind,
    pytest.mark.skipif(not all(path.exists() for path in BINARIES), reason="the native parts are not built"),
    pytest.mark.skipif(not list(Path("/usr/sbin").glob("php-fpm*")), reason="php-fpm is not installed"),
    pytest.mark.skipif(not shutil.which("nginx") or not shutil.which("wrk"), reason="nginx or wrk is not installed"),
]


def calls_a_request(run: AppRun, seconds: float) -> tuple[dict[int, float], int, str]:
    """System calls of the servers a request by number, the requests, and what the client said."""
    run.load_for(0.5)
    with CallCounter(run.pids()) as counter:
        before = counter.snapshot()
        result = run.load()
        used = (counter.snapshot() - before).by_call()
    requests = count_requests(result, None).requests
    return {nr: calls.calls / requests for nr, calls in used.items()}, int(requests), result.stdout


def test_a_web_server_in_front_serves_from_the_clone(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    for name in ("php-fpm", "gone.sh"):
        (app / name).symlink_to(EXAMPLES / name)
    text = (EXAMPLES / "php-fpm.toml").read_text()
    (app / "php-fpm.toml").write_text(text.replace('"5s"', '"2s"'))
    ditto("observe", app / "php-fpm.toml", "-o", tmp_path, "--seconds", "1")
    ditto("model", tmp_path)
    service = load_profile(tmp_path / "profile.json").services[0]
    assert (service.codec, service.receive.head) == ("fastcgi", 8)
    assert [reply.kind for cls in service.classes[:2] for reply in cls.replies] == ["fastcgi", "fastcgi"]
    assert service.classes[0].probability == pytest.approx(0.75, abs=0.02)
    ditto("generate", tmp_path / "profile.json", "-o", tmp_path / "clone")
    ditto("build", tmp_path / "clone")
    contents = b"".join(path.read_bytes() for path in (tmp_path / "clone").rglob("*") if path.is_file())
    assert not [word for word in (b"page.php", b"opcache", b"php-fpm", b"_start_fpm") if word in contents]
    spec = load_app(app / "php-fpm.toml")
    clone = [str(tmp_path / "clone" / "build" / "clone"), "--port", "{port}"]
    seen = []
    for run in (AppRun(spec), AppRun.for_clone(spec, clone)):
        with run:
            seen.append(calls_a_request(run, 2.0))
    (original, _, _), (made, requests, said) = seen
    assert requests > 1000 and "Non-2xx" not in said and "Socket errors" not in said, said
    for nr in {nr for nr, rate in original.items() if rate > 0.5}:
        assert made.get(nr, 0.0) == pytest.approx(original[nr], rel=0.05), nr
