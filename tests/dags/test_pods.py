"""The pod of every step of every DAG: as a golden file that a reviewer can read, and held to policy.

After a wanted change: `UPDATE_GOLDEN=1 pytest tests/dags/test_pods.py`, then read the diff.
"""

import os
import re
from pathlib import Path

import pytest
import yaml
from kubernetes.client import ApiClient

from include.pipeline.flags import argv
from include.pipeline.pod_step import RESULT, PodStep
from include.settings import settings

GOLDEN = Path(__file__).parent / "golden"
SECRET = re.compile(r"password|passwd|token|secret|api[_-]?key|credential|://[^/\s]*:[^/\s]*@", re.IGNORECASE)


def steps(pod_dags):
    """(name, operator) of every step; a mapped one as its first instance would be."""
    for dag in pod_dags.values():
        for task in dag.tasks:
            if issubclass(task.operator_class if task.is_mapped else type(task), PodStep):
                one = task.unmap({"each": {"candidate": "random_forest"}}) if task.is_mapped else task
                yield f"{dag.dag_id}.{task.task_id}", one


def rendered(operator) -> dict:
    """The pod, with templates and other tasks' outputs as they stand in the DAG."""
    flags = {name: value if isinstance(value, str) else str(value) for name, value in operator.flags.items()}
    operator.arguments = [*argv(operator.module, {**flags, **(operator.each or {})}), "--result", RESULT]
    operator.random_name_suffix = False
    pod = ApiClient().sanitize_for_serialization(operator.build_pod_request_obj(dry_run=True))
    pod["metadata"]["labels"].pop("airflow_version")
    return pod


@pytest.fixture(scope="module")
def pods(pod_dags):
    found = {name: rendered(operator) for name, operator in steps(pod_dags)}
    assert found
    return found


def test_golden(pods):
    for name, pod in pods.items():
        path, text = GOLDEN / f"{name}.yaml", yaml.safe_dump(pod, width=120)
        if os.environ.get("UPDATE_GOLDEN"):
            path.write_text(text)
        assert path.exists(), f"{name} is a new step: UPDATE_GOLDEN=1 writes its file"
        assert text == path.read_text(), f"{name} renders another pod than {path.name}"
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == set(pods), "a golden file without a step"


def policy_breaches(pod: dict) -> list[str]:
    """What is wrong with a pod, by the restricted Pod Security level and the house's own rules."""
    spec, breaches = pod["spec"], []

    def check(holds: object, rule: str) -> None:
        if not holds:
            breaches.append(rule)

    check(spec.get("activeDeadlineSeconds"), "has a deadline")
    may_use_the_api = spec.get("serviceAccountName") == settings().rollout_service_account
    check(spec.get("automountServiceAccountToken") is may_use_the_api, "has an API token for rollouts only")
    check(spec.get("restartPolicy") == "Never", "is not restarted by the kubelet")
    check(
        not spec.get("hostNetwork") and not spec.get("hostPID") and not spec.get("hostIPC"), "shares no host namespace"
    )
    check(spec.get("serviceAccountName") not in (None, "default"), "has a service account of its own")
    check(spec["securityContext"].get("runAsNonRoot"), "runs as non-root")
    labels = pod["metadata"]["labels"]
    for label in ("name", "part-of", "component", "managed-by"):
        check(labels.get(f"app.kubernetes.io/{label}"), f"is labelled {label}")
    for volume in spec["volumes"]:
        check(set(volume) & {"emptyDir", "configMap", "secret", "persistentVolumeClaim", "projected"}, "volume kinds")
    for container in [*spec["containers"], *(spec.get("initContainers") or [])]:
        name, context = container["name"], container.get("securityContext") or {}
        check(context.get("allowPrivilegeEscalation") is False, f"{name}: no privilege escalation")
        check(context.get("capabilities") == {"drop": ["ALL"]}, f"{name}: drops all capabilities")
        check(context.get("runAsNonRoot") and context.get("runAsUser"), f"{name}: non-root by number")
        check(context.get("readOnlyRootFilesystem"), f"{name}: read-only root")
        check((context.get("seccompProfile") or {}).get("type") == "RuntimeDefault", f"{name}: seccomp")
        check(not context.get("privileged"), f"{name}: not privileged")
        for kind in ("requests", "limits"):
            given = (container.get("resources") or {}).get(kind) or {}
            check({"cpu", "memory"} <= set(given), f"{name}: {kind} set")
        tag = container["image"].rpartition(":")[2]
        check(":" in container["image"] and tag != "latest", f"{name}: image has a fixed tag")
        words = [*(container.get("args") or []), *(str(e.get("value", "")) for e in container.get("env") or [])]
        check(not any(SECRET.search(word) for word in words), f"{name}: no secret in arguments or environment values")
    return breaches


def test_policy(pods):
    assert {name: policy_breaches(pod) for name, pod in pods.items()} == {name: [] for name in pods}


@pytest.mark.parametrize(
    ("breaking", "rule"),
    [
        (lambda pod: pod["spec"].pop("activeDeadlineSeconds"), "deadline"),
        (lambda pod: pod["spec"]["containers"][0].pop("securityContext"), "privilege"),
        (lambda pod: pod["spec"]["containers"][1].pop("resources"), "limits"),
        (lambda pod: pod["spec"]["containers"][0]["args"].append("postgresql://a:b@db/x"), "secret"),
        (lambda pod: pod["spec"]["containers"][0].update(image="steps:latest"), "fixed tag"),
        (lambda pod: pod["metadata"]["labels"].pop("app.kubernetes.io/name"), "labelled"),
        (lambda pod: pod["spec"].update(automountServiceAccountToken=True), "API token"),
        (lambda pod: pod["spec"]["volumes"].append({"name": "h", "hostPath": {"path": "/"}}), "volume"),
    ],
)
def test_the_policy_can_fail(pods, breaking, rule):
    pod = yaml.safe_load(yaml.safe_dump(next(iter(pods.values()))))
    breaking(pod)
    assert any(rule in breach for breach in policy_breaches(pod))


def test_finish_and_waiting(pod_dags):
    for name, operator in steps(pod_dags):
        assert operator.on_finish_action.value == "delete_succeeded_pod", name
        assert operator.on_kill_action.value == "delete_pod", name
        assert operator.deferrable, name
        assert operator.execution_timeout.total_seconds() > operator.active_deadline_seconds, name


def test_the_image_is_of_the_dags_commit(pods):
    for pod in pods.values():
        base = pod["spec"]["containers"][0]
        assert base["image"].endswith(":" + "0" * 40)
        assert {"name": "MLOPS_EXPECTED_CODE_VERSION", "value": "0" * 40} in base["env"]
