"""Kubernetes objects for a clone: a Deployment with probes, a Service, and a Job that loads it."""

from __future__ import annotations

from typing import Any

from ditto.deploy.compose import load_arguments
from ditto.deploy.parts import PORT, Deployed

_NOBODY = 65534


def kubernetes_files(part: Deployed) -> dict[str, list[dict[str, Any]]]:
    """Objects by file name; the load is apart, so that it runs only when it is applied."""
    return {"service.yaml": [_deployment(part), _service(part)], "load.yaml": [_job(part)]}


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
    probe = {"tcpSocket": {"port": PORT}}
    container = {
        "name": part.name,
        "image": part.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "requests", "containerPort": PORT, "protocol": "TCP"}],
        "resources": {"requests": requests, "limits": {"memory": f"{2 * part.memory_bytes >> 20}Mi"}},
        "readinessProbe": {**probe, "periodSeconds": 2},
        "livenessProbe": {**probe, "periodSeconds": 10, "failureThreshold": 3},
        "securityContext": _security(),
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
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
            "ports": [{"name": "requests", "port": part.port, "targetPort": PORT, "protocol": "TCP"}],
        },
    }


def _job(part: Deployed) -> dict[str, Any]:
    container = {
        "name": "load",
        "image": part.load_image,
        "imagePullPolicy": "IfNotPresent",
        "args": load_arguments(part, part.name, part.port),
        "securityContext": _security(),
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{part.name}-load", "labels": _labels(part)},
        "spec": {
            "backoffLimit": 0,
            "template": {"metadata": {}, "spec": {"restartPolicy": "Never", "containers": [container]}},
        },
    }
