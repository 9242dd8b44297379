"""The cluster under test: kubectl, helm, docker, and how images get into it.

KUBECONFIG        the cluster; it may be filled and emptied
E2E_LOAD_IMAGE    how an image of the local Docker gets into it: `kind`, `k3d`, `minikube`, or a command to which the
                  image's name is added; empty: the cluster pulls from where `docker push` put them
"""

import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from include.code_version import ROOT, code_version

KNOWN_LOADERS = {
    "kind": "kind load docker-image",
    "k3d": "k3d image import",
    "minikube": "minikube image load",
}
NAMESPACE = "mlops"
RELEASE = "model-api"


def run(*words: str, stdin: str | None = None, check: bool = True, timeout: float = 600) -> str:
    """Standard output of a command; AssertionError with all it said when it fails."""
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, check=False, cwd=ROOT)
    assert not check or done.returncode == 0, f"{shlex.join(words)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def kubectl(*words: str, namespace: str = NAMESPACE, **more: Any) -> str:
    return run("kubectl", "-n", namespace, *words, **more)


def get(*words: str, namespace: str = NAMESPACE) -> Any:
    """Objects as JSON."""
    return json.loads(kubectl("get", *words, "-o", "json", namespace=namespace))


def apply(manifest: str, namespace: str = NAMESPACE) -> None:
    # On the server: kubectl alone would keep a copy in an annotation, which is too small for the larger ones.
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest, namespace=namespace)


def pods(selector: str = f"app.kubernetes.io/name={RELEASE},app.kubernetes.io/component=api") -> list[Any]:
    """Pods that are not being deleted."""
    return [pod for pod in get("pods", "-l", selector)["items"] if not pod["metadata"].get("deletionTimestamp")]


def is_ready(pod: Any) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))


def versions() -> list[str]:
    """The model version of each pod of the API."""
    return sorted(pod["metadata"]["labels"]["app.kubernetes.io/version"] for pod in pods())


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 180) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds:.0f} s\n{kubectl('get', 'pods', '-o', 'wide')}")
        time.sleep(1)
    return found


def load_image(name: str) -> None:
    """Bring an image of the local Docker into the cluster; what Docker does not have the cluster must pull itself."""
    loader = os.environ.get("E2E_LOAD_IMAGE", "")
    command = KNOWN_LOADERS.get(loader, loader)
    here = subprocess.run(["docker", "image", "inspect", name], capture_output=True, check=False).returncode == 0
    if command and here:
        run(*shlex.split(command), name)


def build_images(targets: tuple[str, ...] = ("api", "steps")) -> dict[str, str]:
    """Build images of this commit from the working tree; name -> size in MB."""
    sizes = {}
    for target in targets:
        name = f"mlops-dags/{target}:{code_version()}"
        run("docker", "build", "--target", target, "--build-arg", f"COMMIT={code_version()}", "-t", name, ".",
            timeout=1800)  # fmt: skip
        sizes[target] = f"{int(run('docker', 'image', 'inspect', '-f', '{{.Size}}', name)) / 1e6:.0f} MB"
        load_image(name)
    return sizes


@contextmanager
def port_forward(target: str, port: int, namespace: str = NAMESPACE) -> Iterator[int]:
    """A port of this machine that leads to a Service or pod."""
    words = ["kubectl", "-n", namespace, "port-forward", target, f":{port}", "--address", "127.0.0.1"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        line = process.stdout.readline()
        assert "127.0.0.1:" in line, line
        yield int(line.split("127.0.0.1:")[1].split(" ")[0])
    finally:
        process.terminate()
        process.wait()


def tools_missing() -> list[str]:
    return [tool for tool in ("kubectl", "helm", "docker") if not shutil.which(tool)]
