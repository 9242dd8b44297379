"""The service that this deployment of the repository runs: on Kubernetes, or on this machine."""

from include.serving.rollout.deployment import Deployment
from include.settings import settings


def live_deployment() -> Deployment:
    """The service of this deployment of the repository."""
    if settings().runtime == "kubernetes":
        from include.serving.rollout.on_kubernetes import KubernetesDeployment

        return KubernetesDeployment(settings().namespace, settings().serving_deployment)
    from include.serving.rollout.on_this_machine import LocalDeployment

    return LocalDeployment(settings().local_deployment)
