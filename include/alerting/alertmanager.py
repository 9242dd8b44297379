"""What the drill asks Alertmanager."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

from include.alerting.message import MAIL, WEBHOOK
from include.alerting.routing import Labels, Matcher
from include.alerting.web import ask, good

FAILED = "alertmanager_notifications_failed_total"
SENT = "alertmanager_notifications_total"
GROUPS = "alertmanager_dispatcher_aggregation_groups"
INTEGRATION = {MAIL: "email", WEBHOOK: "webhook"}


@dataclass(frozen=True)
class Channel:
    """One way by which a receiver is told. `kind` is mail, webhook, or the name of the configuration's list."""

    kind: str
    to: str
    send_resolved: bool
    smarthost: str = ""
    sender: str = ""


@dataclass(frozen=True)
class Silence:
    """A silence that is or will be in force."""

    id: str
    state: str
    starts_at: str
    by: str
    comment: str
    matchers: list[Matcher]

    def matches(self, labels: Labels) -> bool:
        """Whether it swallows an alert with these labels."""
        return all(matcher.holds(labels) for matcher in self.matchers)


class Alertmanager:
    """A client. Every method raises Away when the server cannot answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def config(self) -> dict[str, Any]:
        """The configuration that is running, passwords hidden."""
        return yaml.safe_load(self._get("status").json()["config"]["original"]) or {}

    def alerts(self, name: str | None = None) -> list[dict[str, Any]]:
        """Alerts it has and that are not over, suppressed ones too."""
        return self._get("alerts", {"filter": f'alertname="{name}"'} if name else None).json()

    def groups(self) -> list[dict[str, Any]]:
        """Its groups that hold an alert which is not over."""
        return self._get("alerts/groups").json()

    def silences(self) -> list[Silence]:
        """Those that are in force or will be."""
        return [
            Silence(
                id=one["id"],
                state=one["status"]["state"],
                starts_at=one["startsAt"],
                by=one["createdBy"],
                comment=one["comment"],
                matchers=[
                    Matcher(each["name"], each["value"], each["isRegex"], each.get("isEqual", True))
                    for each in one["matchers"]
                ],
            )
            for one in self._get("silences").json()
            if one["status"]["state"] != "expired"
        ]

    def post(self, labels: Labels, annotations: Labels, starts: float, ends: float) -> None:
        """Tell it of an alert, as Prometheus would; with an end that is past, that it is over."""
        told = {"labels": dict(labels), "annotations": dict(annotations), "startsAt": _moment(starts)}
        good("Alertmanager", self._ask("POST", "/api/v2/alerts", json=[told | {"endsAt": _moment(ends)}]))

    def counts(self) -> dict[str, float]:
        """Notifications so far by integration, and groups: the keys are `sent email`, `failed webhook`, `groups`."""
        found: dict[str, float] = {}
        text = good("Alertmanager", self._ask("GET", "/metrics")).text
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name in (FAILED, SENT):
                    # Newer versions split failures by reason.
                    key = f"{'failed' if sample.name == FAILED else 'sent'} {sample.labels['integration']}"
                    found[key] = found.get(key, 0) + sample.value
                elif sample.name == GROUPS:
                    found["groups"] = sample.value
        return found

    def _get(self, path: str, asked: dict[str, str] | None = None) -> Any:
        return good("Alertmanager", self._ask("GET", f"/api/v2/{path}", params=asked))

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        return ask("Alertmanager", "MLOPS_ALERTMANAGER_URL", method, f"{self.url}{path}", **more)


def channels(config: Mapping[str, Any], receiver: str) -> list[Channel]:
    """How a receiver is told; empty when there is no such receiver or it has no way."""
    found: dict[str, Any] = next((one for one in config.get("receivers") or [] if one["name"] == receiver), {})
    ways = []
    for key, entries in found.items():
        if not key.endswith("_configs"):
            continue
        integration = key.removesuffix("_configs")
        kind = next((kind for kind, name in INTEGRATION.items() if name == integration), integration)
        resolved = kind == WEBHOOK  # Alertmanager's default: a webhook tells the end, a mail does not
        ways += [
            Channel(
                kind=kind,
                to=str(entry.get("to") or entry.get("url") or ""),
                send_resolved=bool(entry.get("send_resolved", resolved)),
                smarthost=str(entry.get("smarthost") or (config.get("global") or {}).get("smtp_smarthost") or ""),
                sender=str(entry.get("from") or (config.get("global") or {}).get("smtp_from") or ""),
            )
            for entry in entries or []
        ]
    return ways


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
