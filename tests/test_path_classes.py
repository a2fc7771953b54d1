"""Classes of paths with numbers in them: one where there are many, the same for caller, called service and lens."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ditto.artifacts.prints import folded, path_print
from ditto.artifacts.profile import ClassMatch
from ditto.host.synthetic import _path_of
from ditto.model.downstream import _match
from ditto.streams import protocol
from ditto.streams.evidence import plainer
from ditto.streams.matching import class_index
from ditto.streams.programs import ClassWork, OpName, OpWork
from profile_parts import service_profile
from runtime_build import CODEC_SOURCES, RUNTIME, STATIC, compile_c

KEY = 77


class _Cls:
    def __init__(self, match: ClassMatch) -> None:
        self.match = match


def test_digits_tell_no_class_where_there_are_many_paths() -> None:
    many = {b"GET /page/%d" % n for n in range(30)}
    assert protocol.folds("http1", many) and not protocol.folds("opaque", many)
    assert not protocol.folds("http1", {b"GET /page/%d" % n for n in range(protocol.MOST_PATHS)})
    assert not protocol.folds("http1", {b"GET /" + bytes([97 + n % 26, 97 + n // 26]) for n in range(60)})
    assert {folded(key) for key in many} == {b"GET /page/"}


def test_a_caller_s_paths_have_both_fingerprints() -> None:
    """The called service may tell classes by the paths without digits, though this caller used only a few of them."""
    match = _match("http1", KEY, b"GET /item/3", {10: 1})  # type: ignore[arg-type]
    assert match.path_print == path_print(KEY, b"/item/3") and match.fold_print == path_print(KEY, b"/item/")
    path = _path_of(KEY, _Cls(match))
    assert path_print(KEY, path) == match.path_print and path_print(KEY, folded(path)) == match.fold_print
    plain = _match("http1", KEY, b"GET /about", {10: 1})  # type: ignore[arg-type]
    assert plain.fold_print == -1
    path = _path_of(KEY, _Cls(plain))
    assert folded(path) == path and path_print(KEY, path) == plain.path_print


def test_requests_of_a_run_find_their_class_by_the_path_without_digits() -> None:
    service = service_profile().services[0]
    classes = [
        service.classes[0].model_copy(update={"match": ClassMatch(verb="GET", path_print=path_print(KEY, path))})
        for path in (b"/a/", b"/b/")
    ]
    service = service.model_copy(update={"codec": "http1", "print_key": KEY, "classes": classes, "folds": True})
    assert class_index(service, b"GET /b/17") == 1
    assert class_index(service.model_copy(update={"folds": False}), b"GET /b/17") == 0


def test_the_runtime_leaves_out_the_same_digits(tmp_path: Path) -> None:
    source = tmp_path / "prints.c"
    source.write_text(
        '#include "codec.h"\n#include <stdio.h>\n#include <string.h>\n'
        "const struct ditto_service ditto_service;\n"
        "int main(int argc, char **argv) { (void)argc;"
        f' printf("%u\\n", ditto_fold_print({KEY}, argv[1], strlen(argv[1]))); }}\n'
    )
    sources = [path for pattern in CODEC_SOURCES for path in sorted(RUNTIME.glob(pattern))]
    binary = compile_c(tmp_path / "prints", [source, *sources], STATIC)
    for path in (b"/", b"/page/17", b"/0/a9:/x", b"/v2/item/18446744073709551616/z"):
        done = subprocess.run([binary, path], capture_output=True, text=True, check=True)
        assert int(done.stdout) == path_print(KEY, folded(path))


@pytest.mark.parametrize("share", [0.1, 0.4, 0.9])
def test_what_some_requests_do_more_is_put_where_these_had_it(share: float) -> None:
    """A second call comes after the reply to the first and is answered before the client is, however rare it is."""
    names = [OpName(kind, 1, ("d", 0), at) for at in (0, 1) for kind in ("call", "answer")]
    reply = OpName("reply", 1, None, 0)
    work = ClassWork(b"x")
    for number in range(100):
        course = [*names, reply] if number < 100 * share else [*names[:2], reply]
        work.courses.append(course)
        for position, name in enumerate(course):
            op = work.ops.setdefault(name, OpWork())
            op.count += 1
            op.position += position
    assert [name for name, _ in work.ordered()] == [*names, reply]


def test_requests_that_came_alone_tell_what_a_loop_does_where_the_load_does_not() -> None:
    """Under load some calls look like another request's; alone each makes its one call."""

    def requests(courses: dict[tuple[str, ...], int]) -> ClassWork:
        work = ClassWork(b"x")
        for kinds, count in courses.items():
            for name in (OpName(kind, 1, ("d", at), 0) for at, kind in enumerate(kinds)):
                work.ops.setdefault(name, OpWork()).count += count
            work.cycles += [None] * count  # type: ignore[list-item]
        return work

    load = requests({("call",): 80, ("call", "call"): 10, (): 10})
    plain, few = requests({("call",): 50}), requests({("call",): 5})
    assert plainer(load, plain) is plain and plainer(load, few) is load and plainer(load, None) is load
    assert plainer(plain, requests({("call",): 40})) is plain  # as many calls alone: the load tells more
