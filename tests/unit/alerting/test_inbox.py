"""The inbox alone: what it understands, keeps and forgets."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from include.alerting.inbox import Mailbox
from include.alerting.message import Message, from_mail, from_webhook

NAME = "AdminNotification_MaxScaleHighCPU"
FINGERPRINT, START = "00c0ffee00c0ffee", "2026-11-21T08:00:01.250Z"


def mail(subject: str) -> Message:
    return from_mail(f"Subject: {subject}\r\n\r\ntext\r\n".encode(), ["admin@example.org"], 5.0)


def webhook(**changed: Any) -> dict[str, Any]:
    alert = {"fingerprint": FINGERPRINT, "startsAt": "2026-11-21T08:00:01.250123456Z", "status": "firing"}
    told = {
        "version": "4",
        "status": "firing",
        "receiver": "admin",
        "groupLabels": {"alertname": NAME},
        "commonLabels": {"alertname": NAME, "drill": "true"},
        "alerts": [alert],
    }
    return told | changed


@pytest.mark.parametrize(
    ("subject", "status", "drill", "alerts"),
    [
        (f"[DRILL] [FIRING] {NAME} {FINGERPRINT} {START}", "firing", True, 1),
        (f"[FIRING] {NAME} {FINGERPRINT} {START}", "firing", False, 1),
        (f"[DRILL] [RESOLVED] {NAME} {FINGERPRINT} {START}", "resolved", True, 1),
        (f"[FIRING] {NAME} {FINGERPRINT} {START} 1111111111111111 {START}", "firing", False, 2),
        (f"[DRILL] [FIRING]\r\n {NAME}\r\n {FINGERPRINT}\r\n {START}", "firing", True, 1),  # folded on its way
    ],
)
def test_subject_of_a_mail(subject: str, status: str, drill: bool, alerts: int) -> None:
    found = mail(subject)
    assert (found.status, found.drill, found.alertname) == (status, drill, NAME)
    assert [one.fingerprint for one in found.alerts][:1] == [FINGERPRINT]
    assert {one.starts_at for one in found.alerts} == {START}
    assert len(found.alerts) == alerts


@pytest.mark.parametrize("subject", ["Hello", "", f"Re: [FIRING] {NAME} {FINGERPRINT} {START}", f"[FIRING] {NAME} x y"])
def test_another_mail_is_kept_but_is_no_alert(subject: str) -> None:
    found = mail(subject)
    assert (found.subject, found.alertname, found.alerts) == (subject, "", [])


def test_webhook() -> None:
    found = from_webhook(json.dumps(webhook()).encode(), 5.0)
    assert (found.channel, found.alertname, found.receiver, found.drill) == ("webhook", NAME, "admin", True)
    assert found.alerts[0].fingerprint == FINGERPRINT


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"nonsense", json.dumps(webhook(alerts=[{}])).encode()])
def test_what_is_no_notification_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_webhook(body, 5.0)


def test_messages_survive_a_restart(tmp_path: Path) -> None:
    now = time.time()
    first = Mailbox(tmp_path, days=1)
    for moment in (now - 2, now - 1, now):
        first.put(mail("Hello").model_copy(update={"received_at": moment}))
    (tmp_path / "damaged.json").write_text("{")
    again = Mailbox(tmp_path, days=1)
    assert [one.received_at for one in again.since(now - 1)] == [now - 1, now]


def test_old_messages_are_deleted(tmp_path: Path) -> None:
    box = Mailbox(tmp_path, days=1)
    now = time.time()
    box.put(mail("old").model_copy(update={"received_at": now - 2 * 86_400}))
    box.put(mail("new").model_copy(update={"received_at": now}))
    assert [one.subject for one in box.since(0)] == ["new"]
    assert len(list(tmp_path.glob("*.json"))) == 1


def test_a_message_that_cannot_be_written_is_not_confirmed(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "box", days=1)
    (tmp_path / "box").rmdir()
    with pytest.raises(OSError, match="No such file"):
        box.put(mail("Hello"))
    assert box.since(0) == []
