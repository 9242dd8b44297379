"""What the page says of what Prometheus and Airflow know."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "plugins"))  # as Airflow itself does
import lifecycle_page
from lifecycle_page import Sample

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = 3600


def known(**changed):
    found = {name: [] for name in lifecycle_page.QUESTIONS}
    found["versions"] = [Sample({"name": "fraud", "version": "2"}, 4)]
    found["backed up"] = [Sample({"database": "mlflow"}, NOW.timestamp() - 3 * HOUR)]
    found["verified"] = [Sample({"database": "mlflow"}, NOW.timestamp() - 2 * HOUR)]
    return {**found, **changed}


def test_what_is_well():
    page = lifecycle_page.page(known(), "", {"retrain_model": []}, NOW)
    assert "fraud 2 (4)" in page
    assert "class='good'>3.0 h ago" in page
    assert "restored and compared" in page
    assert "no run" in page
    assert "class='bad'" not in page


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"alerts": [Sample({"alertname": "BackupShrunk"}, 1)]}, "class='bad'>BackupShrunk"),
        ({"backed up": [Sample({"database": "mlflow"}, NOW.timestamp() - 27 * HOUR)]}, "class='bad'>27.0 h ago"),
        ({"verified": [Sample({"database": "mlflow"}, NOW.timestamp() - 4 * HOUR)]}, "class='bad'>not verified"),
        ({"verified": []}, "class='bad'>not verified"),
        ({"versions": []}, "not known"),
    ],
)
def test_what_is_not(changed, said):
    assert said in lifecycle_page.page(known(**changed), "", {}, NOW)


def test_runs_are_squares_with_the_newest_at_the_right():
    runs = [
        SimpleNamespace(dag_id="alert_drill", run_id=f"manual__'{n}", state=state)
        for n, state in ((2, "failed"), (1, "success"))
    ]
    page = lifecycle_page.page(known(), "", {"alert_drill": runs}, NOW)
    assert page.index("manual__&#x27;1: success") < page.index("manual__&#x27;2: failed")
    assert "manual__'" not in page


def test_without_prometheus_the_page_says_so():
    found, trouble = lifecycle_page.measured("http://127.0.0.1:9")
    assert found == {}
    assert "http://127.0.0.1:9 (MLOPS_PROMETHEUS_URL)" in trouble
    page = lifecycle_page.page(found, trouble, {"retrain_model": []}, NOW)
    assert "does not answer" in page
    assert "Pipelines" in page
