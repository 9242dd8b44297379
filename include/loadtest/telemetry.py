"""What is told while an attack runs: metrics for the Pushgateway, and a line about the progress."""

import logging
import sys
import time

import numpy as np
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.exposition import push_to_gateway

from include.loadtest.ledger import Ledger, Said
from include.loadtest.matcher import Matcher
from include.loadtest.schedule import stage_name

log = logging.getLogger("attack")

JOB = "attack"
PUSH_SECONDS = 2.0  # so long a push may take
SAY_EVERY = 5.0
QUANTILES = (0.5, 0.95, 0.99, 1.0)
KINDS = ("stage", "surge")


class Telemetry:
    """Reads the ledger, disturbs nobody: it lives in the observer's process. A Pushgateway that is away is no error."""

    def __init__(self, gateway: str, run: str, ledger: Ledger, matcher: Matcher) -> None:
        self._gateway, self._run, self._ledger, self._matcher = gateway, run, ledger, matcher
        self._told = 0  # messages whose lateness was told
        self._line_at = 0.0
        self._gateway_works = True

    def tell(self, running: bool) -> None:
        """Push the metrics, and say the line when it is time."""
        said = self._ledger.said
        sent = int(said[Said.SENT])
        registry = CollectorRegistry()
        totals = {
            "sent": (sent, "Messages handed to the client"),
            "acked": (int(said[Said.ACKED]), "Messages that the broker acknowledged"),
            "failed": (int(said[Said.FAILED]), "Messages that the broker did not take"),
            "predicted": (self._matcher.predicted, "Messages with a prediction"),
            "dead_lettered": (self._matcher.dead_lettered, "Messages that could not be scored"),
            "duplicates": (self._matcher.duplicates, "Answers to messages that had one"),
        }
        for name, (value, help_text) in totals.items():
            Gauge(f"attack_{name}_total", help_text, registry=registry).set(value)
        rate = said[Said.STAGE_RATE] / 1000
        Gauge("attack_target_rate", "Messages a second that are due", registry=registry).set(rate if running else 0)
        Gauge("attack_running", "1 while messages are sent", registry=registry).set(int(running))
        stage = Gauge("attack_stage_info", "The stage that is held", ["stage", "kind"], registry=registry)
        if running:
            stage.labels(stage_name(rate, said[Said.STAGE_END_RATE] / 1000), KINDS[said[Said.STAGE_KIND]]).set(1)
        else:
            Gauge("attack_ended_timestamp_seconds", "When the last message was sent", registry=registry).set(
                self._ledger.sent[:sent].max(initial=0) / 1e9
            )
        lateness = (self._ledger.sent[self._told : sent] - self._ledger.due[self._told : sent]) / 1e9
        self._told = sent
        end_to_end, self._matcher.end_to_end = self._matcher.end_to_end, []
        _quantiles(registry, "attack_lateness_seconds", "Send call minus due time, since the last push", lateness)
        _quantiles(registry, "attack_end_to_end_seconds", "Prediction minus due time, since the last push", end_to_end)
        self._push(registry)
        self._say(sent, rate, running)

    def _push(self, registry: CollectorRegistry) -> None:
        try:
            push_to_gateway(self._gateway, JOB, registry, grouping_key={"run": self._run}, timeout=PUSH_SECONDS)
        except OSError as error:
            if self._gateway_works:
                log.warning("no metrics: the Pushgateway at %s does not answer: %s", self._gateway, error)
            self._gateway_works = False
        else:
            self._gateway_works = True

    def _say(self, sent: int, rate: float, running: bool) -> None:
        said = self._ledger.said
        what = f"{rate:,.0f} a second" if running else "no more are sent"
        line = (
            f"{what}; {sent:,} sent, {said[Said.ACKED]:,} acked, {said[Said.FAILED]:,} failed, "
            f"{self._matcher.predicted:,} predicted, {self._matcher.dead_lettered:,} dead letters"
        )
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}" + ("" if running else "\n"))
            sys.stderr.flush()
        elif time.monotonic() >= self._line_at:
            self._line_at = time.monotonic() + SAY_EVERY
            log.info("%s", line)


def _quantiles(registry: CollectorRegistry, name: str, help_text: str, values: object) -> None:
    known = np.asarray(values, dtype=float)
    gauge = Gauge(name, help_text, ["quantile"], registry=registry)
    for quantile in QUANTILES if known.size else ():
        gauge.labels(f"{quantile:g}").set(float(np.quantile(known, quantile)))
