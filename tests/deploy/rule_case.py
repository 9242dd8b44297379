"""What a rule sees, scrape by scrape, and what it must make of it: written for `promtool test rules`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

RULES = Path(__file__).parents[2] / "deploy/rules"
SCRAPE = 15  # seconds between two samples, and between two evaluations
MINUTE = 60 // SCRAPE  # samples
FIRING, PENDING, QUIET = "firing", "pending", None
Samples = Sequence[float | None]  # None: the scrape failed


def hold(value: float, minutes: float) -> list[float]:
    """The same value for so long."""
    return [value] * round(minutes * MINUTE)


def counter(rate: Sequence[float]) -> list[float]:
    """A counter that has counted for long; `rate` is its growth a second, for each time between two samples."""
    return list(accumulate((each * SCRAPE for each in rate), initial=1e6))  # rate() treats counters near 0 otherwise


def gap(samples: Samples, first: float, scrapes: int) -> list[float | None]:
    """The same samples without those of some scrapes, from minute `first` on."""
    start = round(first * MINUTE)
    return [None if start <= index < start + scrapes else value for index, value in enumerate(samples)]


@dataclass(frozen=True)
class Case:
    """Series (or none) and the state of one alert at some moments, in minutes from the first sample."""

    name: str
    alert: str
    series: Mapping[str, Samples]
    states: Mapping[float, str | None]
    rules: tuple[str, ...] = ("alerts.yaml",)

    def document(self) -> dict[str, Any]:
        """The file for promtool."""
        document = unit_test(self.rules, self.series)
        document["tests"][0]["promql_expr_test"] = [
            {
                "expr": f'count by (alertstate) (ALERTS{{alertname="{self.alert}"}})',
                "eval_time": f"{round(minute * 60)}s",
                "exp_samples": [{"labels": f'{{alertstate="{state}"}}', "value": 1}] if state else [],
            }
            for minute, state in self.states.items()
        ]
        return document


def unit_test(rules: Sequence[str], series: Mapping[str, Samples]) -> dict[str, Any]:
    """A test file with these series and no expectation yet."""
    return {
        "rule_files": [str(RULES / name) for name in rules],
        "evaluation_interval": f"{SCRAPE}s",
        # Recording rules first: an alert then sees what was recorded at the same moment.
        "group_eval_order": ["model-api-recording", "model-api", "streaming", "backup", "airflow", "heartbeat"][
            0 if len(rules) > 1 else 1 :
        ],
        "tests": [
            {
                "interval": f"{SCRAPE}s",
                "input_series": [
                    {"series": name, "values": " ".join("_" if value is None else repr(value) for value in samples)}
                    for name, samples in series.items()
                ],
            }
        ],
    }
