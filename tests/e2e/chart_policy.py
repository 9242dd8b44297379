"""What rendered manifests must keep: Pod Security "restricted", resources, probes, no secret in sight.

`offences` takes what `helm template` printed (`yaml.safe_load_all`) and returns one line for each breach, none when all
is well. The API server checks the first of these too; this also sees what it would accept.
"""

import base64
import re
from collections.abc import Iterator
from typing import Any

Manifest = dict[str, Any]

# Where a pod's spec stands in each kind that makes pods.
POD_SPEC = {
    "Pod": ("spec",),
    "Deployment": ("spec", "template", "spec"),
    "StatefulSet": ("spec", "template", "spec"),
    "DaemonSet": ("spec", "template", "spec"),
    "Job": ("spec", "template", "spec"),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}
SERVES = ("Deployment", "StatefulSet", "DaemonSet")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# The volume types of the restricted level.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SECRET_NAME = re.compile(r"PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|CREDENTIAL|AUTH$", re.IGNORECASE)
CREDENTIALS_IN_URL = re.compile(r"://[^/\s:@]*:[^/\s@]+@")


def offences(manifests: list[Manifest]) -> list[str]:
    """Every breach in `manifests`, as ``Kind/name: what``."""
    found = []
    secrets = _secret_values(manifests)
    for manifest in manifests:
        if not manifest:
            continue
        kind = manifest["kind"]
        name = f"{kind}/{manifest['metadata']['name']}"
        found += [f"{name}: {breach}" for breach in _leaks(manifest, secrets)]
        if kind in POD_SPEC:
            spec = manifest
            for key in POD_SPEC[kind]:
                spec = spec[key]
            found += [f"{name}: {breach}" for breach in _pod_offences(spec, serves=kind in SERVES)]
    return found


def _pod_offences(spec: Manifest, *, serves: bool) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is set"
    if spec.get("automountServiceAccountToken") is not False:
        yield "mounts a service account token"
    for volume in spec.get("volumes", []):
        for kind in set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    shared = spec.get("securityContext", {})
    for container in spec.get("initContainers", []):
        yield from (
            f"init container {container['name']}: {breach}" for breach in _container_offences(container, shared)
        )
    for container in spec["containers"]:
        yield from (f"container {container['name']}: {breach}" for breach in _container_offences(container, shared))
        if serves:
            yield from (f"container {container['name']}: no {probe}" for probe in PROBES if probe not in container)


def _container_offences(container: Manifest, shared: Manifest) -> Iterator[str]:
    """`shared` is the pod's security context; a container's own comes first."""
    own = container.get("securityContext", {})
    context = {**shared, **own}
    if own.get("allowPrivilegeEscalation") is not False:
        yield "may escalate privileges"
    if own.get("privileged"):
        yield "is privileged"
    if own.get("capabilities", {}).get("drop") != ["ALL"] or own["capabilities"].get("add"):
        yield "keeps capabilities"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "may write to its root file system"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield "may run as root"
    if context.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    if any(port.get("hostPort") for port in container.get("ports", [])):
        yield "takes a port of the node"
    for kind in ("requests", "limits"):
        for resource in ("cpu", "memory"):
            if not container.get("resources", {}).get(kind, {}).get(resource):
                yield f"no {resource} in {kind}"
    for variable in container.get("env", []):
        names_a_file = variable["name"].endswith("_FILE")
        if SECRET_NAME.search(variable["name"]) and "value" in variable and not names_a_file:
            yield f"the value of {variable['name']} is in the manifest"


def _secret_values(manifests: list[Manifest]) -> set[str]:
    """What the manifests' own Secrets hold, encoded and plain; short values would be found by chance."""
    found: set[str] = set()
    for manifest in manifests:
        if manifest and manifest["kind"] == "Secret":
            for encoded in (manifest.get("data") or {}).values():
                found |= {encoded, base64.b64decode(encoded).decode(errors="replace")}
            found |= set((manifest.get("stringData") or {}).values())
    return {value for value in found if len(value) >= 8}


def _leaks(manifest: Manifest, secrets: set[str]) -> Iterator[str]:
    """Texts outside of Secrets that hold a secret, or a URL with a password, and named secrets in a ConfigMap."""
    if manifest["kind"] == "Secret":
        return
    for where, text in _texts(manifest):
        if any(secret in text for secret in secrets):
            yield f"a Secret's value stands in {where}"
        if CREDENTIALS_IN_URL.search(text):
            yield f"a URL with a password stands in {where}"
    if manifest["kind"] == "ConfigMap":
        yield from (f"{key} is a secret's name" for key in manifest.get("data") or {} if SECRET_NAME.search(key))


def _texts(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from _texts(inner, f"{where}.{key}".lstrip("."))
    elif isinstance(node, list):
        for number, inner in enumerate(node):
            yield from _texts(inner, f"{where}[{number}]")
    elif isinstance(node, str):
        yield where, node
