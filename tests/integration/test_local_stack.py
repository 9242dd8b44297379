"""The local stack as a whole: the scheduler runs the repository's DAGs, tasks see its MLflow and its lake."""

import os
import signal
import time
from datetime import date

import confluent_kafka
import httpx
from rich.console import Console

from include.code_version import ROOT
from include.local import stack
from include.local.airflow_api import AirflowApi
from include.local.dag_runs import run_dag, wait_until_parsed
from include.local.events import events
from include.local.supervisor import Supervisor

QUEUE = "transactions-dlq"  # nobody reads it


def test_a_second_start_changes_nothing(whole_stack: Supervisor):
    before, said = whole_stack.running(), []
    stack.bring_up(whole_stack.state, said.append)
    assert whole_stack.running() == before
    assert said == []


def test_prometheus_finds_everything_and_knows_the_rules(whole_stack: Supervisor):
    address = whole_stack.running()["prometheus"].address
    jobs = {"scorer", "pushgateway", "prometheus", "alertmanager"}
    found: dict[str, str] = {}
    deadline = time.monotonic() + 60
    while found != dict.fromkeys(jobs, "up"):
        assert time.monotonic() < deadline, found
        targets = httpx.get(f"{address}/api/v1/targets").json()["data"]["activeTargets"]
        found = {each["labels"]["job"]: each["health"] for each in targets if each["labels"]["job"] in jobs}
        time.sleep(0.5)
    groups = httpx.get(f"{address}/api/v1/rules").json()["data"]["groups"]
    [page] = [rule for group in groups for rule in group["rules"] if rule["name"].startswith("AdminNotification")]
    assert page["duration"] == 20, "five minutes, divided by 15"


def test_who_is_killed_serves_again_with_its_data_and_it_is_told(whole_stack: Supervisor):
    killed = ("kafka", "redis", "prometheus", "inbox", "alertmanager", "pushgateway", "scorer")
    before = whole_stack.running()
    seen = len(events(whole_stack.state))
    message = _send(before["kafka"].address)
    for name in killed:
        os.kill(before[name].leader.pid, signal.SIGKILL)
    described = {p.name: p for p in stack.processes(whole_stack.state, whole_stack.state.ports(), ROOT / "dags")}
    deadline = time.monotonic() + 200
    while left := [name for name in killed if not _restarted(whole_stack, name, seen)]:
        assert time.monotonic() < deadline, left
        time.sleep(0.5)
    after = whole_stack.running()
    assert all(described[name].ready() for name in killed)
    assert all(after[name].leader != before[name].leader for name in killed)
    assert {name: after[name] for name in after if name not in killed} == {
        name: before[name] for name in before if name not in killed
    }
    assert _is_there(before["kafka"].address, message)


def _restarted(supervisor: Supervisor, name: str, seen: int) -> bool:
    told = [event["event"] for event in events(supervisor.state)[seen:] if event["name"] == name]
    return told[:1] == ["died"] and told[-1:] == ["restarted"]


def _send(address: str) -> confluent_kafka.TopicPartition:
    """Where an acknowledged message lies."""
    acknowledged = []
    producer = confluent_kafka.Producer({"bootstrap.servers": address, "acks": "all", "log_level": 0})
    producer.produce(QUEUE, b"kept", on_delivery=lambda error, message: acknowledged.append((error, message)))
    producer.flush(30)
    [(error, message)] = acknowledged
    assert error is None
    return confluent_kafka.TopicPartition(QUEUE, message.partition(), message.offset())


def _is_there(address: str, place: confluent_kafka.TopicPartition) -> bool:
    consumer = confluent_kafka.Consumer({"bootstrap.servers": address, "group.id": "reader", "log_level": 0})
    try:
        consumer.assign([place])
        message = consumer.poll(30)
        return message is not None and message.error() is None and message.value() == b"kept"
    finally:
        consumer.close()


def test_ingestion_runs_through_the_scheduler(airflow_stack: AirflowApi):
    assert set(airflow_stack.health().values()) == {"healthy"}
    console = Console(force_terminal=False)
    wait_until_parsed(airflow_stack, "ingest_transactions", console)
    day = str(date(2025, 4, 12))
    run = run_dag(airflow_stack, "ingest_transactions", {"first": day, "last": day}, console)
    assert run.state == "success"
    assert {task["task_id"] for task in run.tasks} == {"ingest", "load_features"}
    answer = airflow_stack.xcom("ingest_transactions", run.run_id, "ingest")
    assert answer, "the step's answer is the task's XCom"


def test_unpausing_starts_nothing_by_itself(airflow_stack: AirflowApi):
    wait_until_parsed(airflow_stack, "retrain_model", Console(force_terminal=False))
    airflow_stack.unpause("retrain_model")
    # The scheduler has gone round many times since: another DAG's run was triggered, run and read.
    run = airflow_stack.trigger("ingest_transactions", {"first": "2025-04-13", "last": "2025-04-13"})
    assert airflow_stack.wait("ingest_transactions", run, within=120) == "success"
    assert [each["dag_run_id"] for each in airflow_stack.runs("retrain_model") if each["run_type"] != "manual"] == []


def test_unknown_dag_is_none_and_unknown_xcom_too(airflow_stack: AirflowApi):
    assert airflow_stack.dag("no_such_dag") is None
    assert airflow_stack.import_errors() == {}
