"""Pod Security level "restricted", as the API server would judge it, for what is rendered and never applied here."""

from collections.abc import Iterator

from deploy.lint.charts import Manifest

# Where the pod stands in what makes pods.
PODS = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"), ("spec", "template", "spec")),
}
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def outside(manifest: Manifest) -> Iterator[str]:
    """What the level forbids in an object's pods."""
    if manifest["kind"] not in PODS:
        return
    spec = manifest
    for key in PODS[manifest["kind"]]:
        spec = spec[key]
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is set"
    for volume in spec.get("volumes") or []:
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    shared = spec.get("securityContext") or {}
    for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
        for breach in _container(container, shared):
            yield f"container {container['name']} {breach}"


def _container(container: Manifest, shared: Manifest) -> Iterator[str]:
    """`shared` is the pod's security context; a container's own comes first."""
    own = container.get("securityContext") or {}
    both = {**shared, **own}
    if own.get("allowPrivilegeEscalation") is not False or own.get("privileged"):
        yield "may escalate its privileges"
    capabilities = own.get("capabilities") or {}
    if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
        yield "keeps capabilities"
    if both.get("runAsNonRoot") is not True or both.get("runAsUser") == 0:
        yield "may run as root"
    if (both.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
        yield "has no seccomp profile"
    if any(port.get("hostPort") for port in container.get("ports") or []):
        yield "takes a port of the node"
