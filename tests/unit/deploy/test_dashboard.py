"""The Grafana dashboard is sound as a file; whether its queries find something is for the tests with a Prometheus."""

import json
from itertools import combinations
from typing import Any

import pytest

from tests.integration.dashboard_queries import DASHBOARD, queries

BOARD: dict[str, Any] = json.loads(DASHBOARD.read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
VARIABLE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24


def overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def test_ids_and_titles_are_unique() -> None:
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)


def test_no_panel_lies_on_another() -> None:
    assert not [
        (one["title"], other["title"])
        for one, other in combinations(PANELS, 2)
        if overlap(one["gridPos"], other["gridPos"])
    ]
    assert overlap({"x": 0, "y": 0, "w": 8, "h": 8}, {"x": 7, "y": 7, "w": 8, "h": 8})
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= WIDTH for panel in PANELS)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)
    assert all(target["legendFormat"] for target in panel["targets"])


def test_every_datasource_is_the_variable() -> None:
    def datasources(node: Any) -> list[Any]:
        if isinstance(node, dict):
            own = [node["datasource"]] if "datasource" in node else []
            return own + [found for inner in node.values() for found in datasources(inner)]
        return [found for inner in node for found in datasources(inner)] if isinstance(node, list) else []

    found = datasources(BOARD)
    assert len(found) > len(PANELS)
    assert all(source == VARIABLE for source in found)
    assert [one["name"] for one in BOARD["templating"]["list"] if one["type"] == "datasource"] == ["datasource"]


def test_no_query_is_of_one_platform() -> None:
    """What differs between Kubernetes and one machine is in the recording rules."""
    for query in queries("mlops", "1m"):
        for name in ("container_", "kube_", "process_", "up{", "instance", "pod"):
            assert name not in query.expr, query


def test_all_queries_are_found() -> None:
    found = queries("mlops", "1m")
    assert len(found) == sum(len(panel["targets"]) for panel in PANELS) + len(BOARD["annotations"]["list"])
    assert len({str(query) for query in found}) == len(found)
    assert not [query for query in found if "$" in query.expr]
