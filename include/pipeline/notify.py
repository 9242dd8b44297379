"""Tell the team that a run failed, by the way that alerts go: Alertmanager.

The alert stands for the DAG, not for the run: it ends when a later run of the DAG succeeds, or after a week.
"""

import logging
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from include.pipeline.tags import Tier
from include.settings import settings

log = logging.getLogger(__name__)

ALERT = "AirflowRunFailed"
FORGOTTEN_AFTER = timedelta(days=7)
TIMEOUT_SECONDS = 5.0


def tell_failure(context: Mapping[str, Any]) -> None:
    """A DAG's `on_failure_callback`."""
    run = context["dag_run"]
    _post(
        context["dag"],
        ends=datetime.now(UTC) + FORGOTTEN_AFTER,
        annotations={
            "summary": f"{run.dag_id} failed",
            "description": f"Run {run.run_id} failed. {context.get('reason') or ''}".strip(),
            "runbook_url": f"docs/dags.md#{run.dag_id}",
        },
    )


def tell_success(context: Mapping[str, Any]) -> None:
    """A DAG's `on_success_callback`: an earlier failure is over."""
    _post(context["dag"], ends=datetime.now(UTC), annotations={})


def _post(dag: Any, ends: datetime, annotations: Mapping[str, str]) -> None:
    import httpx  # costs too much while DAGs are parsed

    labels = {
        "alertname": ALERT,
        "dag": dag.dag_id,
        "namespace": settings().namespace,
        "severity": "critical" if Tier.ONE in dag.tags else "warning",
    }
    alert = {"labels": labels, "annotations": dict(annotations), "endsAt": ends.isoformat()}
    url = f"{settings().alertmanager_url}/api/v2/alerts"
    try:
        httpx.post(url, json=[alert], timeout=TIMEOUT_SECONDS, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        # The run's state says it all the same; a callback that fails would only hide it.
        log.warning("%s was not told that %s ended (%s); is MLOPS_ALERTMANAGER_URL right?", url, dag.dag_id, error)
