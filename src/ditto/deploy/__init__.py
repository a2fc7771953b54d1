"""The deploy stage: a clone, or the tiers of an application, as containers for compose or Kubernetes."""

from ditto.deploy.compose import compose_file
from ditto.deploy.folder import deploy_to
from ditto.deploy.kubernetes import kubernetes_files
from ditto.deploy.parts import Deployed, deployed, deployed_tiers, used
from ditto.deploy.stage import parts_of

__all__ = [
    "Deployed",
    "compose_file",
    "deploy_to",
    "deployed",
    "deployed_tiers",
    "kubernetes_files",
    "parts_of",
    "used",
]
