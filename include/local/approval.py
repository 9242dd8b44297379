"""The person who answers a restore's question, through the same API as the button in Airflow's UI."""

import threading
import time

from include.local.airflow_api import AirflowApi, AirflowApiError

RESTORE, ASKS = "restore_database", "approve"
# Airflow 3.3 loses an answer that comes before its scheduler has noticed that the task waits: it takes the end of the
# waiting task's process for a lost task, and asks again after the delay of a retry. People are slower than that.
READING_SECONDS = 5.0
APPROVE_WITHIN = 600.0


def approve_the_next_restore(api: AirflowApi) -> list[str]:
    """Says yes, in the background, as often as the next run of ``restore_database`` asks.

    Parameters
    ----------
    api: Of the Airflow in which the run is yet to be triggered; nobody else uses it meanwhile.

    Returns
    -------
    The questions that were answered, one for each time; it grows while the run lasts.
    """
    said: list[str] = []
    threading.Thread(target=_approve, args=(api, said), daemon=True).start()
    return said


def _approve(api: AirflowApi, said: list[str]) -> None:
    deadline = time.monotonic() + APPROVE_WITHIN
    while time.monotonic() < deadline:
        running = [run["dag_run_id"] for run in api.runs(RESTORE) if run["state"] == "running"]
        if said and not running:
            return
        for run_id in running:
            if question := _question(api, run_id):
                time.sleep(READING_SECONDS)
                api.answer(RESTORE, run_id, ASKS, "Approve")
                said.append(question)
        time.sleep(1)


def _question(api: AirflowApi, run_id: str) -> str:
    """What the run asks now; nothing while it does not."""
    try:
        return api.question(RESTORE, run_id, ASKS)
    except AirflowApiError as error:
        if error.status == 404:
            return ""
        raise
