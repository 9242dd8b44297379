"""The page "Model life" in Airflow's menu: which version serves, whether backups are good, how the six DAGs ended.

Airflow itself has no page that answers these together. What is measured comes from Prometheus; runs come from Airflow's
own database, only those of DAGs that the user may read. The page changes nothing.

It stands alone: on a cluster `include/` comes with the DAGs from git, which the API server does not have.
"""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, NamedTuple

import httpx
from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models.dagrun import DagRun
from airflow.plugins_manager import AirflowPlugin
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from sqlalchemy import select

DAGS = {
    "ingest_transactions": "new transactions",
    "retrain_model": "a better model, or none",
    "redeploy_model": "rolled out, or undone",
    "backup_databases": "backed up and proven",
    "restore_database": "restored on request",
    "alert_drill": "the admin's page received",
}
RUNS = 14
SECONDS = 5.0
STALE_HOURS = 26  # as deploy/rules/alerts.yaml has it
QUESTIONS = {
    "replicas": "model_api:replicas_ready",
    "versions": "count by (name, version) (ml_model_info == 1)",
    "cpu": "model_api:cpu_utilisation:max",
    "lag": "sum(kafka_consumer_lag)",
    "alerts": 'ALERTS{alertstate="firing", alertname!="Watchdog"}',
    "backed up": "max by (database) (backup_last_success_timestamp_seconds)",
    "verified": "max by (database) (backup_last_verified_timestamp_seconds)",
    "size": "max by (database) (backup_size_bytes)",
}
BACKUP_FIGURES = ("backed up", "verified", "size")
STYLE = """
:root { color-scheme: light dark; --ink: #1c2330; --faint: #667085; --line: #d9dee7; --good: #17803d; --bad: #c62f2f; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ef; --faint: #98a2b3; --line: #363d49; --good: #56d364; --bad: #ff7b72; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 1000px; margin: 0 auto; padding: 20px; }
h1 { font-size: 21px; margin: 0; } h2 { font-size: 16px; margin: 28px 0 6px; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: 6px 10px 6px 0; border-bottom: 1px solid var(--line); }
th, .faint { color: var(--faint); font-weight: 400; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: 600; }
a { color: inherit; } .runs a { display: inline-block; width: 12px; height: 18px; margin-right: 3px; border-radius: 2px;
  background: var(--faint); } .runs a.good { background: var(--good); } .runs a.bad { background: var(--bad); }
"""


class Sample(NamedTuple):
    """One series as Prometheus has it now."""

    labels: dict[str, str]
    value: float


Samples = dict[str, list[Sample]]
app = FastAPI(title="Model life", docs_url=None, redoc_url=None, openapi_url=None)


@app.get("/")
def lifecycle(session: SessionDep, user: GetUserDep) -> HTMLResponse:
    """The page. 401 without a login, as everything of Airflow."""
    readable = get_auth_manager().get_authorized_dag_ids(user=user, method="GET")
    runs = {name: session.scalars(last_runs(name)).all() for name in DAGS if name in readable}
    found, trouble = measured(os.environ.get("MLOPS_PROMETHEUS_URL", "http://127.0.0.1:9090"))
    return HTMLResponse(page(found, trouble, runs, datetime.now(UTC)))


def last_runs(dag_id: str) -> Any:
    """The newest first."""
    return select(DagRun).where(DagRun.dag_id == dag_id).order_by(DagRun.id.desc()).limit(RUNS)


