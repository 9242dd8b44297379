"""What the drill asks Prometheus."""

import re
from dataclasses import dataclass
from typing import Any

import yaml

from include.alerting.web import Away, ask, good

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
GROUPING = re.compile(r"\b(on|ignoring|by|without|group_left|group_right)\s*\([^)]*\)")
NOT_METRICS = {"and", "or", "unless", "bool", "offset", "inf", "nan", "group_left", "group_right"}
DURATION = re.compile(r"(\d+)(ms|[smhdwy])")


@dataclass(frozen=True)
class Sample:
    """One series at one moment."""

    labels: dict[str, str]
    value: float
    at: float


@dataclass(frozen=True)
class Series:
    """One series over time."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Rule:
    """A loaded rule with the state that its last evaluation left. `hold` is its `for`, in seconds."""

    name: str
    query: str
    group: str
    interval: float
    hold: float
    labels: dict[str, str]
    health: str
    error: str
    state: str
    alerts: list[dict[str, Any]]
    recording: bool


@dataclass(frozen=True)
class Target:
    """Something that is scraped."""

    job: str
    url: str
    up: bool
    error: str
    interval: float


class Prometheus:
    """A client. Every method raises Away when the server cannot answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def ready(self) -> None:
        """Raises Away unless it serves."""
        good("Prometheus", self._ask("/-/ready"))

    def query(self, expression: str, at: float | None = None) -> list[Sample]:
        """The expression's series now, or at a moment."""
        found = self._api("query", {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"}))
        if found["resultType"] == "scalar":
            return [Sample({}, float(found["result"][1]), found["result"][0])]
        return [Sample(one["metric"], float(one["value"][1]), one["value"][0]) for one in found["result"]]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """The expression's series over a time."""
        asked = {"query": expression, "start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        found = self._api("query_range", asked)["result"]
        return [Series(one["metric"], [(at, float(value)) for at, value in one["values"]]) for one in found]

    def rules(self) -> list[Rule]:
        """All rules that are loaded."""
        return [
            Rule(
                name=rule["name"],
                query=rule["query"],
                group=group["name"],
                interval=float(group["interval"]),
                hold=float(rule.get("duration", 0)),
                labels=rule.get("labels") or {},
                health=rule["health"],
                error=rule.get("lastError", ""),
                state=rule.get("state", ""),
                alerts=rule.get("alerts") or [],
                recording=rule["type"] == "recording",
            )
            for group in self._api("rules")["groups"]
            for rule in group["rules"]
        ]

    def rule(self, name: str) -> Rule | None:
        """The alerting rule of that name, or None when it is not loaded."""
        return next((rule for rule in self.rules() if rule.name == name and not rule.recording), None)

    def targets(self, job: str) -> list[Target]:
        """The targets of a job."""
        return [
            Target(
                job,
                one["scrapeUrl"],
                one["health"] == "up",
                one.get("lastError", ""),
                seconds(one.get("scrapeInterval", "")),
            )
            for one in self._api("targets", {"state": "active"})["activeTargets"]
            if one["labels"].get("job") == job
        ]

    def alertmanagers(self) -> list[str]:
        """Where its alerts are sent to."""
        return [one["url"] for one in self._api("alertmanagers")["activeAlertmanagers"]]

    def config(self) -> dict[str, Any]:
        """The configuration that is running."""
        return yaml.safe_load(self._api("status/config")["yaml"]) or {}

    def _api(self, path: str, asked: dict[str, str] | None = None) -> Any:
        answer = self._ask(f"/api/v1/{path}", asked)
        try:
            told = answer.json()
        except ValueError:
            told = {}
        if told.get("status") != "success":
            said = told.get("error") or answer.text[:300].strip()
            raise Away(f"Prometheus answered {answer.status_code} to {answer.request.url}: {said}")
        return told["data"]

    def _ask(self, path: str, asked: dict[str, str] | None = None) -> Any:
        return ask("Prometheus", "MLOPS_PROMETHEUS_URL", "GET", f"{self.url}{path}", params=asked)


def seconds(duration: str) -> float:
    """Seconds of a duration as Prometheus and Alertmanager write it (1h30m); 0 of an empty one."""
    return float(sum(int(number) * UNITS[unit] for number, unit in DURATION.findall(duration)))


def windows(expression: str) -> list[float]:
    """The windows of an expression, in seconds: 60 of `rate(x[1m])`."""
    return [seconds(found) for found in re.findall(r"\[([0-9a-z]+)(?::[0-9a-z]*)?\]", expression)]


def metrics_of(expression: str) -> list[str]:
    """Names of the metrics that an expression reads."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^]]*\]', " ", expression)
    bare = GROUPING.sub(" ", bare)
    found = re.findall(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])", bare)
    return sorted({name for name in found if name.lower() not in NOT_METRICS})
