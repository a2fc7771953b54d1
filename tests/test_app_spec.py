"""app.toml: what is read, what is refused, and what the refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from ditto.artifacts.app import AppSpec, load_app, substitute
from ditto.errors import BadInputError

SERVICE = '[service]\ncommand = ["server", "{port}"]\nport = 6379\n'
LOAD = '[load]\ncommand = ["client", "{port}", "{requests}"]\n'


def read(folder: Path, text: str) -> AppSpec:
    path = folder / "app.toml"
    path.write_text(text)
    return load_app(path)


def test_everything_the_format_has(tmp_path: Path) -> None:
    spec = read(
        tmp_path,
        """
        name = "shop"
        setup = ["sh", "make-config.sh"]
        [[beside]]
        command = ["nginx", "-c", "backend.conf"]
        port = 28090
        [service]
        command = ["server", "--port", "{port}"]
        port = 6379
        ready = { http = "/health" }
        lens_command = ["server", "--slow"]
        env = { MODE = "test" }
        [prepare]
        command = ["fill", "{port}"]
        [load]
        command = ["client", "{port}", "{requests}"]
        requests = { native = 200000, lens = 8000 }
        connections = 20
        [eval]
        anything = { at = ["all"] }
        [x-other]
        more = 1
        """,
    )
    assert spec.name == "shop"
    assert spec.folder == tmp_path
    assert spec.beside[0].port == 28090
    assert spec.service.ready.http == "/health"
    assert spec.service.command_for("native") == ("server", "--port", "{port}")
    assert spec.service.command_for("lens") == ("server", "--slow")
    assert (spec.load.requests.native, spec.load.requests.lens, spec.load.connections) == (200000, 8000, 20)
    assert spec.load.counts_requests
    assert spec.port_can_change


@pytest.mark.parametrize(
    ("load", "makes"),
    [
        ('command = ["client", "{port}"]\nrequests = 700\n', 700),
        ('command = ["client", "{port}"]\n', None),
        ('command = ["client", "{port}", "{requests}"]\nrequests = 700\n', None),
        ('command = ["client", "{port}", "{seconds}"]\nrequests = 700\n', None),
    ],
)
def test_requests_of_a_client_that_cannot_be_told_how_many(tmp_path: Path, load: str, makes: int | None) -> None:
    assert read(tmp_path, 'name = "a"\n' + SERVICE + "[load]\n" + load).load.makes == makes


def test_several_services(tmp_path: Path) -> None:
    text = 'name = "two"\n[[service]]\nname = "front"\ncommand = ["a"]\nport = 1\n'
    text += '[[service]]\nname = "back"\ncommand = ["b"]\nport = 2\n'
    spec = read(tmp_path, text + LOAD)
    assert [service.name for service in spec.services] == ["front", "back"]
    with pytest.raises(BadInputError, match="name: missing or used twice"):
        read(tmp_path, text.replace("back", "front") + LOAD)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "a"\n' + SERVICE + LOAD + "surplus = 1\n", "load.surplus: unknown key"),
        ('nmae = "a"\n' + SERVICE + LOAD, 'nmae: unknown key: did you mean "name"?'),
        (
            'name = "a"\n[service]\ncomand = ["x"]\nport = 1\n' + LOAD,
            'service.comand: unknown key: did you mean "command"',
        ),
        ('name = "a"\n' + SERVICE + LOAD + "requests = { natve = 3 }\n", "load.requests.natve: unknown key"),
        ('name = "a"\n' + SERVICE + LOAD + "[lod]\n", "lod: unknown key"),
        ('name = "a"\npath = "b"\n' + SERVICE + LOAD, "path: unknown key"),
        (SERVICE + LOAD, "name: missing"),
        ('name = "a"\n' + LOAD, "service: missing"),
        ('name = "a"\n' + SERVICE, "load: missing"),
        ('name = "a"\n[service]\ncommand = ["x"]\n' + LOAD, "service.port: missing"),
        ('name = "a"\n[service]\ncommand = "server --x"\nport = 1\n' + LOAD, "service.command: a command is an array"),
        ('name = "a"\n[service]\ncommand = []\nport = 1\n' + LOAD, "service.command: a command needs"),
        ('name = "a"\n[service]\ncommand = ["x"]\nport = 70000\n' + LOAD, "service.port: "),
        ('name = "a"\n[service]\ncommand = ["x"]\nport = "80"\n' + LOAD, "service.port: "),
        ('name = "a"\n' + SERVICE + 'ready = "soon"\n' + LOAD, 'service.ready: write "tcp"'),
        ('name = "a"\n' + SERVICE + 'ready = { http = "/", log = "x" }\n' + LOAD, "service.ready: give exactly one"),
        ('name = "a"\n' + SERVICE + 'ready = { log = "(" }\n' + LOAD, "service.ready.log: not a regular expression"),
        ('name = "a"\n' + SERVICE + LOAD + "connections = 0\n", "load.connections: "),
        ('name = "a"\n' + SERVICE + LOAD + "[limits]\nmemory = 96\n", 'limits.memory: a size is a text such as "96M"'),
        ('name = "a"\n' + SERVICE + LOAD + '[limits]\nmemory = "9K"\n', "limits.memory: "),
        ('name = "a"\n' + SERVICE + LOAD + "[limits]\nread_iops = 0\n", "limits.read_iops: "),
        (
            'name = "a"\n' + SERVICE + LOAD + '[limits]\nmemroy = "96M"\n',
            'limits.memroy: unknown key: did you mean "memory"',
        ),
        ('name = "../up"\n' + SERVICE + LOAD, "name: "),
        ('name = "a"\nname = "b"\n', "not valid TOML"),
        ("name = [", "not valid TOML"),
        ('name = "a"\nservice = 3\n' + LOAD, "service: "),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInputError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(str(tmp_path / "app.toml"))
    assert says in str(caught.value)
    assert caught.value.remedy
    assert "\n" not in caught.value.message


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no such file"):
        load_app(tmp_path / "missing.toml")
    with pytest.raises(BadInputError, match="is a folder"):
        load_app(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe9"')
    with pytest.raises(BadInputError, match="not UTF-8"):
        load_app(tmp_path / "latin.toml")


def test_only_known_placeholders_are_replaced() -> None:
    words = ("--port={port}", "{requests}", '{"json": {port}}', "{other}")
    assert substitute(words, {"port": "80", "requests": "5"}) == ["--port=80", "5", '{"json": 80}', "{other}"]


def test_a_port_that_the_client_does_not_take_stays(tmp_path: Path) -> None:
    fixed = LOAD.replace("{port}", "6379")
    assert not read(tmp_path, 'name = "a"\n' + SERVICE + fixed).port_can_change


def test_an_app_stands_twice_only_where_everything_of_it_can_have_another_place(tmp_path: Path) -> None:
    assert read(tmp_path, 'name = "a"\n' + SERVICE + LOAD).may_stand_twice
    beside = '[[beside]]\ncommand = ["cache", "{port}"]\nport = 7000\n'
    assert read(tmp_path, 'name = "a"\nsetup = ["fill", "{port}"]\n' + SERVICE + LOAD + beside).may_stand_twice
    for fixed in (
        'name = "a"\n' + SERVICE.replace("{port}", "6379") + LOAD,
        'name = "a"\n' + SERVICE + LOAD.replace("{port}", "6379"),
        'name = "a"\nsetup = ["fill", "/srv/data"]\n' + SERVICE + LOAD,
        'name = "a"\n' + SERVICE + LOAD + '[prepare]\ncommand = ["fill"]\n',
        'name = "a"\n' + SERVICE + LOAD + beside.replace("{port}", "7000"),
        'name = "a"\n' + SERVICE + LOAD + '[limits]\nmemory = "96M"\n',
    ):
        assert not read(tmp_path, fixed).may_stand_twice, fixed
