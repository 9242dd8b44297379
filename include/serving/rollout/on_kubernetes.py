"""The service on Kubernetes: one Deployment, of which a rollout changes the model version and nothing else."""

import json
from dataclasses import asdict
from functools import cached_property
from typing import Any

from kubernetes import client, config
from kubernetes.client import ApiException

from include.serving.rollout.deployment import Pod, Rollout, State

FETCH = "fetch-model"  # the init container that brings the version
VERSION_VARIABLE = "MLOPS_MODEL_VERSION"
VERSION_LABEL = "app.kubernetes.io/version"
CAUSE = "kubernetes.io/change-cause"
ROLLOUT = "mlops/rollout"
API_PORT = 8000
TIMEOUT_SECONDS = 30
DEATHS = 3


class KubernetesDeployment:
    """See `deployment.Deployment`. The API server being away raises ConnectionError, which a retry may cure."""

    def __init__(self, namespace: str, name: str) -> None:
        self.namespace, self.name = namespace, name

    def state(self) -> State:
        """As the Deployment's status and its autoscaler say."""
        found = self._read()
        spec, status = found.spec, found.status
        wanted = spec.replicas if spec.replicas is not None else 1
        updated, replicas = status.updated_replicas or 0, status.replicas or 0
        available = status.available_replicas or 0
        seen = (status.observed_generation or 0) >= found.metadata.generation
        failed = [c for c in status.conditions or [] if c.type == "Progressing" and c.status == "False"]
        autoscaler = self._autoscaler()
        version = spec.template.metadata.labels.get(VERSION_LABEL, "")
        settled = seen and updated == replicas == available >= wanted
        return State(
            version=version,
            rollout=Rollout(**json.loads((found.metadata.annotations or {}).get(ROLLOUT, "{}"))),
            settled=settled,
            stuck="" if settled or not seen else self._stuck(found, failed, version),
            progress=f"{updated} of {wanted} replicas have the version, {available} are available, {replicas} exist",
            replicas=replicas,
            at_most=autoscaler.spec.max_replicas if autoscaler else max(wanted, replicas) + 1,
        )

    def pods(self) -> list[Pod]:
        """Those of the Deployment that are not being deleted."""
        return [_pod(pod) for pod in self._pods(self._read())]

    def _pods(self, deployment: Any) -> list[Any]:
        selector = ",".join(f"{name}={value}" for name, value in deployment.spec.selector.match_labels.items())
        found = self._call(client.CoreV1Api(self._api).list_namespaced_pod, self.namespace, label_selector=selector)
        return [pod for pod in found.items if not pod.metadata.deletion_timestamp]

    def _stuck(self, deployment: Any, failed: list[Any], version: str) -> str:
        """Kubernetes gave up waiting, or a new pod has died so often that it need not be waited for."""
        new = [pod for pod in self._pods(deployment) if pod.metadata.labels.get(VERSION_LABEL) == version]
        if not failed and not any(_pod(pod).restarts >= DEATHS for pod in new):
            return ""
        return "; ".join([condition.message for condition in failed] + [why for pod in new if (why := last_words(pod))])

    def set_version(self, version: str, cause: str, rollout: Rollout) -> None:
        """Patch the pod template; Kubernetes replaces the pods."""
        if not version:
            raise ValueError("a Deployment cannot be without a version; scale it to zero by hand if it must not run")
        environment = [{"name": VERSION_VARIABLE, "value": version}]
        annotations = {CAUSE: cause, ROLLOUT: json.dumps(asdict(rollout))}
        # Nothing but the version: an undo then asks for the very template of the old pods, and they stay.
        template = {
            "metadata": {"labels": {VERSION_LABEL: version}},
            "spec": {"initContainers": [{"name": FETCH, "env": environment}]},
        }
        self._patch({"metadata": {"annotations": annotations}, "spec": {"template": template}})

    def record(self, rollout: Rollout) -> None:
        """In an annotation of the Deployment, not of its pods."""
        self._patch({"metadata": {"annotations": {ROLLOUT: json.dumps(asdict(rollout))}}})

    def forbidden(self) -> list[str]:
        """Ask the API server about each thing a rollout does (SelfSubjectAccessReview)."""
        needed = [
            ("get", "apps", "deployments", self.name),
            ("patch", "apps", "deployments", self.name),
            ("get", "autoscaling", "horizontalpodautoscalers", self.name),
            ("list", "", "pods", None),
        ]
        reviews = client.AuthorizationV1Api(self._api)
        missing = []
        for verb, group, resource, name in needed:
            attributes = client.V1ResourceAttributes(
                namespace=self.namespace, verb=verb, group=group, resource=resource, name=name
            )
            asked = client.V1SelfSubjectAccessReview(
                spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
            )
            if not self._call(reviews.create_self_subject_access_review, asked).status.allowed:
                missing.append(f"{verb} {resource} {name or ''}".strip())
        return missing

    @cached_property
    def _api(self) -> Any:
        config.load_config()  # in a pod its service account, else the kubeconfig
        return client.ApiClient()

    def _read(self) -> Any:
        return self._call(client.AppsV1Api(self._api).read_namespaced_deployment, self.name, self.namespace)

    def _patch(self, body: dict[str, Any]) -> None:
        self._call(client.AppsV1Api(self._api).patch_namespaced_deployment, self.name, self.namespace, body)

    def _autoscaler(self) -> Any | None:
        read = client.AutoscalingV2Api(self._api).read_namespaced_horizontal_pod_autoscaler
        try:
            return self._call(read, self.name, self.namespace)
        except ApiException as error:
            if error.status == 404:
                return None
            raise

    def _call(self, function: Any, *arguments: Any, **more: Any) -> Any:
        return function(*arguments, _request_timeout=TIMEOUT_SECONDS, **more)


def last_words(pod: Any) -> str:
    """Why the pod's container died last, or cannot start: what it printed at the end; empty when all is well."""
    for status in _containers(pod):
        died = (status.last_state and status.last_state.terminated) or (status.state and status.state.terminated)
        if died and died.exit_code:
            said = (died.message or died.reason or "").strip().splitlines()
            return f"{pod.metadata.name}, {status.name}: exit code {died.exit_code}, {said[-1] if said else 'no word'}"
        if status.state and status.state.waiting and status.state.waiting.message:
            return f"{pod.metadata.name}, {status.name}: {status.state.waiting.message}"
    return ""


def _containers(pod: Any) -> list[Any]:
    return [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]


def _pod(pod: Any) -> Pod:
    conditions = {condition.type: condition.status for condition in pod.status.conditions or []}
    return Pod(
        name=pod.metadata.name,
        version=pod.metadata.labels.get(VERSION_LABEL, ""),
        ready=conditions.get("Ready") == "True",
        restarts=sum(status.restart_count for status in _containers(pod)),
        url=f"http://{pod.status.pod_ip}:{API_PORT}",
    )
