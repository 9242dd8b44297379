"""What the drill tells the other programs: metrics of its own, in the Pushgateway."""

import base64
from collections.abc import Mapping

import httpx

from include.alerting.web import ask, good

JOB = "alert_drill"
UNTIL = "alert_drill_until_timestamp_seconds"
OVER = "alert_drill_over"


class Pushgateway:
    """A client. Every method raises Away when the server cannot answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")

    def push(self, job: str, key: Mapping[str, str], metrics: Mapping[str, float]) -> None:
        """Set these gauges in the group; others in it stay."""
        body = "".join(f"# TYPE {name} gauge\n{name} {value!r}\n" for name, value in metrics.items())
        good("the Pushgateway", self._ask("POST", job, key, content=body))

    def forget(self, job: str, key: Mapping[str, str]) -> None:
        """Delete the group; one that is not there is fine."""
        good("the Pushgateway", self._ask("DELETE", job, key))

    def _ask(self, method: str, job: str, key: Mapping[str, str], content: str = "") -> httpx.Response:
        path = "".join(f"/{name}@base64/{encoded(value)}" for name, value in key.items())
        url = f"{self.url}/metrics/job/{job}{path}"
        return ask("the Pushgateway", "MLOPS_PUSHGATEWAY_URL", method, url, content=content)


def encoded(value: str) -> str:
    """A run's id may hold what an address may not."""
    return base64.urlsafe_b64encode(value.encode()).decode().rstrip("=")
