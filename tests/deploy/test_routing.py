"""Who is told of which alert, and that nothing can swallow the admin's page: judged by amtool."""

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.admin_cases import ADMIN

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy/alertmanager/alertmanager.yaml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text())
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "deploy/rules/alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
}


def run(program: str, *arguments: str) -> str:
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def receivers(amtool: str, **labels: str) -> str:
    """All receivers of an alert with these labels, with commas between."""
    pairs = [f"{name}={value}" for name, value in labels.items()]
    return run(amtool, "config", "routes", "test", f"--config.file={FILE}", *pairs).strip()


def test_amtool_accepts(amtool: str) -> None:
    assert "SUCCESS" in run(amtool, "check-config", str(FILE))


@pytest.mark.parametrize("name", sorted(ALERTS))
@pytest.mark.parametrize("more", [{}, {"namespace": "mlops"}, {"drill": "true"}], ids=["plain", "namespace", "drill"])
def test_one_receiver(name: str, more: dict[str, str], amtool: str) -> None:
    expected = {ADMIN: "admin", "Watchdog": "heartbeat"}.get(name, "team")
    fixed = {label: value for label, value in ALERTS[name]["labels"].items() if "{{" not in value}
    assert receivers(amtool, alertname=name, **fixed | more) == expected


def test_the_name_alone_leads_to_the_admin(amtool: str) -> None:
    """Whatever else stands on the alert, and for an admin's alert that nobody has written yet."""
    for severity, team in itertools.product(("critical", "warning", "none"), ("admin", "team")):
        assert receivers(amtool, alertname=ADMIN, severity=severity, team=team) == "admin"
    assert receivers(amtool, alertname="AdminNotification_Another") == "admin"


def test_nobody_else_reaches_the_admin(amtool: str) -> None:
    """Labels that look like it do not count, nor does a name that only holds it."""
    for name in ("ModelApiHighCPU", "NoAdminNotification", "adminnotification"):
        assert receivers(amtool, alertname=name, severity="critical", team="admin") == "team"


def test_the_admin_has_a_group_of_his_own() -> None:
    """First of all routes, its own times, nothing muted; one page a namespace, however many pods there are."""
    first = dict(CONFIG["route"]["routes"][0])
    assert first.pop("matchers") == ['alertname =~ "AdminNotification.*"']
    assert first == {
        "receiver": "admin",
        "group_by": ["alertname", "namespace"],
        "group_wait": "10s",
        "group_interval": "1m",
        "repeat_interval": "4h",
    }


def test_the_admin_gets_mail_and_webhook_also_when_it_is_over() -> None:
    admin = next(receiver for receiver in CONFIG["receivers"] if receiver["name"] == "admin")
    assert set(admin) == {"name", "email_configs", "webhook_configs"}
    inbox = next(
        one
        for one in yaml.safe_load_all((ROOT / "deploy/inbox/inbox.yaml").read_text())
        if one["kind"] == "Service" and one["metadata"]["name"] == "inbox"
    )
    ports = {each["name"]: each["port"] for each in inbox["spec"]["ports"]}
    assert admin["email_configs"][-1]["smarthost"] == f"inbox.mlops:{ports['smtp']}", "the copy that the drill asks for"
    assert admin["webhook_configs"][-1]["url"] == f"http://inbox.mlops:{ports['http']}/webhook/admin"
    assert all(way["send_resolved"] for kind in ("email_configs", "webhook_configs") for way in admin[kind])


def matches(matcher: str, labels: dict[str, str]) -> bool:
    """As Alertmanager: a missing label is empty, a regular expression must match the whole value."""
    found = re.fullmatch(r'(\w+)\s*(=~|!~|!=|=)\s*"(.*)"', matcher)
    assert found, f'write the matcher as name = "value": {matcher}'
    name, operator, wanted = found.groups()
    value = labels.get(name, "")
    same = bool(re.fullmatch(wanted, value)) if "~" in operator else value == wanted
    return same != operator.startswith("!")


@pytest.mark.parametrize("rule", CONFIG["inhibit_rules"], ids=str)
def test_no_inhibition_can_reach_the_admins_alert(rule: dict[str, Any]) -> None:
    """By its name alone, so whatever other labels it has: a matcher on `alertname` must refuse it."""
    assert set(rule) <= {"source_matchers", "target_matchers", "equal"}
    for name in (ADMIN, "AdminNotification", "AdminNotification_Another"):
        by_name = [matcher for matcher in rule["target_matchers"] if matcher.startswith("alertname")]
        assert not all(matches(matcher, {"alertname": name}) for matcher in by_name)


SUBJECTS: dict[str, tuple[str, list[dict[str, str]], str]] = {
    "fires": ("firing", [{}], "[FIRING] {name} 00c0ffee00c0ffee 2026-11-21T08:00:01.250Z"),
    "resolved": ("resolved", [{}], "[RESOLVED] {name} 00c0ffee00c0ffee 2026-11-21T08:00:01.250Z"),
    "drill": ("firing", [{"drill": "true"}], "[DRILL] [FIRING] {name} 00c0ffee00c0ffee 2026-11-21T08:00:01.250Z"),
    "no drill": ("firing", [{"drill": "false"}], "[FIRING] {name} 00c0ffee00c0ffee 2026-11-21T08:00:01.250Z"),
    "a drill and the real thing": (
        "firing",
        [{"drill": "true"}, {}],
        "[FIRING] {name} 00c0ffee00c0ffee 2026-11-21T08:00:01.250Z 00c0ffee00c0ffee 2026-11-21T08:00:01.250Z",
    ),
}


@pytest.mark.parametrize("case", SUBJECTS)
def test_subject_of_the_mail(case: str, amtool: str, tmp_path: Path) -> None:
    """As Alertmanager writes it, from the data of a notification."""
    status, alerts, expected = SUBJECTS[case]
    common = dict(set.intersection(*[set(labels.items()) for labels in alerts]))
    data = tmp_path / "notification.json"
    data.write_text(
        json.dumps(
            {
                "status": status,
                "groupLabels": {"alertname": ADMIN, "namespace": "mlops"},
                "commonLabels": common,
                "alerts": [
                    {"labels": labels, "fingerprint": "00c0ffee00c0ffee", "startsAt": "2026-11-21T08:00:01.25Z"}
                    for labels in alerts
                ],
            }
        )
    )
    (tmp_path / "none.tmpl").touch()
    for receiver in CONFIG["receivers"]:
        for mail in receiver.get("email_configs", []):
            subject = mail["headers"]["Subject"]
            told = run(
                amtool, "template", "render",
                f"--template.glob={tmp_path}/*.tmpl", f"--template.text={subject}", f"--template.data={data}",
            )  # fmt: skip
            assert told.strip() == expected.format(name=ADMIN)
