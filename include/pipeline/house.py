"""What every DAG of the repository has in common."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule

from include.pipeline.notify import tell_failure, tell_success
from include.settings import settings

# A step that says "bad input" or "no" would say it again.
RETRIES = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=["include.pipeline.outcome.StepBadInput", "include.pipeline.outcome.StepRefused"],
            action=RetryAction.FAIL,
            reason="bad input or a refusal: a retry cannot help",
        )
    ]
)

HOUSE: dict[str, Any] = {
    "start_date": datetime(2025, 1, 1, tzinfo=UTC),
    "catchup": False,
    # Two runs would write the same partitions and move the same alias.
    "max_active_runs": 1,
    "on_failure_callback": tell_failure,
    "on_success_callback": tell_success,
    "default_args": {
        "owner": "mlops",
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=15),
        "retry_policy": RETRIES,
    },
}


def clock(cron: str) -> str | None:
    """The DAG's schedule, in UTC; None where nothing is to start by the clock, as in the local stack."""
    return cron if settings().timed_schedules else None


def day(param: str) -> str:
    """The form's field `param`; left empty, the last day that was over at the logical date.

    A run from the UI may have no logical date: then its own start counts, which a second try of the run still has.
    """
    return "{{ params." + param + " or macros.ds_add((dag_run.logical_date or dag_run.run_after) | ds, -1) }}"
