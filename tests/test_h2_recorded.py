"""A gRPC server of Debian's python3-grpcio, recorded under its own client: methods, streams under way, replies."""

from __future__ import annotations

from pathlib import Path

import pytest

from ditto import pipeline
from ditto.artifacts.app import load_app
from ditto.artifacts.plan import PLAN_NAME, Framing, load_plan
from ditto.artifacts.prints import path_print
from ditto.artifacts.profile import load_profile
from ditto.host.progress import SilentProgress
from ditto.observe.native_phase import NativeOptions, record_native
from ditto.observe.stage import client_of, make_private, save_observation
from ditto.paths import lens_directory
from ditto.streams.protocol import further_records
from ditto.streams.wire import wire_of

ROOT = Path(__file__).resolve().parents[1]

pytestmark = [
    pytest.mark.ebpf,
    pytest.mark.skipif(not lens_directory().is_dir(), reason="the native parts are not built"),
    pytest.mark.skipif(
        not Path("/usr/lib/python3/dist-packages/grpc").is_dir(), reason="python3-grpcio is not installed"
    ),
]


def test_methods_of_a_grpc_server_become_classes(tmp_path: Path) -> None:
    spec = load_app(ROOT / "examples" / "grpc.toml")
    folder, progress = tmp_path / "observation", SilentProgress()
    folder.mkdir()
    make_private(folder)
    options = NativeOptions(seconds=0.8, more=further_records("h2"))
    native, notes = record_native(spec, folder, options, progress)
    wire = wire_of(folder / native.recording)
    assert (wire.codec, wire.folds) == ("h2", False)
    client = client_of(spec, folder, notes, progress)
    assert client is not None and not notes
    save_observation(spec.name, folder, native, None, notes, client)
    service = load_profile(pipeline.model(tmp_path, progress)).services[0]
    assert service.codec == "h2" and len(service.classes) == 2
    often, rare = sorted(service.classes, key=lambda cls: -cls.probability)
    assert often.probability == pytest.approx(0.75, abs=0.02)
    for cls, method, least, most in ((often, b"Get", 200, 970), (rare, b"Search", 2400, 2500)):
        assert cls.match.path_print == path_print(service.print_key, b"/catalogue.Items/" + method)
        (shape,) = cls.replies
        assert (shape.kind, shape.status, shape.head_bytes) == ("grpc", 0, 12)
        assert shape.size is not None
        sizes = list(zip(shape.size.values, shape.size.weights, strict=True))
        # A busy server may send two replies in one call, of which the second begins behind what was recorded.
        inside = sum(weight for size, weight in sizes if least <= size <= most)
        assert inside >= 0.99 * sum(weight for _, weight in sizes)
        assert shape.second is not None and shape.second.mean == pytest.approx(10, abs=1)
    assert b"catalogue" not in (tmp_path / "profile.json").read_bytes()
    plan = load_plan(folder / PLAN_NAME)
    assert plan.framing is Framing.H2 and plan.requests > 500
