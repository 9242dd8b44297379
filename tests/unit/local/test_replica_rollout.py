"""The real supervisor with real processes on a real socket; only the replicas' program is a stand-in."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from include.code_version import ROOT

SUPERVISOR = Path(__file__).with_name("stand_in_supervisor.py")
BEHAVIOURS = {"1": "good", "2": "good", "3": "never-ready", "4": "crash"}
OPTIONS = ("--progress-deadline", "2", "--memory-request", "1000")
WAIT_SECONDS = 25.0


class Local:
    """The supervisor as the rollout step and a client see it."""

    def __init__(self, folder: Path, cpu_request: float):
        self.spec, self.status_file, self.log = folder / "spec.json", folder / "status.json", folder / "log"
        self.models = folder / "models"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.generation = 0
        self.process = self._start(folder, cpu_request)

    def _start(self, folder: Path, cpu_request: float) -> subprocess.Popen:
        for version, behaviour in BEHAVIOURS.items():
            (folder / "registry" / version).mkdir(parents=True)
            (folder / "registry" / version / "behaviour").write_text(behaviour)
        files = ("--spec", str(self.spec), "--status", str(self.status_file))
        cpu = ("--cpu-request", str(cpu_request))
        env = {**os.environ, "PYTHONPATH": str(ROOT), "STAND_IN_REGISTRY": str(folder / "registry")}
        with self.log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, str(SUPERVISOR), "--port", str(self.port), *files, *OPTIONS, *cpu],
                env=env,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def ask(self, version: str) -> int:
        self.generation += 1
        content = {"generation": self.generation, "template": {"version": version, "change_cause": "test"}}
        whole = self.spec.with_suffix(".new")
        whole.write_text(json.dumps(content))
        whole.replace(self.spec)
        return self.generation

    def status(self) -> dict:
        try:
            return json.loads(self.status_file.read_text())
        except FileNotFoundError:
            return {"observed_generation": -1, "pods": []}

    def wait(self, what: str, reached) -> dict:
        deadline = time.monotonic() + WAIT_SECONDS
        while not reached(status := self.status()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, f"not {what}: {json.dumps(status, indent=1)}\n{self.log.read_text()}"
            time.sleep(0.05)
        return status

    def roll_out(self, version: str) -> dict:
        generation = self.ask(version)
        return self.wait(
            f"version {version} live", lambda s: s["observed_generation"] == generation and not s["rolling"]
        )

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


class Traffic(threading.Thread):
    """One client that sends one request after the other and never tries one again."""

    def __init__(self, port: int, keep_alive: bool):
        super().__init__(daemon=True)
        self.port, self.keep_alive = port, keep_alive
        self.versions: Counter[str] = Counter()
        self.failed: list[str] = []
        self.done = threading.Event()

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        while not self.done.wait(0.005):
            try:
                connection.request("GET", "/")
                answer = connection.getresponse()
                body = answer.read()
                assert answer.status == 200
                self.versions[json.loads(body)["version"]] += 1
            except Exception as error:
                self.failed.append(repr(error))
                connection.close()
            if not self.keep_alive:
                connection.close()
        connection.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


@pytest.fixture
def local(tmp_path, request):
    running = Local(tmp_path, cpu_request=getattr(request, "param", 100.0))
    running.wait("started", lambda s: s["observed_generation"] == 0)
    yield running
    family = running.family() if running.process.poll() is None else []
    running.process.kill()
    running.process.wait()
    for replica in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            replica.kill()


def serving(status):
    return {pod["name"]: pod["version"] for pod in status["pods"] if pod["ready"]}


def get(port: int, path: str, timeout: float = 10.0) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_rolling_update_loses_no_request(local):
    status = local.status()
    assert (status["desired"], status["replicas"], status["version"]) == (0, 0, None), "nothing is asked for yet"
    for old in ("7", "8"):
        (local.models / old).mkdir(parents=True)
    status = local.roll_out("1")
    assert (status["desired"], status["replicas"], status["updated"], status["ready"]) == (4, 4, 4, 4)
    with Traffic(local.port, True) as one, Traffic(local.port, False) as two, Traffic(local.port, False) as three:
        generation = local.ask("2")
        seen = []

        def live(status):
            seen.append(status)
            return status["observed_generation"] == generation and not status["rolling"]

        status = local.wait("version 2 live", live)
        time.sleep(0.3)
    clients = (one, two, three)
    assert [failure for client in clients for failure in client.failed] == []
    for client in clients:
        assert client.versions["1"] > 20
        assert client.versions["2"] > 20
    assert set(serving(status).values()) == {"2"}
    assert len(status["pods"]) == 4
    assert max(len(each["pods"]) for each in seen) == 5, "one more than asked for, never two"
    assert min(len(serving(each)) for each in seen) == 4, "never fewer than asked for"
    assert status["restarts"] == 0
    kept = {folder.name for folder in local.models.iterdir()}
    assert kept in ({"1", "2", "7"}, {"1", "2", "8"}), "the last three"


def test_prometheus_is_told_every_replica_and_of_none_that_has_gone(local):
    file = local.status_file.with_name("targets.json")
    assert json.loads(file.read_text()) == []
    for version in ("1", "2"):
        local.roll_out(version)
        status = local.wait(
            "only one version live", lambda s, live=version: {pod["version"] for pod in s["pods"]} == {live}
        )
        told = {each["labels"]["pod"]: each["targets"] for each in json.loads(file.read_text())}
        assert told == {pod["name"]: [f"127.0.0.1:{pod['probe_port']}"] for pod in status["pods"]}


def test_connections_wait_while_no_replica_is_there(local):
    with Traffic(local.port, False) as client:
        time.sleep(0.3)
        local.roll_out("1")
        time.sleep(0.3)
    assert client.failed == []
    assert client.versions["1"] > 5


@pytest.mark.parametrize("version", ["3", "4", "9"], ids=["never ready", "crashes", "cannot be fetched"])
def test_bad_version_stands_still_and_is_undone(local, version):
    before = serving(local.roll_out("1"))
    with Traffic(local.port, True) as one, Traffic(local.port, False) as two:
        local.ask(version)
        status = local.wait("overdue", lambda s: s["progress_deadline_exceeded"])
        assert serving(status) == before, "the old ones go on"
        assert (status["rolling"], status["updated"], status["replicas"]) == (True, 1, 5)
        bad = next(pod for pod in status["pods"] if pod["version"] == version)
        expected = {
            "3": "no progress for more than 2 s; model-api-3-5: not ready yet",
            "4": "ended by itself with exit code 2",
            "9": "fetching version 9 ended with exit code 1: FileNotFoundError",
        }
        assert expected[version] in status["message"]
        if version == "4":
            assert status["restarts"] == bad["restarts"]
            status = local.wait("started again, and again", lambda s: s["restarts"] > 2)
            assert re.search(r"next start in 0 s(?s:.)*next start in 1 s", local.log.read_text()), "less and less often"
        status = local.roll_out("1")
    assert serving(status) == before, "the undo touches none of the good ones"
    assert (len(status["pods"]), status["progress_deadline_exceeded"]) == (4, False)
    assert one.failed + two.failed == []
    assert set(one.versions + two.versions) == {"1"}, "the bad version never got a request"


@pytest.mark.parametrize("local", [0.05], indirect=True, ids=["0.05 cores requested"])
def test_load_makes_more_replicas(local):
    status = local.roll_out("1")
    assert status["desired"] == 4
    for pod in status["pods"]:
        get(pod["probe_port"], "/burn")
    status = local.wait("six replicas", lambda s: s["desired"] == 6 and s["ready"] == 6)
    assert status["utilisation"]["cpu"] > 0
    assert not status["rolling"]


def test_dead_or_wedged_replica_is_started_again_and_one_that_is_not_ready_is_waited_for(local):
    status = local.roll_out("1")
    killed, victim = status["pods"][1], status["pods"][0]
    os.kill(killed["pid"], signal.SIGKILL)
    status = local.wait("replaced", lambda s: s["restarts"] == 1 and s["ready"] == 4)
    replaced = next(pod for pod in status["pods"] if pod["name"] == killed["name"])
    assert replaced["pid"] != killed["pid"]
    assert (replaced["restarts"], status["rolling"]) == (1, False)

    get(victim["probe_port"], "/sicken")
    status = local.wait("without it", lambda s: s["ready"] == 3)
    assert f"{victim['name']}: not ready any more" in status["message"]
    get(victim["probe_port"], "/cure")
    status = local.wait("with it", lambda s: s["ready"] == 4)
    assert (status["restarts"], status["rolling"]) == (1, False)

    with pytest.raises(TimeoutError):
        get(victim["probe_port"], "/wedge", timeout=0.2)
    status = local.wait("without it", lambda s: s["ready"] == 3)
    assert get(local.port, "/")[0] == 200, "the others serve"
    status = local.wait("replaced", lambda s: s["restarts"] == 2 and s["ready"] == 4)
    assert victim["pid"] not in [pod["pid"] for pod in status["pods"]]
    assert "/health failed 3 times in a row" in local.log.read_text()


def test_sigterm_leaves_no_process(local):
    local.roll_out("1")
    family = local.family()
    assert len(family) == 4
    with Traffic(local.port, True) as client:
        time.sleep(0.3)
        local.process.terminate()
        time.sleep(0.2)  # less than the drain
    assert client.failed == []
    assert local.process.wait(timeout=10) == 0
    assert [process for process in family if process.is_running()] == []
    assert local.status()["replicas"] == 0


def test_sigkill_leaves_no_process(local):
    local.roll_out("1")
    family = local.family()
    local.process.kill()
    local.process.wait()
    gone, alive = psutil.wait_procs(family, timeout=5)
    for replica in alive:
        replica.kill()
    assert (len(gone), alive) == (4, [])


def test_spec_that_cannot_be_followed_changes_nothing_and_none_ends_all(local):
    before = serving(local.roll_out("1"))
    local.ask("../../etc")
    status = local.wait("refused", lambda s: "is not letters, digits" in s["message"])
    assert serving(status) == before
    assert status["observed_generation"] == 1
    local.spec.unlink()
    status = local.wait("empty", lambda s: s["pods"] == [])
    assert (status["desired"], status["version"], status["rolling"]) == (0, None, False)


def test_taken_port_is_refused(local, tmp_path):
    files = ("--spec", str(tmp_path / "a"), "--status", str(tmp_path / "b"))
    command = [sys.executable, "-m", "include.local.replicas", "--port", str(local.port), *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"port {local.port} of 127.0.0.1" in done.stderr
