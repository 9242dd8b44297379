"""The alert rules: each fires when it must and not before, judged by promtool."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.admin_cases import ADMIN, LIMIT, PLATFORMS, admin_cases, local_cases
from tests.deploy.alert_cases import CPU, MINUTES, REPLICAS, alert_cases, answers, requests
from tests.deploy.rule_case import FIRING, QUIET, RULES, Case, Samples, counter, hold, unit_test

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/charts/model-api"
CASES = [*alert_cases(), *[case for platform in PLATFORMS for case in admin_cases(platform)], *local_cases()]


def alerts() -> dict[str, dict[str, Any]]:
    groups = yaml.safe_load((RULES / "alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def judge(promtool: str, document: dict[str, Any], folder: Path) -> None:
    file = folder / "case.yaml"
    file.write_text(yaml.safe_dump(document, width=1000))
    ran = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.alert}: {case.name}")
def test_state(case: Case, promtool: str, tmp_path: Path) -> None:
    judge(promtool, case.document(), tmp_path)


def test_every_alert_is_tested_both_ways() -> None:
    """A rule without a case that fires and a case that does not is not tested."""
    fires = {case.alert for case in CASES if FIRING in case.states.values()}
    stays_quiet = {case.alert for case in CASES if set(case.states.values()) == {QUIET}}
    assert fires == set(alerts())
    assert stays_quiet == set(alerts()) - {"Watchdog"}


UNTIL = 'alert_drill_until_timestamp_seconds{drill="manual-2026-11-22"}'
BEGAN = 5  # minutes; promtool's clock begins at 0
DRILL_FLAGS: dict[str, tuple[Samples | None, dict[float, bool]]] = {
    "no drill": (None, {6: False, 12: False}),
    "a drill": (hold(9e9, MINUTES), {6: True, 12: True}),
    "a flag that was forgotten": (hold(60, MINUTES), {6: False, 12: False}),
    "a flag that ends in the meantime": (hold(9 * 60, MINUTES), {6: True, 8.75: True, 14.5: False}),
}


@pytest.mark.parametrize("name", DRILL_FLAGS)
def test_only_a_drill_is_marked_as_one(name: str, promtool: str, tmp_path: Path) -> None:
    """From before the load on; afterwards, and with a flag that is over, the page is the real one."""
    flag, moments = DRILL_FLAGS[name]
    series = {CPU: hold(0.91, MINUTES), REPLICAS: hold(6, MINUTES)} | ({UNTIL: flag} if flag else {})
    document = unit_test(("alerts.yaml",), series)
    document["tests"][0]["promql_expr_test"] = [
        {
            "expr": f'count by (drill) (ALERTS{{alertname="{ADMIN}", alertstate="firing"}})',
            "eval_time": f"{round(minute * 60)}s",
            "exp_samples": [{"labels": f'{{drill="{str(drill).lower()}"}}', "value": 1}],
        }
        for minute, drill in moments.items()
    ]
    judge(promtool, document, tmp_path)


def test_a_flag_does_not_disturb_a_rule_that_is_quiet(promtool: str, tmp_path: Path) -> None:
    """It is hoisted before the load: the five minutes begin when the condition does, and are counted once."""
    hot = [*hold(0.5, BEGAN), *hold(0.91, MINUTES - BEGAN)]
    flag = [*([None] * 12), *hold(9e9, MINUTES - 3)]
    series = {CPU: hot, REPLICAS: hold(6, MINUTES), UNTIL: flag}
    states: dict[float, str | None] = {1: QUIET, 4: QUIET, 5: "pending", 9.75: "pending", 10: FIRING, 13: FIRING}
    judge(promtool, Case("flag", ADMIN, series, states).document(), tmp_path)


# The series that make it fire, its labels (besides `namespace`), summary and description.
HOTTEST = "The hottest replica uses 91% of its CPU limit, for five minutes"
TOLD: dict[str, tuple[dict[str, Samples], dict[str, str], str, str]] = {
    ADMIN: (
        {CPU: hold(0.91, MINUTES), REPLICAS: hold(6, MINUTES)},
        {"severity": "critical", "team": "admin", "drill": "false"},
        "The model API is at its 6 replicas and the hottest is above 80 % CPU",
        f"{HOTTEST}, and the autoscaler has no more to add.",
    ),
    "ModelApiHighCPU": (
        {CPU: hold(0.91, MINUTES)},
        {"severity": "warning"},
        "A replica of the model API is above 80 % CPU",
        f"{HOTTEST}.",
    ),
    "ModelApiHighErrorRate": (
        answers(0, 10),
        {"severity": "critical"},
        "More than 5 % of the predictions fail",
        "100% of the answers of /predict are errors of the server (5xx), for five minutes.",
    ),
    "ModelApiSlowResponses": (
        requests(100, 1),
        {"severity": "warning"},
        "Predictions are slow",
        "One request in twenty to /predict takes 4.85s or longer, for five minutes.",
    ),
    "ModelApiFeaturesDegraded": (
        {'ml_features_degraded_total{namespace="mlops",reason="evicted"}': counter(hold(2, MINUTES))},
        {"severity": "warning", "reason": "evicted"},
        "Predictions use old histories (evicted)",
        "2 transactions a second are scored with the snapshot of the model version.",
    ),
    "KafkaQueueBacklog": (
        {'kafka_consumer_lag{namespace="mlops",partition="0"}': hold(2500, MINUTES)},
        {"severity": "warning"},
        "Transactions wait in Kafka to be scored",
        "2.5k transactions wait; it has been more than 1000 for five minutes.",
    ),
    "BackupMissingOrStale": (
        {'backup_last_success_timestamp_seconds{namespace="mlops",database="fraud"}': hold(-200_000, MINUTES)},
        {"severity": "critical", "database": "fraud"},
        "No good backup for 26 hours of fraud",
        "The last backup that succeeded is older than 26 hours, or no backup has ever reported success.",
    ),
    "BackupNotVerified": (
        {
            'backup_last_success_timestamp_seconds{namespace="mlops",database="fraud"}': hold(200, MINUTES),
            'backup_last_verified_timestamp_seconds{namespace="mlops",database="fraud"}': hold(100, MINUTES),
        },
        {"severity": "critical", "database": "fraud"},
        "The newest backup of fraud is not verified",
        "It was written, but restoring it failed, or gave something else than the database held.",
    ),
    "BackupShrunk": (
        {
            'backup_size_bytes{namespace="mlops",database="fraud",pod="before"}': [*hold(5e6, 6), *([None] * 60)],
            'backup_size_bytes{namespace="mlops",database="fraud",pod="now"}': hold(2e6, MINUTES),
        },
        {"severity": "warning", "database": "fraud"},
        "The backup of fraud is less than half of what it was",
        "It has 1.907MiB, less than half of the median of seven days. Somebody may have deleted much.",
    ),
    "DagImportErrors": (
        {'airflow_dag_processing_import_errors{job="airflow",instance="a"}': hold(2, MINUTES)},
        {"severity": "critical"},
        "DAG files cannot be imported",
        "2 DAG files cannot be imported: their DAGs are gone from Airflow and start no more runs.",
    ),
    "Watchdog": (
        {},
        {"severity": "none"},
        "Alerts reach their receivers",
        "This alert always fires. When it stops arriving, no other alert arrives either.",
    ),
}


@pytest.mark.parametrize("name", sorted(alerts()))
def test_what_people_read(name: str, promtool: str, tmp_path: Path) -> None:
    """The labels are exactly these (none of a replica), and the templates give words."""
    series, labels, summary, description = TOLD[name]
    runbook = alerts()[name]["annotations"]["runbook_url"]
    namespace = {} if name in ("Watchdog", "DagImportErrors") else {"namespace": "mlops"}
    document = unit_test(("alerts.yaml",), series)
    document["tests"][0]["alert_rule_test"] = [
        {
            "eval_time": "20m",
            "alertname": name,
            "exp_alerts": [
                {
                    "exp_labels": {**namespace, **labels},
                    "exp_annotations": {"summary": summary, "description": description, "runbook_url": runbook},
                }
            ],
        }
    ]
    judge(promtool, document, tmp_path)


@pytest.mark.parametrize("name", sorted(alerts()))
def test_has_a_severity_and_a_runbook(name: str) -> None:
    rule = alerts()[name]
    assert rule["labels"]["severity"] in {"critical", "warning", "none"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page.parent == ROOT / "docs/runbooks"
    assert f"`{name}`" in page.read_text()


@pytest.mark.parametrize("file", sorted(RULES.glob("*.yaml")), ids=lambda file: file.name)
def test_promtool_accepts(file: Path, promtool: str) -> None:
    ran = subprocess.run([promtool, "check", "rules", "--lint-fatal", str(file)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_platforms_record_the_same() -> None:
    recorded = [
        {
            (group["name"], rule["record"])
            for group in yaml.safe_load(file.read_text())["groups"]
            for rule in group["rules"]
        }
        for file in RULES.glob("recording-*.yaml")
    ]
    assert len(recorded) == 2
    assert recorded[0] == recorded[1]


def test_local_limit_is_that_of_a_pod() -> None:
    limits = yaml.safe_load((CHART / "values.yaml").read_text())["api"]["resources"]["limits"]
    assert limits["cpu"] == f"{LIMIT * 1000:.0f}m"


def test_the_chart_has_the_same_rule_for_degraded_features() -> None:
    """But for the namespace: the chart's is of one release."""
    chart = (CHART / "templates/api-prometheusrule.yaml").read_text()
    found = re.search(r"expr: (.*)", chart)
    assert found
    assert re.sub(r"\{namespace=\{\{.*?\}\}\}", "", found[1]) == alerts()["ModelApiFeaturesDegraded"]["expr"]
