"""Kubernetes objects for clones: a Deployment with probes and a Service each, and a Job that loads the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ditto.deploy.compose import check_command, load_arguments
from ditto.deploy.parts import PORT, Deployed

_NOBODY = 65534


def kubernetes_files(parts: Sequence[Deployed]) -> dict[str, list[dict[str, Any]]]:
    """Objects by file name; the load is apart, so that it runs only when it is applied."""
    name = "service.yaml" if len(parts) == 1 else "application.yaml"
    return {
        name: [made for part in parts for made in (_deployment(part), _service(part))],
        "load.yaml": [_job(parts[0])],
    }


def _labels(part: Deployed) -> dict[str, str]:
    return {"app.kubernetes.io/name": part.name, "app.kubernetes.io/part-of": "ditto-clone"}


def _security() -> dict[str, Any]:
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "runAsUser": _NOBODY,
        "capabilities": {"drop": ["ALL"]},
    }


def _deployment(part: Deployed) -> dict[str, Any]:
    requests: dict[str, str] = {"memory": f"{part.memory_bytes >> 20}Mi"}
    if part.cpus is not None:
        requests["cpu"] = f"{max(1, round(part.cpus * 1000))}m"
    probe: dict[str, Any] = {"exec": {"command": check_command()}} if part.datagrams else {"tcpSocket": {"port": PORT}}
    container = {
        "name": part.name,
        "image": part.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "requests", "containerPort": PORT, "protocol": part.protocol}],
        "resources": {"requests": requests, "limits": {"memory": f"{2 * part.memory_bytes >> 20}Mi"}},
        "readinessProbe": {**probe, "periodSeconds": 2},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 3},
        "securityContext": _security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    if part.options:
        container["args"] = list(part.options)
    pod = {
        "metadata": {"labels": _labels(part)},
        "spec": {"containers": [container], "volumes": [{"name": "tmp", "emptyDir": {}}]},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": part.name, "labels": _labels(part)},
        "spec": {"replicas": part.replicas, "selector": {"matchLabels": _labels(part)}, "template": pod},
    }


def _service(part: Deployed) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": part.name, "labels": _labels(part)},
        "spec": {
            "selector": _labels(part),
            "ports": [{"name": "requests", "port": _port(part), "targetPort": PORT, "protocol": part.protocol}],
        },
    }


def _port(part: Deployed) -> int:
    return PORT if part.port is None else part.port


def _job(part: Deployed) -> dict[str, Any]:
    container = {
        "name": "load",
        "image": part.load_image,
        "imagePullPolicy": "IfNotPresent",
        "args": load_arguments(part, part.name, _port(part)),
        "securityContext": _security(),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": part.load_name, "labels": _labels(part)},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {}, "spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
