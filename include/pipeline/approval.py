"""A person's yes before a step that replaces something."""

from datetime import timedelta

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import BaseOperator

WITHIN = timedelta(days=1)


def approval(task_id: str, subject: str, body: str) -> BaseOperator:
    """Waits in the UI (*Required Actions*) for a day; a no, or nobody, skips what follows. Both are templates."""
    return ApprovalOperator(task_id=task_id, subject=subject, body=body, defaults="Reject", response_timeout=WITHIN)
