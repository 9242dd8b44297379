"""What the inbox keeps: one notification, as a mail or a webhook told it."""

import email
import email.policy
import json
import re
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

MAIL, WEBHOOK = "mail", "webhook"
# As deploy/alertmanager writes it: [DRILL] [FIRING] name fingerprint start fingerprint start …
SUBJECT = re.compile(r"(?P<drill>\[DRILL\] )?\[(?P<status>[A-Z]+)\] (?P<name>\S+)(?P<alerts>( [0-9a-f]{16} \S+)*)")
ONE_ALERT = re.compile(r"([0-9a-f]{16}) (\S+)")


class Told(BaseModel):
    """One alert of a notification. A mail does not say the status of each: all have that of the mail."""

    model_config = ConfigDict(frozen=True)

    fingerprint: str
    starts_at: str
    status: str


class Message(BaseModel):
    """One notification that arrived. What the mail did not say is empty."""

    model_config = ConfigDict(frozen=True)

    channel: Literal["mail", "webhook"]
    received_at: float
    status: str
    alertname: str
    drill: bool
    receiver: str
    alerts: list[Told]
    subject: str = ""


def from_mail(content: bytes, recipients: list[str], received_at: float) -> Message:
    """A mail of Alertmanager, by its subject; another mail is kept too, with nothing but its subject."""
    mail = email.message_from_bytes(content, policy=email.policy.default)
    subject = " ".join(str(mail["Subject"] or "").split())
    found = SUBJECT.fullmatch(subject)
    status = found["status"].lower() if found else ""
    alerts = ONE_ALERT.findall(found["alerts"]) if found else []
    return Message(
        channel=MAIL,
        received_at=received_at,
        status=status,
        alertname=found["name"] if found else "",
        drill=bool(found and found["drill"]),
        receiver=", ".join(recipients),
        alerts=[Told(fingerprint=one, starts_at=start, status=status) for one, start in alerts],
        subject=subject,
    )


def from_webhook(body: bytes, received_at: float) -> Message:
    """Alertmanager's JSON, version 4. Raises ValueError for anything else."""
    try:
        told: dict[str, Any] = json.loads(body)
        labels = told["commonLabels"]
        return Message(
            channel=WEBHOOK,
            received_at=received_at,
            status=told["status"],
            alertname=told["groupLabels"].get("alertname") or labels.get("alertname", ""),
            drill=labels.get("drill") == "true",
            receiver=told["receiver"],
            alerts=[
                Told(fingerprint=one["fingerprint"], starts_at=one["startsAt"], status=one["status"])
                for one in told["alerts"]
            ],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a notification of Alertmanager, version 4: {type(error).__name__} {error}") from error


def unix(moment: str) -> float:
    """Seconds of an RFC 3339 moment; digits beyond microseconds are dropped."""
    return datetime.fromisoformat(moment).timestamp()
