"""What a pod says when it does not start."""

import pytest
from kubernetes.client import models as k8s

from include.serving.rollout.on_kubernetes import last_words


def pod(*containers: k8s.V1ContainerStatus) -> k8s.V1Pod:
    return k8s.V1Pod(
        metadata=k8s.V1ObjectMeta(name="model-api-x"), status=k8s.V1PodStatus(container_statuses=list(containers))
    )


def container(state: k8s.V1ContainerState, last: k8s.V1ContainerState | None = None) -> k8s.V1ContainerStatus:
    return k8s.V1ContainerStatus(
        name="api", image="i", image_id="i", ready=False, restart_count=3, state=state, last_state=last
    )


def ended(code: int, message: str | None) -> k8s.V1ContainerState:
    return k8s.V1ContainerState(terminated=k8s.V1ContainerStateTerminated(exit_code=code, message=message))


RUNNING = k8s.V1ContainerState(running=k8s.V1ContainerStateRunning())
WAITING = k8s.V1ContainerState(
    waiting=k8s.V1ContainerStateWaiting(reason="ImagePullBackOff", message="no such image: mlops-dags/api:abc")
)


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ([], ""),
        ([container(RUNNING)], ""),
        ([container(ended(0, "done"))], ""),
        ([container(RUNNING, ended(2, "INFO hm\nERROR cannot be loaded\n"))], "exit code 2, ERROR cannot be loaded"),
        ([container(ended(137, None))], "exit code 137, no word"),
        ([container(WAITING)], "no such image"),
        ([container(WAITING, ended(2, "why"))], "exit code 2, why"),  # waits to be restarted: why it died says more
    ],
)
def test_last_words(statuses, said):
    found = last_words(pod(*statuses))
    assert said in found
    assert bool(found) is bool(said)
