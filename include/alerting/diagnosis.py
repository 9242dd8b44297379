"""Why a channel did not deliver: Alertmanager only counts failures, so the channel itself is asked.

A probe says DRILL and is sent only after a delivery is known to be missing.
"""

import smtplib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.message import EmailMessage
from typing import Protocol

import httpx

from include.alerting.alertmanager import INTEGRATION, Alertmanager
from include.alerting.message import MAIL, WEBHOOK
from include.alerting.web import Away

PROBE = "AdminNotification_DrillProbe"
PATIENCE = 5.0


class Way(Protocol):
    """What a probe must know of a channel."""

    @property
    def kind(self) -> str: ...
    @property
    def to(self) -> str: ...
    @property
    def smarthost(self) -> str: ...
    @property
    def sender(self) -> str: ...


def why_not_delivered(
    ways: Sequence[Way], missing: list[str], before: Mapping[str, float], alertmanager: Alertmanager
) -> tuple[str, list[str]]:
    """The cause of the first missing channel, and what was found of each."""
    try:
        now = alertmanager.counts()
    except Away as error:
        return "alertmanager_down", [str(error)]
    causes, evidence = [], []
    for kind in missing:
        integration = INTEGRATION[kind]
        failed, sent = (_grown(f"{what} {integration}", before, now) for what in ("failed", "sent"))
        evidence.append(f"Alertmanager counts {sent:.0f} notifications by {integration} since, {failed:.0f} failed")
        for way in ways:
            if way.kind == kind:
                cause, said = probe(way)
                causes.append(cause)
                evidence.append(said)
    return next(iter(causes), "no_channel"), evidence


def _grown(key: str, before: Mapping[str, float], now: Mapping[str, float]) -> float:
    """Smaller than before: it was restarted and counts anew."""
    grown = now.get(key, 0) - before.get(key, 0)
    return grown if grown >= 0 else now.get(key, 0)


def probe(way: Way) -> tuple[str, str]:
    """Cause and sentence. A way that works now is a cause of its own: something between lost the message."""
    try:
        return _probe_mail(way) if way.kind == MAIL else _probe_webhook(way)
    except OSError as error:
        where = way.smarthost if way.kind == MAIL else way.to
        what = "connection_refused" if isinstance(error, ConnectionRefusedError) else "unreachable"
        return f"{way.kind}_{what}", f"a probe of {where} found: {error}"


def _probe_mail(way: Way) -> tuple[str, str]:
    host, _, port = way.smarthost.rpartition(":")
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = f"[DRILL] [RESOLVED] {PROBE}", way.sender, way.to
    mail.set_content("A drill missed a mail and tries the mail server. Nothing is wrong with the service.")
    try:
        with smtplib.SMTP(host, int(port), timeout=PATIENCE) as server:
            server.send_message(mail)
    except smtplib.SMTPRecipientsRefused as error:
        code, said = next(iter(error.recipients.values()))
        return f"mail_refused_{code}", f"{way.smarthost} answers {code} to a recipient: {_text(said)}"
    except smtplib.SMTPResponseException as error:
        code = error.smtp_code
        return f"mail_refused_{code}", f"{way.smarthost} answers a mail with {code}: {_text(error.smtp_error)}"
    except smtplib.SMTPException as error:
        return "mail_refused", f"{way.smarthost} takes no mail: {error}"
    return "mail_lost", f"{way.smarthost} takes a mail now: the notification was lost behind it, or is still on its way"


def _probe_webhook(way: Way) -> tuple[str, str]:
    if not way.to.startswith("http"):
        return "webhook_lost", "the webhook's address is a secret, so it was not probed"
    now = datetime.now(UTC).isoformat()
    labels = {"alertname": PROBE, "drill": "true"}
    alert = {"status": "resolved", "labels": labels, "annotations": {}, "startsAt": now, "endsAt": now}
    body = {
        "version": "4",
        "status": "resolved",
        "receiver": "probe",
        "groupLabels": {"alertname": PROBE},
        "commonLabels": labels,
        "alerts": [alert | {"fingerprint": "0" * 16}],
    }
    try:
        answer = httpx.post(way.to, json=body, timeout=PATIENCE, trust_env=False)
    except httpx.ConnectError as error:
        return f"{WEBHOOK}_connection_refused", f"a probe of {way.to} found: {error}"
    except httpx.HTTPError as error:
        return f"{WEBHOOK}_unreachable", f"a probe of {way.to} found: {type(error).__name__} {error}"
    if answer.is_success:
        return "webhook_lost", f"{way.to} takes a notification now: it was lost behind it, or is still on its way"
    return f"webhook_{answer.status_code}", f"{way.to} answers a notification with {answer.status_code}"


def _text(said: bytes | str) -> str:
    return said.decode(errors="replace") if isinstance(said, bytes) else said
