"""Drills with a real attack on the real local servers: the page arrives, and what breaks the load is named.

The steps are run as `alert_drill` runs them, without Airflow. Times are compressed by thirty.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from kafka import KafkaConsumer, TopicPartition

from include.code_version import ROOT
from include.local.compression import SETTING
from include.local.model_api import deployment_folder
from include.local.stack import inherited_environment, processes, tasks_environment
from include.local.state import State
from include.local.supervisor import Supervisor
from tests.integration.dashboard_queries import queries
from tests.integration.serving.conftest import packed, small_lake  # noqa: F401 - fixtures

NOT_NEEDED = ("postgres", "mlflow", "airflow", "keeper")
COMPRESSION = "30"
QUIET = {"quiet_rate": 10, "surge_factor": 1.2, "surge_hold": 5, "surge_cap": 5000, "max_minutes": 3}
PATIENCE = 240

pytestmark = [pytest.mark.timeout(1200), pytest.mark.alone]


class Servers:
    """What a drill needs, with a version that is served."""

    def __init__(self, folder: Path, package: Path) -> None:
        self.state = State(folder)
        self.supervisor = Supervisor(self.state, say=print)
        self.ports = self.state.choose_ports(keep=False)
        self.processes = [one for one in processes(self.state, self.ports, ROOT / "dags") if one.name not in NOT_NEEDED]
        served = deployment_folder(self.state)
        shutil.copytree(package, served / "models" / "1")
        (served / "spec.json").write_text(json.dumps({"generation": 1, "template": {"version": "1"}, "rollout": {}}))
        self.environment = (
            inherited_environment() | tasks_environment(self.state, self.ports) | {"PYTHONPATH": str(ROOT)}
        )

    def up(self) -> None:
        self.supervisor.start(self.processes, inherited_environment())

    def caught_up(self) -> None:
        """Wait until nothing is left of the test before."""
        time.sleep(4)  # Prometheus has looked at whoever was started again
        deadline = time.monotonic() + PATIENCE
        while not self.ask("sum(kafka_consumer_lag) < 100"):
            assert time.monotonic() < deadline
            time.sleep(1)

    def kill(self, name: str) -> None:
        """kill -9."""
        for pid in self.supervisor.members(name):
            os.kill(pid, signal.SIGKILL)

    def address(self, name: str) -> str:
        return self.supervisor.running()[name].address

    def ask(self, query: str) -> list[dict[str, Any]]:
        """What Prometheus says now."""
        url = f"{self.address('prometheus')}/api/v1/query"
        return httpx.get(url, params={"query": query}, trust_env=False).json()["data"]["result"]

    def start(self, module: str, folder: Path, **flags: Any) -> "subprocess.Popen[bytes]":
        words = [word for name, value in flags.items() for word in (f"--{name.replace('_', '-')}", _said(value))]
        result = folder / f"{module.rpartition('.')[2]}.json"
        return subprocess.Popen(
            [sys.executable, "-m", module, *words, "--result", str(result)], env=self.environment, cwd=ROOT
        )

    def sent(self) -> int:
        """How many transactions stand in the topic."""
        consumer = KafkaConsumer(bootstrap_servers=self.environment["MLOPS_KAFKA_BOOTSTRAP"])
        topic = "transactions-input"
        partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        ends = consumer.end_offsets(partitions)
        consumer.close()
        return sum(ends.values())


class Drill:
    """One drill: `begin`, something that may happen meanwhile, `end`."""

    def __init__(self, servers: Servers, name: str, folder: Path) -> None:
        self.servers, self.name, self.folder = servers, f"test-{name}-{time.time():.0f}", folder

    def run(
        self,
        stages: str,
        meanwhile: Callable[["Drill"], None] = lambda drill: None,
        attack_flags: dict[str, Any] | None = None,
        **flags: Any,
    ) -> dict[str, Any]:
        """What the judge says."""
        servers, folder = self.servers, self.folder
        preflight = {"drill": self.name, "stages": stages, "for_seconds": 10, **QUIET, **flags}
        assert servers.start("include.alerting.preflight", folder, **preflight).wait(PATIENCE) == 0
        self.plan = self._answer("preflight")
        planned = {name: value for name, value in self.plan["attack"].items() if value is not None}
        self.attack = servers.start("include.loadtest.attack", folder, run=self.name, **planned, **(attack_flags or {}))
        watch = servers.start("include.alerting.watch", folder, plan=self.plan)
        try:
            meanwhile(self)
            watch.wait(PATIENCE)
            self.attack.wait(PATIENCE)
        finally:
            for process in (watch, self.attack):
                if process.poll() is None:
                    process.kill()
            servers.start("include.alerting.stop", folder, drill=self.name).wait(PATIENCE)
        facts = {name: self._answer(name) for name in ("preflight", "attack", "watch")}
        assert servers.start("include.alerting.judge", folder, **facts).wait(PATIENCE) == 0
        return self._answer("judge")

    def wait_for_rate(self, rate: float) -> None:
        """Until the attack sends that many a second."""
        deadline = time.monotonic() + PATIENCE
        while not self.servers.ask(f'attack_target_rate{{run="{self.name}"}} >= {rate}'):
            assert self.attack.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.3)

    def _answer(self, step: str) -> dict[str, Any]:
        file = self.folder / f"{step}.json"
        return json.loads(file.read_text()) if file.exists() else {}


@pytest.fixture(scope="module")
def servers(packed: Path) -> Iterator[Servers]:  # noqa: F811
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="drills-") as folder:
        patch.setenv(SETTING, COMPRESSION)
        found = Servers(Path(folder), packed)
        try:
            found.up()
            yield found
        finally:
            found.supervisor.stop_all()


@pytest.fixture
def drill(servers: Servers, tmp_path: Path, request: pytest.FixtureRequest) -> Drill:
    servers.up()  # who was killed in the test before
    servers.caught_up()
    return Drill(servers, request.node.originalname, tmp_path)


def test_the_page_arrives_and_the_dashboard_shows_it(drill: Drill) -> None:
    empty: dict[str, str] = {}

    def look_at_the_dashboard(running: Drill) -> None:
        running.wait_for_rate(1500)
        wanted = queries("local", "4s")
        empty.update({str(query): query.expr for query in wanted})
        deadline = time.monotonic() + 60
        while empty and running.attack.poll() is None and time.monotonic() < deadline:
            for name, expr in list(empty.items()):
                if running.servers.ask(expr):
                    del empty[name]
            time.sleep(0.5)

    judged = drill.run("10x3,1500x20", look_at_the_dashboard)
    assert judged["verdict"] == "ALERT_RECEIVED", judged
    assert set(judged["seconds_to_receipt"]) == {"mail", "webhook"}
    totals = drill._answer("attack")["totals"]
    assert totals["unaccounted"] == 0
    assert totals["acked"] == totals["predicted"] + totals["dead_lettered"]
    assert empty == {}


def test_load_capped_too_low(drill: Drill) -> None:
    judged = drill.run("10x3,25x5", surge_cap=25, max_minutes=1)
    assert (judged["verdict"], judged["cause"]) == ("LOAD_NOT_REACHED", "load_capped"), judged


def test_the_broker_is_killed_at_500_a_second(drill: Drill) -> None:
    def kill(running: Drill) -> None:
        running.wait_for_rate(500)
        running.servers.kill("kafka")

    judged = drill.run("10x3,500x20", kill, {"delivery_seconds": 5, "settle_seconds": 5}, max_minutes=1.5)
    assert (judged["verdict"], judged["cause"]) == ("LOAD_NOT_REACHED", "broker_down"), judged


def test_the_scorer_is_killed(drill: Drill) -> None:
    def kill(running: Drill) -> None:
        running.wait_for_rate(500)
        running.servers.kill("scorer")

    judged = drill.run("10x3,500x10", kill, {"settle_seconds": 5}, surge_cap=600, max_minutes=1.2)
    assert (judged["verdict"], judged["cause"]) == ("LOAD_NOT_REACHED", "scorer_down"), judged


def test_the_attack_is_ended_and_its_load_stops_within_five_seconds(drill: Drill) -> None:
    counted: list[int] = []

    def end(running: Drill) -> None:
        running.wait_for_rate(500)
        running.attack.send_signal(signal.SIGTERM)
        for pause in (5.0, 3.0):
            time.sleep(pause)
            counted.append(running.servers.sent())

    judged = drill.run("10x3,500x60", end, max_minutes=2)
    assert (judged["verdict"], judged["cause"]) == ("ABORTED", "attack_killed"), judged
    assert counted[0] == counted[1]


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
