"""Step: tell Prometheus of a backup, through the Pushgateway.

`python -m include.backup.report --database mlflow --backup newest`
"""

from collections.abc import Callable
from typing import Any

import httpx
from prometheus_client import CollectorRegistry, Gauge, pushadd_to_gateway

from include.backup.catalogue import backups, choose
from include.backup.store import store
from include.command import StepArgs, run
from include.settings import settings

JOB = "backup"
PATIENCE_SECONDS = 10.0


class Args(StepArgs):
    """Which backup: a stem, a number, `newest` or `latest` (the newest verified one)."""

    database: str
    backup: str = "newest"


def main(args: Args) -> dict[str, Any]:
    """Answer: the figures as they were pushed."""
    kept = store(settings().backup_uri)
    backup = choose(kept, args.database, args.backup)
    manifest = backup.manifest
    verified = [other.verified for other in backups(kept, args.database) if other.verified and other.whole]
    figures = {
        "backup_last_success_timestamp_seconds": ("when the last backup ended", manifest.ended),
        "backup_size_bytes": ("size of the last backup", manifest.size),
        "backup_database_bytes": ("size of the database when it was backed up", manifest.database_size),
        "backup_duration_seconds": ("how long the last backup took", sum(manifest.seconds.values())),
    }
    # 0 when none ever was: without the figure BackupNotVerified could not fire on the very first backup.
    last = verified[-1].at if verified else 0
    figures["backup_last_verified_timestamp_seconds"] = ("when the last backup was verified", last)
    if backup.verified:
        figures["backup_verify_duration_seconds"] = ("how long the verification took", backup.verified.seconds)
    push(args.database, {name: (text, float(value)) for name, (text, value) in figures.items()})
    return {"database": args.database, "stem": manifest.stem, **{name: value for name, (_, value) in figures.items()}}


def push(database: str, figures: dict[str, tuple[str, float]]) -> None:
    """Set these gauges in the database's group; others in it stay. Raises ConnectionError."""
    registry = CollectorRegistry()
    for name, (text, value) in figures.items():
        Gauge(name, text, registry=registry).set(value)
    url = settings().pushgateway_url
    try:
        pushadd_to_gateway(url, JOB, registry, {"database": database}, PATIENCE_SECONDS, handler=_without_proxy)
    except httpx.HTTPError as error:
        raise ConnectionError(
            f"the Pushgateway at {url} does not take the figures ({error}); start it or correct MLOPS_PUSHGATEWAY_URL"
        ) from error


def _without_proxy(
    url: str, method: str, timeout: float | None, headers: list[tuple[str, str]], data: bytes
) -> Callable[[], None]:
    def send() -> None:
        sent = httpx.request(method, url, content=data, headers=headers, timeout=timeout, trust_env=False)
        sent.raise_for_status()

    return send


if __name__ == "__main__":
    run(main)
