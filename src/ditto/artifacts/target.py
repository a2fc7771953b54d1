"""Where a clone can be deployed to."""

from __future__ import annotations

from enum import StrEnum


class Target(StrEnum):
    """Where to: a supervised process here, a compose file, or Kubernetes objects."""

    LOCAL = "local"
    COMPOSE = "compose"
    KUBERNETES = "kubernetes"
