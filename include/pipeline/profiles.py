"""Named resource profiles of the steps' pods: pick one by name, never write numbers in a DAG."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Profile:
    """What a pod asks for, what it may take, and how long it may run."""

    cpu_request: str
    cpu_limit: str
    memory_request: str
    memory_limit: str
    deadline_seconds: int
    disk_gib: int = 1  # what may be written to /tmp
    priority: str | None = None  # a PriorityClass; none: as everything else


BATCH = "mlops-batch"  # gives way to everything else: deploy/platform/priorities.yaml

PROFILES = {
    # arithmetic on dates, calls to MLflow
    "small": Profile("100m", "500m", "256Mi", "512Mi", deadline_seconds=600),
    # waits for a rollout, watches a service
    "rollout": Profile("50m", "500m", "128Mi", "512Mi", deadline_seconds=4500),
    # streams a database through a compressor, or restores it on a server of its own in /tmp: neither keeps it in memory
    "backup": Profile("100m", "500m", "128Mi", "512Mi", deadline_seconds=14_400, disk_gib=10),
    # sends thousands of messages a second on time, and watches what follows, for an hour
    "drill": Profile("250m", "2", "256Mi", "1Gi", deadline_seconds=7200),
    # a month of transactions in memory
    "data": Profile("500m", "1", "512Mi", "1536Mi", deadline_seconds=1800, priority=BATCH),
    # forests: up to two cores, so that a fit is not slower than on a laptop; half a one is reserved, for which even a
    # cluster of two cores has room beside all the rest
    "training": Profile("500m", "2", "1Gi", "3Gi", deadline_seconds=3600, priority=BATCH),
}
