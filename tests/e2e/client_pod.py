"""Traffic from inside the cluster: tests/e2e/client.py in a pod."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from include.code_version import code_version
from tests.e2e import cluster
from tests.e2e.cluster import apply, kubectl, wait_for

PROGRAM = Path(__file__).parent / "client.py"
# Of somebody whom nobody knows: no feature store has a part in its score.
TRANSACTION: dict[str, object] = {
    "transaction_id": 1,
    "tx_datetime": "2025-07-07T12:00:00+00:00",
    "customer_id": 1,
    "terminal_id": 1,
    "tx_amount": 42.0,
}


@contextmanager
def sending(
    service: str,
    requests: list[dict[str, object]],
    per_second: float,
    retries: int = 0,
    rows: int = 1,
    labels: dict[str, str] | None = None,
) -> Iterator[dict[str, Any]]:
    """Send until the block ends; the value then holds what became of it all. `labels`: what the network's rules ask."""
    name = f"client-{secrets.token_hex(3)}"
    files = {"client.py": PROGRAM.read_text(), "requests.json": json.dumps(requests)}
    apply(json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": files}))
    command = ["python", "/client/client.py", service, str(per_second), str(retries), str(rows)]
    apply(json.dumps(pod(name, "steps", command, labels, config=name)))
    done: dict[str, Any] = {}
    phase = lambda: cluster.get("pod", name)["status"]["phase"]  # noqa: E731
    try:
        wait_for(lambda: phase() == "Running", "the client runs")
        yield done
        kubectl("exec", name, "--", "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
        wait_for(lambda: phase() in ("Succeeded", "Failed"), "the client has ended")
        done |= json.loads(kubectl("logs", name).splitlines()[-1])
    finally:
        kubectl("delete", "pod", name, "--grace-period=1", "--wait=false")
        kubectl("delete", "configmap", name)


def pod(
    name: str, image: str, command: list[str], labels: dict[str, str] | None = None, config: str | None = None
) -> dict[str, Any]:
    """One that keeps the restricted level; the ConfigMap `config` lies in /client."""
    container: dict[str, Any] = {
        "name": "main",
        "image": f"mlops-dags/{image}:{code_version()}",
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    spec: dict[str, Any] = {"containers": [container], "restartPolicy": "Never", "terminationGracePeriodSeconds": 5}
    if config:
        spec["volumes"] = [{"name": "config", "configMap": {"name": config}}]
        container["volumeMounts"] = [{"name": "config", "mountPath": "/client"}]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels or {}}, "spec": spec}
