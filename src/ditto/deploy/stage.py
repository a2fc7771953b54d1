"""What a folder with clones holds, as it is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ditto.artifacts.application import is_application, load_application
from ditto.artifacts.fidelity import Fidelity, load_fidelity
from ditto.artifacts.profile import ServiceProfile, load_profile
from ditto.deploy.parts import Deployed, deployed, deployed_tiers, used
from ditto.errors import BadInputError
from ditto.host.synthetic import synthetic_plan


def parts_of(
    folder: Path, port: int, replicas: Mapping[str, int], registry: str
) -> tuple[list[tuple[Deployed, Path]], bytes]:
    """The clone of one service, or an application's tiers, the entry first, with their folders; and the load's plan.

    Args:
        replicas: of an application's tiers by name; under the name "" of the entry.

    Raises:
        BadInputError: no clone is there, or there are replicas of what is not.
    """
    certificate = _certificate(folder.parent)
    if not is_application(folder):
        if any(replicas.keys() - {""}):
            raise BadInputError(f"{folder} is the clone of one service", "give the number of its replicas alone")
        service = _service_of(folder)
        part = deployed(service, used(certificate), port, replicas.get("", 1), registry)
        return [(part, folder)], synthetic_plan(service).as_bytes()
    application = load_application(folder)
    folders = [folder / tier.name for tier in application.tiers]
    services = {tier.name: _service_of(tier) for tier in folders}
    asked = {name or application.entry.name: number for name, number in replicas.items()}
    parts = deployed_tiers(application, services, certificate, port, asked, registry)
    return list(zip(parts, folders, strict=True)), synthetic_plan(services[application.entry.name]).as_bytes()


def _service_of(clone: Path) -> ServiceProfile:
    if not (clone / "profile.json").is_file():
        raise BadInputError(
            f"{clone}: no clone is there (no profile.json)", "give the folder that ditto generate wrote"
        )
    return load_profile(clone / "profile.json").services[0]


def _certificate(folder: Path) -> Fidelity | None:
    path = folder / "fidelity.json"
    return load_fidelity(path) if path.is_file() else None
