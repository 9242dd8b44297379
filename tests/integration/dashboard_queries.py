"""Every query of a Grafana dashboard, ready for Prometheus: the variables are filled in as Grafana would."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[2] / "deploy" / "dashboards" / "model-api.json"


@dataclass(frozen=True)
class DashboardQuery:
    """One query, and where it stands: the title of its panel, or the name of its annotation."""

    where: str
    ref: str
    expr: str

    def __str__(self) -> str:
        """As a test's id."""
        return f"{self.where} {self.ref}".strip()


def queries(namespace: str, rate_interval: str, dashboard: Path = DASHBOARD) -> list[DashboardQuery]:
    """All of them. `rate_interval` must span four scrapes, as Grafana's own does: 1m at 15 s, 4s at 1 s."""
    document = json.loads(dashboard.read_text())
    known = {"$namespace": namespace, "$__rate_interval": rate_interval}
    found = [
        DashboardQuery(panel["title"], target["refId"], _filled(target["expr"], known))
        for panel in document["panels"]
        for target in panel.get("targets", [])
    ]
    return found + [
        DashboardQuery(note["name"], "", _filled(note["expr"], known))
        for note in document["annotations"]["list"]
        if "expr" in note
    ]


def _filled(expr: str, known: Mapping[str, Any]) -> str:
    for variable, value in known.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, f"{expr}: a variable that this function does not know"
    return expr
