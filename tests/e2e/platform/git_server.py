"""A git server in a pod: where Airflow takes its DAGs from, as it would from a hosting service."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from include.code_version import ROOT
from tests.e2e.cluster import apply, kubectl, port_forward, run, wait_for

IMAGE = "registry.k8s.io/git-sync/git-sync:v4.4.2"  # it is there anyway, and has git
URL = "git://git.airflow.svc.cluster.local/dags.git"
MANIFEST = """
apiVersion: v1
kind: Service
metadata: {name: git, namespace: airflow}
spec: {selector: {app.kubernetes.io/name: git}, ports: [{port: 9418}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: git, namespace: airflow}
spec:
  selector: {matchLabels: {app.kubernetes.io/name: git}}
  template:
    metadata: {labels: {app.kubernetes.io/name: git}}
    spec:
      automountServiceAccountToken: false
      enableServiceLinks: false
      securityContext: {runAsNonRoot: true, runAsUser: 65533, fsGroup: 65533, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: git
          image: registry.k8s.io/git-sync/git-sync:v4.4.2
          imagePullPolicy: IfNotPresent
          command: [sh, -c]
          args:
            - >-
              git init --bare -b main /git/dags.git &&
              exec git daemon --reuseaddr --base-path=/git --export-all --enable=receive-pack
          env: [{name: HOME, value: /git}]
          ports: [{containerPort: 9418}]
          readinessProbe: {tcpSocket: {port: 9418}, periodSeconds: 2}
          resources: {requests: {cpu: 10m, memory: 32Mi}, limits: {cpu: 500m, memory: 256Mi}}
          securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, readOnlyRootFilesystem: true}
          volumeMounts: [{name: git, mountPath: /git}]
      volumes: [{name: git, emptyDir: {}}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: git, namespace: airflow}
spec:
  podSelector: {matchLabels: {app.kubernetes.io/name: git}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {release: airflow}}}], ports: [{port: 9418}]}]
"""


class Repository:
    """A clone of this repository that pushes to the server in the pod."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.remote = f"git://127.0.0.1:{port}/dags.git"
        run("git", "clone", "--quiet", str(ROOT), str(folder))
        self.good = self.git("rev-parse", "HEAD").strip()

    def git(self, *words: str) -> str:
        who = ("-c", "user.name=e2e", "-c", "user.email=e2e@example.com", "-c", "commit.gpgsign=false")
        return run("git", "-C", str(self.folder), *who, *words)

    def push(self, branch: str) -> None:
        """What is checked out, by force: a branch may go back."""
        command = ["git", "-C", str(self.folder), "push", "--quiet", "--force", self.remote, f"HEAD:{branch}"]
        # A Service that is new to the node's proxy refuses at first.
        wait_for(lambda: subprocess.run(command, capture_output=True).returncode == 0, f"a push to {branch}", 60)

    def commit(self, file: str, change: Callable[[str], str]) -> str:
        """One more commit; its id."""
        path = self.folder / file
        path.write_text(change(path.read_text()))
        self.git("commit", "--quiet", "--all", "-m", f"change {file}")
        return self.git("rev-parse", "HEAD").strip()

    def back(self) -> None:
        """To the commit that is tested."""
        self.git("reset", "--quiet", "--hard", self.good)


@contextmanager
def git_server() -> Iterator[Repository]:
    """The server, with this commit as `main` and as `release`."""
    apply(MANIFEST, "airflow")
    kubectl("rollout", "status", "deployment/git", "--timeout=120s", namespace="airflow", timeout=140)
    with tempfile.TemporaryDirectory(prefix="e2e-git-") as folder, port_forward("service/git", 9418, "airflow") as port:
        repository = Repository(Path(folder) / "clone", port)
        for branch in ("main", "release"):
            repository.push(branch)
        yield repository
