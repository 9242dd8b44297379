"""A step as a pod: the house KubernetesPodOperator (MLOPS_RUNTIME=kubernetes).

Every override of the operator's defaults stands here, once, with its reason.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.cncf.kubernetes.utils.xcom_sidecar import PodDefaults
from airflow.sdk.exceptions import AirflowException
from kubernetes.client import models as k8s

from include.code_version import code_version
from include.command import EXPECTED_VERSION
from include.pipeline.flags import argv
from include.pipeline.grants import GRANTS, Grant
from include.pipeline.outcome import announce, settle
from include.pipeline.profiles import PROFILES, Profile
from include.settings import settings

SERVICE_FILE = "/run/databases/pg_service.conf"
RESULT = "/airflow/xcom/return.json"
STEP_USER = 65532
STARTUP_SECONDS = 300
# Pod Security level "restricted", and a root file system that nobody writes to.
LOCKED_DOWN = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": STEP_USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SIDECAR_RESOURCES = k8s.V1ResourceRequirements(
    requests={"cpu": "1m", "memory": "10Mi"}, limits={"cpu": "50m", "memory": "32Mi"}
)


class PodStep(KubernetesPodOperator):
    """Run ``python -m module --flag value …`` in a pod of this commit's image and return the answer it wrote.

    :param module: the step, ``include.<room>.<step>``
    :param flags: its flags; templates and other tasks' outputs are filled in
    :param profile: name of a resource profile
    :param grant: name of what the pod may reach
    :param each: the flag in which the instances of a mapped task differ
    """

    template_fields: Sequence[str] = ("flags", "each", *KubernetesPodOperator.template_fields)

    def __init__(
        self,
        *,
        module: str,
        flags: dict[str, Any],
        profile: str,
        grant: str,
        each: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.module = module
        self.flags = flags
        self.each = each
        self.profile = profile
        self.grant = grant
        size, granted = PROFILES[profile], GRANTS[grant]
        super().__init__(
            # The image is of the same commit as this DAG file.
            image=f"{settings().step_image}:{code_version()}",
            image_pull_policy="IfNotPresent",
            namespace=settings().namespace,
            name=module.removeprefix("include.").replace(".", "-").replace("_", "-"),
            cmds=["python"],
            arguments=[*argv(module, {}), "--result", RESULT],
            labels={
                "app.kubernetes.io/name": "mlops-step",
                "app.kubernetes.io/part-of": "mlops-dags",
                "app.kubernetes.io/component": module.split(".")[1],
                "app.kubernetes.io/managed-by": "airflow",
                **granted.labels,
            },
            env_vars=[
                k8s.V1EnvVar(name=EXPECTED_VERSION, value=code_version()),
                # A step that looks after the service must know that it is in a cluster.
                k8s.V1EnvVar(name="MLOPS_RUNTIME", value="kubernetes"),
                k8s.V1EnvVar(name="MLOPS_NAMESPACE", value=settings().namespace),
                # The only places a pod may write to.
                k8s.V1EnvVar(name="HOME", value="/tmp"),  # noqa: S108
                k8s.V1EnvVar(name="MPLCONFIGDIR", value="/tmp/matplotlib"),  # noqa: S108
                *([k8s.V1EnvVar(name="PGSERVICEFILE", value=SERVICE_FILE)] if granted.databases else []),
            ],
            # Settings and secrets of the deployment, by name only; a step that needs none runs without them.
            env_from=[
                k8s.V1EnvFromSource(config_map_ref=k8s.V1ConfigMapEnvSource(name="mlops-settings", optional=True)),
                k8s.V1EnvFromSource(secret_ref=k8s.V1SecretEnvSource(name="mlops-secrets", optional=True)),
            ],
            volumes=[
                k8s.V1Volume(name="tmp", empty_dir=k8s.V1EmptyDirVolumeSource(size_limit=f"{size.disk_gib}Gi")),
                *_volumes(granted),
            ],
            volume_mounts=[
                k8s.V1VolumeMount(name="tmp", mount_path="/tmp"),  # noqa: S108
                *_mounts(granted),
            ],
            container_resources=_resources(size),
            priority_class_name=size.priority,
            security_context=k8s.V1PodSecurityContext(run_as_non_root=True, fs_group=STEP_USER),
            container_security_context=LOCKED_DOWN,
            # The XCom sidecar is a container like any other: the restricted level applies to it too.
            xcom_sidecar_container_security_context=LOCKED_DOWN,
            service_account_name=granted.service_account,
            # Most steps have no business with the Kubernetes API.
            automount_service_account_token=granted.token,
            # The wait is the triggerer's, not a worker slot's, and survives a restart of either.
            deferrable=True,
            durable=True,
            # Lines of a deferred pod's log reach the task's log while it runs, and before the pod is deleted.
            logging_interval=10,
            # A failed pod stays for a look; `airflow kubernetes cleanup-pods` removes it later.
            on_finish_action="delete_succeeded_pod",
            on_kill_action="delete_pod",
            # A pod that starts late (or never) must not outlive its task: Kubernetes itself ends it.
            active_deadline_seconds=size.deadline_seconds,
            startup_timeout_seconds=STARTUP_SECONDS,
            # The last lines of the log become the task's error message.
            termination_message_policy="FallbackToLogsOnError",
            **kwargs
            | {
                "do_xcom_push": True,
                "execution_timeout": timedelta(seconds=size.deadline_seconds + STARTUP_SECONDS),
            },
        )

    def build_pod_request_obj(self, context: Any = None, *, dry_run: bool = False) -> k8s.V1Pod:
        """The operator has no argument for the sidecar's resources, and a quota refuses a container without any."""
        pod = super().build_pod_request_obj(context, dry_run=dry_run)
        for container in pod.spec.containers:
            if container.name == PodDefaults.SIDECAR_CONTAINER_NAME:
                container.resources = SIDECAR_RESOURCES
        return pod

    def execute(self, context: Any) -> Any:
        """Fill the flags into the pod's arguments, now that Airflow has rendered them."""
        self.arguments = [*argv(self.module, {**self.flags, **(self.each or {})}), "--result", RESULT]
        return self._announced(context, super().execute(context))

    def trigger_reentry(self, context: Any, event: dict[str, Any]) -> Any:
        """Come back from the triggerer."""
        return self._announced(context, super().trigger_reentry(context, event))

    def _announced(self, context: Any, answer: Any) -> Any:
        if answer:
            announce(context, answer)
        return answer

    def cleanup(self, pod: Any, remote_pod: Any, xcom_result: Any = None, context: Any = None) -> None:
        """Turn the operator's one kind of failure into the contract's three."""
        try:
            super().cleanup(pod, remote_pod, xcom_result, context)
        except AirflowException as failure:
            try:
                settle(self.module, self._exit_code(remote_pod), xcom_result)
            except AirflowException as outcome:
                raise outcome from failure
            raise

    def _exit_code(self, pod: k8s.V1Pod) -> int | None:
        for container in (pod.status and pod.status.container_statuses) or []:
            if container.name == self.base_container_name and container.state and container.state.terminated:
                return container.state.terminated.exit_code
        return None


def _volumes(granted: Grant) -> list[k8s.V1Volume]:
    found = []
    if granted.databases:
        secret = k8s.V1SecretVolumeSource(secret_name=granted.databases, default_mode=0o440)
        found.append(k8s.V1Volume(name="databases", secret=secret))
    if granted.claim:
        claim = k8s.V1PersistentVolumeClaimVolumeSource(claim_name=granted.claim)
        found.append(k8s.V1Volume(name="backups", persistent_volume_claim=claim))
    return found


def _mounts(granted: Grant) -> list[k8s.V1VolumeMount]:
    found = []
    if granted.databases:
        folder = SERVICE_FILE.rpartition("/")[0]
        found.append(k8s.V1VolumeMount(name="databases", mount_path=folder, read_only=True))
    if granted.claim:
        found.append(k8s.V1VolumeMount(name="backups", mount_path="/backups"))
    return found


def _resources(size: Profile) -> k8s.V1ResourceRequirements:
    return k8s.V1ResourceRequirements(
        requests={"cpu": size.cpu_request, "memory": size.memory_request, "ephemeral-storage": "256Mi"},
        limits={"cpu": size.cpu_limit, "memory": size.memory_limit, "ephemeral-storage": f"{size.disk_gib + 1}Gi"},
    )
