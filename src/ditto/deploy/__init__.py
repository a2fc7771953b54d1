"""The deploy stage: a clone as containers for compose or Kubernetes, or as a supervised process here."""

from ditto.deploy.compose import compose_file
from ditto.deploy.folder import deploy_to
from ditto.deploy.kubernetes import kubernetes_files
from ditto.deploy.local import run_local
from ditto.deploy.parts import Deployed, deployed

__all__ = ["Deployed", "compose_file", "deploy_to", "deployed", "kubernetes_files", "run_local"]
