"""A small client of Airflow's REST API, version 2."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import httpx

TIMEOUT_SECONDS = 60.0  # a call on a busy machine took more than ten
CONNECT_RETRIES = 4
READ_RETRIES = 4
PAGE = 100
FINISHED = ("success", "failed")
Json = dict[str, Any]


class AirflowApiError(Exception):
    """Airflow answered with an error; the message holds the request, the status and what Airflow said."""

    def __init__(self, request: str, status: int, said: str) -> None:
        super().__init__(f"{request}: {status} {said[:2000]}")
        self.status = status


class AirflowApi:
    """Airflow at `address`: as a user by name and password, or as the admin that everybody is where all are admins."""

    def __init__(self, address: str, login: tuple[str, str] | None = None) -> None:
        self.address = address
        transport = httpx.HTTPTransport(retries=CONNECT_RETRIES)  # nothing was sent yet, so any request may be repeated
        self._client = httpx.Client(base_url=address, timeout=TIMEOUT_SECONDS, transport=transport, trust_env=False)
        if login:
            answer = self._send("POST", "/auth/token", json={"username": login[0], "password": login[1]})
        else:
            answer = self._send("GET", "/auth/token")
        token = answer["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def health(self) -> dict[str, str]:
        """The status of every component, by name."""
        answer = self._get("/monitor/health")
        return {name: part["status"] for name, part in answer.items() if part}

    def dag(self, dag_id: str) -> Json | None:
        """What Airflow knows about the DAG, or None while it has not been parsed."""
        try:
            return self._get(f"/dags/{dag_id}")
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise

    def import_errors(self) -> dict[str, str]:
        """The stack trace of every DAG file that cannot be imported, by file."""
        return {error["filename"]: error["stack_trace"] for error in self._get("/importErrors")["import_errors"]}

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler start the DAG's runs."""
        self._send("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": False})

    def trigger(self, dag_id: str, conf: Mapping[str, Any], logical_date: datetime | None = None) -> str:
        """Start a run and return its id."""
        date = logical_date.isoformat() if logical_date else None
        body = {"logical_date": date, "conf": dict(conf)}
        return str(self._send("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def runs(self, dag_id: str) -> list[Json]:
        """The DAG's newest runs, by hand or not."""
        return cast(list[Json], self._get(f"/dags/{dag_id}/dagRuns", order_by="-run_after", limit=PAGE)["dag_runs"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """``queued``, ``running``, ``success`` or ``failed``."""
        return str(self._get(_run(dag_id, run_id))["state"])

    def wait(self, dag_id: str, run_id: str, within: float) -> str:
        """Wait for the run's end; return its state."""
        deadline = time.monotonic() + within
        while (state := self.run_state(dag_id, run_id)) not in FINISHED:
            if time.monotonic() > deadline:
                raise TimeoutError(f"run {run_id} of {dag_id} is still {state} after {within:.0f} s")
            time.sleep(1)
        return state

    def task_instances(self, dag_id: str, run_id: str) -> list[Json]:
        """Every task instance of the run; a mapped task has one for each `map_index`."""
        found: list[Json] = []
        while True:
            page = self._get(f"{_run(dag_id, run_id)}/taskInstances", limit=PAGE, offset=len(found))
            found += page["task_instances"]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def xcom(self, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Any | None:
        """What the task returned, or None when it returned nothing."""
        where = f"{_run(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/return_value"
        try:
            return self._get(where, map_index=map_index)["value"]
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise

    def question(self, dag_id: str, run_id: str, task_id: str) -> str:
        """What a task that waits for a person shows. Raises AirflowApiError with status 404 while it does not wait."""
        asked = self._get(f"{_run(dag_id, run_id)}/taskInstances/{task_id}/-1/hitlDetails")
        return "" if asked["response_received"] else f"{asked['subject']}\n\n{asked['body']}"

    def answer(self, dag_id: str, run_id: str, task_id: str, option: str) -> None:
        """The person's answer."""
        where = f"/api/v2{_run(dag_id, run_id)}/taskInstances/{task_id}/-1/hitlDetails"
        self._send("PATCH", where, json={"chosen_options": [option], "params_input": {}})

    def asset_events(self, asset: str) -> list[Json]:
        """What was announced on the asset, newest first; `extra` is the step's answer."""
        found = self._get("/assets/events", order_by="-timestamp", limit=PAGE)["asset_events"]
        return [event for event in found if event["name"] == asset]

    def log(self, dag_id: str, run_id: str, task: Json) -> list[str]:
        """The log lines of a task instance's last try."""
        where = f"{_run(dag_id, run_id)}/taskInstances/{task['task_id']}/logs/{task['try_number']}"
        content = self._get(where, map_index=task["map_index"], full_content="true")["content"]
        return [str(line["event"]) if isinstance(line, dict) else str(line) for line in content]

    def _get(self, path: str, **params: Any) -> Json:
        for attempt in range(READ_RETRIES):
            try:
                return self._send("GET", f"/api/v2{path}", params=params)
            except httpx.TransportError:
                time.sleep(2**attempt)
        return self._send("GET", f"/api/v2{path}", params=params)

    def _send(self, method: str, path: str, **request: Any) -> Json:
        answer = self._client.request(method, path, **request)
        if answer.is_error:
            raise AirflowApiError(f"{method} {self.address}{path}", answer.status_code, answer.text)
        return cast(Json, answer.json())


def _run(dag_id: str, run_id: str) -> str:
    return f"/dags/{dag_id}/dagRuns/{run_id}"
