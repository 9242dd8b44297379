"""Everything that can break the chain, each in its own way, before the preflight looks and after it."""

import time
from collections.abc import Callable

from tests.integration.alerting.chain import Chain, subject_of_an_earlier_drill
from tests.integration.alerting.relays import wait_until
from tests.integration.alerting.scenario import Load, Scenario

ADMIN = "AdminNotification_MaxScaleHighCPU"
LATE_SECONDS = 7.0  # group_wait is 1 s, the allowance 3 s; more than a drill of that pace waits for would be lost


def no_mail_server(chain: Chain) -> None:
    assert chain.mail
    chain.mail.close()


def mail_mode(mode: str) -> Callable[[Chain], None]:
    def break_it(chain: Chain) -> None:
        assert chain.mail
        chain.mail.mode, chain.mail.delay, chain.mail.other = mode, LATE_SECONDS, subject_of_an_earlier_drill()

    return break_it


def webhook_fails(chain: Chain) -> None:
    chain.webhook.status = 500


def another_receiver(chain: Chain) -> None:
    chain.alertmanager_config["route"]["routes"][0]["receiver"] = "team"
    chain.reload("alertmanager")


def silence(chain: Chain) -> None:
    chain.silence()


def inhibition(chain: Chain) -> None:
    rule = {"source_matchers": ['alertname="Maintenance"'], "target_matchers": ['severity="critical"']}
    chain.alertmanager_config["inhibit_rules"].append(rule)
    chain.reload("alertmanager")
    chain.post_alert(alertname="Maintenance")


def no_rules(chain: Chain) -> None:
    (chain.folder / "alerts.yaml").unlink()
    chain.reload("prometheus")


def wrong_metric(chain: Chain) -> None:
    chain.rules(**{"model_api:cpu_utilisation:max > 0.8 and": "model_api:cpu_utilization:max > 0.8 and"})
    chain.reload("prometheus")


def kill(name: str) -> Callable[[Chain], None]:
    return lambda chain: chain.kill(name)


def at_most_five(chain: Chain) -> None:
    chain.replicas.bound = 5
    wait_until("the bound is known", lambda: chain.query("kube_horizontalpodautoscaler_spec_max_replicas == 5"))


def backlog(chain: Chain) -> None:
    chain.replicas.backlog = 5000
    wait_until("the backlog is known", lambda: chain.query("kafka_consumer_lag == 5000"))


def fires_already(chain: Chain) -> None:
    chain.replicas.set(6, 0.95)
    wait_until("it fires", lambda: chain.query(f'ALERTS{{alertname="{ADMIN}", alertstate="firing"}}'))


def open_group(chain: Chain) -> None:
    chain.post_alert(alertname=ADMIN, another="alert of the same group")
    time.sleep(2)  # its group_wait is over: the group has been told of


BEFORE = [
    Scenario("mail server down", "NOT_DELIVERED", "mail_connection_refused", before=no_mail_server, refused=True),
    Scenario("mail refused", "NOT_DELIVERED", "mail_refused_451", before=mail_mode("refuse"), refused=True),
    Scenario("mail late", "NOT_DELIVERED", "mail_lost", before=mail_mode("late"), refused=True),
    Scenario("webhook fails", "NOT_DELIVERED", "webhook_500", before=webhook_fails, refused=True),
    Scenario("another receiver", "NOT_DELIVERED", "other_receiver", before=another_receiver, refused=True),
    Scenario("inbox down", "NOT_DELIVERED", "inbox_down", before=kill("inbox"), refused=True),
    Scenario("silence", "SILENCED", "silence", before=silence, refused=True),
    Scenario("inhibition", "INHIBITED", "inhibition", before=inhibition, refused=True),
    Scenario("no rules", "RULE_MISSING", "rule_missing", before=no_rules, refused=True),
    Scenario("wrong metric", "METRIC_MISSING", "recording_rule_missing", before=wrong_metric, refused=True),
    Scenario("Prometheus down", "PROMETHEUS_UNREACHED", "prometheus_down", before=kill("prometheus"), refused=True),
    Scenario(
        "Alertmanager down", "ALERTMANAGER_UNREACHED", "alertmanager_down", before=kill("alertmanager"), refused=True
    ),
    Scenario("Pushgateway down", "ABORTED", "pushgateway_down", before=kill("pushgateway"), refused=True),
    Scenario("at most 5 replicas", "NOT_SCALED", "max_replicas", before=at_most_five, refused=True),
    Scenario("the scorer is behind", "LOAD_NOT_REACHED", "backlog", before=backlog, refused=True),
    Scenario("it fires already", "ALREADY_FIRING", "already_firing", before=fires_already, refused=True),
]

AFTER = [
    Scenario("good", "ALERT_RECEIVED", ""),
    Scenario("the group is open", "ALERT_RECEIVED", "", before=open_group),
    Scenario("mail server down", "NOT_DELIVERED", "mail_connection_refused", after=no_mail_server),
    Scenario("mail refused", "NOT_DELIVERED", "mail_refused_451", after=mail_mode("refuse")),
    Scenario("mail late", "RECEIVED_LATE", "mail_late", after=mail_mode("late")),
    Scenario("mail of an earlier drill", "NOT_DELIVERED", "stale_mail", after=mail_mode("stale")),
    Scenario("webhook fails", "NOT_DELIVERED", "webhook_500", after=webhook_fails),
    Scenario("another receiver", "NOT_DELIVERED", "other_receiver", after=another_receiver),
    Scenario("inbox down", "NOT_DELIVERED", "inbox_down", after=kill("inbox")),
    Scenario("silence", "SILENCED", "silence", after=silence),
    Scenario("inhibition", "INHIBITED", "inhibition", after=inhibition),
    Scenario("no rules", "RULE_MISSING", "rule_missing", after=no_rules),
    Scenario("wrong metric", "METRIC_MISSING", "wrong_metric", after=wrong_metric),
    Scenario("Prometheus down", "PROMETHEUS_UNREACHED", "prometheus_down", at_load=kill("prometheus")),
    Scenario("Alertmanager down", "ALERTMANAGER_UNREACHED", "alertmanager_down", after=kill("alertmanager")),
    Scenario("a gap in the scrapes", "CPU_NOT_SUSTAINED", "scrape_gap", load=Load(gap=True)),
    Scenario("at most 5 replicas", "NOT_SCALED", "max_replicas", load=Load(ready=5, others=0.95, seconds=16)),
    Scenario("one of four is hot", "LOAD_NOT_REACHED", "load_too_small", load=Load(ready=4, seconds=12)),
    Scenario("the CPU drops", "CPU_NOT_SUSTAINED", "cpu_dropped", load=Load(cools=True, seconds=0)),
    Scenario("the load is too small", "LOAD_NOT_REACHED", "load_too_small", load=Load(ready=4, cpu=0.4, seconds=6)),
    Scenario("the quiet stage pages", "FALSE_ALARM", "paged_in_quiet_stage", load=Load(quiet_pages=True)),
]
