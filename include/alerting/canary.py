"""Does the way from Alertmanager to the inbox work at all? An alert of our own is sent along it."""

import logging
import time

from include.alerting.alertmanager import Alertmanager
from include.alerting.diagnosis import why_not_delivered
from include.alerting.plan import PlannedAlert, Timing
from include.alerting.receipts import messages
from include.alerting.trouble import Broken

log = logging.getLogger(__name__)

NAME = "AdminNotification_DrillCanary"  # of the admin's route by its name, and of a group of its own
LOOK_SECONDS = 0.5


def fly(alertmanager: Alertmanager, inbox: str, alert: PlannedAlert, timing: Timing, drill: str) -> dict[str, float]:
    """Seconds until it arrived, by channel. Raises Broken with the channel that it did not arrive by."""
    began = time.time()
    # Alertmanager tells an alert once in hours; that of a try before may still be there, so this is another one.
    flight = f"{drill} {began:.0f}"
    labels = {**alert.labels, "alertname": NAME, "drill": "true", "flight": flight}
    told = {"summary": "A drill tries the way to the admin", "description": f"Drill {drill}. Nothing is wrong."}
    # Its group may still be open from the drill before.
    patience = max(timing.group_wait, timing.group_interval) + timing.delivery_allowance
    before = alertmanager.counts()
    alertmanager.post(labels, told, began, began + patience + 60)
    fingerprint = _fingerprint(alertmanager, flight)
    arrived: dict[str, float] = {}
    while len(arrived) < len(alert.proved()) and time.time() < began + patience:
        time.sleep(LOOK_SECONDS)
        for message in messages(inbox, began):
            if any(one.fingerprint == fingerprint for one in message.alerts):
                arrived.setdefault(message.channel, round(message.received_at - began, 3))
    missing = [kind for kind in alert.proved() if kind not in arrived]
    if missing:
        cause, evidence = why_not_delivered(alert.channels, missing, before, alertmanager)
        waited = f"the canary {NAME} did not arrive by {' and '.join(missing)} within {patience:g} s"
        raise Broken("NOT_DELIVERED", cause, [waited, *evidence])
    alertmanager.post(labels, told, began, time.time())
    log.info("the canary arrived: %s", ", ".join(f"{kind} after {took:.1f} s" for kind, took in arrived.items()))
    return arrived


def _fingerprint(alertmanager: Alertmanager, flight: str) -> str:
    for alert in alertmanager.alerts(NAME):
        if alert["labels"].get("flight") == flight:
            return alert["fingerprint"]
    raise Broken("ALERTMANAGER_UNREACHED", "canary_not_taken", [f"Alertmanager took {NAME}, but does not list it"])