def measured(address: str) -> tuple[Samples, str]:
    """Prometheus' answer to each question, and what hindered it. A page without figures is better than none."""
    found: Samples = {}
    try:
        with httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as client:
            for name, expression in QUESTIONS.items():
                answer = client.get("/api/v1/query", params={"query": expression}).raise_for_status().json()
                found[name] = [Sample(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        return {}, f"Prometheus at {address} (MLOPS_PROMETHEUS_URL) does not answer: {type(error).__name__}: {error}"
    return found, ""


def page(found: Samples, trouble: str, runs: Mapping[str, Sequence[Any]], now: datetime) -> str:
    """All of it as HTML."""
    body = [f"<h1>Model life</h1><div class='faint'>{now:%d %B %Y, %H:%M:%S} UTC</div>"]
    body.append(f"<p class='bad'>{escape(trouble)}</p>" if trouble else _service(found) + _backups(found, now))
    body.append(_pipelines(runs))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta http-equiv="refresh" content="30">'
        f"<title>Model life</title><style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _service(found: Samples) -> str:
    versions = [f"{one.labels['name']} {one.labels['version']} ({one.value:.0f})" for one in found["versions"]]
    alerts = sorted({one.labels["alertname"] for one in found["alerts"]})
    rows = {
        "Version served (replicas)": ", ".join(versions) or None,
        "Replicas ready": _number(found["replicas"], "{:.0f}"),
        "Hottest replica, of its limit": _number(found["cpu"], "{:.0%}"),
        "Messages that wait in Kafka": _number(found["lag"], "{:,.0f}"),
    }
    cells = "".join(f"<tr><th>{name}</th><td>{escape(said or 'not known')}</td></tr>" for name, said in rows.items())
    told = f"<span class='bad'>{escape(', '.join(alerts))}</span>" if alerts else "<span class='good'>none</span>"
    return f"<h2>Service</h2><table>{cells}<tr><th>Alerts that fire</th><td>{told}</td></tr></table>"


def _number(samples: list[Sample], form: str) -> str | None:
    return form.format(max(one.value for one in samples)) if samples else None


def _backups(found: Samples, now: datetime) -> str:
    of = {
        name: {one.labels["database"]: one.value for one in found[name]} for name in ("backed up", "verified", "size")
    }
    rows = []
    for database, moment in sorted(of["backed up"].items()):
        hours = (now.timestamp() - moment) / 3600
        fresh, proven = hours < STALE_HOURS, of["verified"].get(database, 0) >= moment
        proof = "restored and compared" if proven else "not verified"
        rows.append(
            f"<tr><td>{escape(database)}</td><td class='{_good(fresh)}'>{hours:.1f} h ago</td>"
            f"<td class='{_good(proven)}'>{proof}</td><td>{of['size'].get(database, 0) / 1e6:,.1f} MB</td></tr>"
        )
    head = "<tr><th>database</th><th>last backup</th><th>proof</th><th>size</th></tr>"
    return f"<h2>Backups</h2><table>{head}{''.join(rows)}</table>" if rows else "<h2>Backups</h2><p>None yet.</p>"


def _pipelines(runs: Mapping[str, Sequence[Any]]) -> str:
    rows = []
    for name, newest in runs.items():
        last = newest[0] if newest else None
        squares = "".join(_square(run) for run in reversed(newest))
        rows.append(
            f"<tr><td><a href='/dags/{name}' target='_top'>{name}</a></td><td class='faint'>{DAGS[name]}</td>"
            f"<td class='{_tone(last.state) if last else 'faint'}'>{escape(str(last.state)) if last else 'no run'}</td>"
            f"<td class='runs'>{squares}</td></tr>"
        )
    head = f"<tr><th>DAG</th><th></th><th>last run</th><th>last {RUNS}, newest right</th></tr>"
    return f"<h2>Pipelines</h2><table>{head}{''.join(rows)}</table>"


def _square(run: Any) -> str:
    said = escape(f"{run.run_id}: {run.state}", quote=True)
    href = escape(f"/dags/{run.dag_id}/runs/{run.run_id}", quote=True)
    return f"<a class='{_tone(run.state)}' href='{href}' target='_top' title='{said}'></a>"


def _good(is_good: bool) -> str:
    return "good" if is_good else "bad"


def _tone(state: Any) -> str:
    return {"success": "good", "failed": "bad"}.get(str(state), "")


class LifecyclePage(AirflowPlugin):
    """Registers the page and its place in the menu."""

    name = "lifecycle_page"
    fastapi_apps = [{"app": app, "url_prefix": "/lifecycle", "name": "Model life"}]  # noqa: RUF012
    external_views = [  # noqa: RUF012
        {
            "name": "Model life",
            "href": "/lifecycle/",
            "destination": "nav",
            "category": "browse",
            "url_route": "lifecycle",
        }
    ]
