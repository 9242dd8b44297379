"""Starting and stopping, with real child processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from include.local.process import Process, accepts_tcp, answers_http
from include.local.process_group import MARK, Leader
from include.local.state import StackError, State
from include.local.supervisor import Supervisor

# Serves files, has one child in its own session group and one grandchild in another session; both ignore SIGTERM.
STUBBORN_FAMILY = """
import http.server, subprocess, sys
ignore = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", ignore])
subprocess.Popen([sys.executable, "-c", ignore], start_new_session=True)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


@pytest.fixture
def said():
    return []


@pytest.fixture
def supervisor(tmp_path, said, monkeypatch):
    monkeypatch.setattr("include.local.supervisor.GRACE_SECONDS", 1.0)
    supervisor = Supervisor(State(tmp_path / "state"), say=said.append)
    yield supervisor
    supervisor.stop_all()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def web(name="web", **changes) -> Process:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    given = {
        "argv": argv,
        "ready": answers_http(address),
        "address": address,
        "port": port,
        "ready_within": 20.0,
        **changes,
    }
    return Process(name=name, **given)


def start(supervisor, *processes):
    supervisor.start(processes, dict(os.environ))


def test_serves_after_start_and_not_after_stop(supervisor, said):
    process = web(env={"COLOUR": "blue"})
    start(supervisor, process)
    leader = supervisor.running()["web"].leader
    assert process.ready()
    assert psutil.Process(leader.pid).environ()["COLOUR"] == "blue"
    assert os.getsid(leader.pid) == leader.pid, "a session of its own"
    assert any("web serves" in line for line in said)
    supervisor.stop("web")
    assert not process.ready()
    assert supervisor.running() == {}
    assert supervisor.members("web") == []


def test_second_start_changes_nothing(supervisor, said):
    process = web()
    start(supervisor, process)
    before = supervisor.running()
    said.clear()
    start(supervisor, process)
    assert supervisor.running() == before
    assert said == []


def test_other_settings_start_it_anew(supervisor):
    process = web()
    start(supervisor, process)
    before = supervisor.running()["web"].leader
    changed = web(
        argv=process.argv, ready=process.ready, address=process.address, port=process.port, env={"COLOUR": "red"}
    )
    start(supervisor, changed)
    assert supervisor.running()["web"].leader != before
    assert not before.lives()


def test_starts_after_what_it_needs(supervisor, said):
    # Listed first, started last: the database must serve before.
    start(supervisor, web("page", after=("database",)), web("database"))
    order = [line.split(" (")[0].split(" at ")[0] for line in said if "waiting" not in line]
    assert order == ["database started", "database serves", "page started", "page serves"]


def test_crash_is_reported_with_the_log(supervisor):
    broken = web("broken", argv=[sys.executable, "-c", "print('disk is full'); raise SystemExit(7)"])
    good = web("good")
    with pytest.raises(StackError, match=r"(?s)broken ended with exit code 7.*disk is full"):
        start(supervisor, good, broken)
    assert supervisor.running() == {}, "what this start began is stopped again"
    assert not good.ready()


def test_what_ran_before_survives_a_failed_start(supervisor):
    good = web("good")
    start(supervisor, good)
    with pytest.raises(StackError):
        start(supervisor, good, web("broken", argv=[sys.executable, "-c", "raise SystemExit(7)"]))
    assert set(supervisor.running()) == {"good"}


def test_another_server_on_its_port_does_not_count(supervisor):
    # The probe is answered, but by somebody else: the process itself has died.
    other = web("other")
    start(supervisor, other)
    impostor = web(
        "impostor",
        argv=other.argv,
        ready=lambda: time.sleep(1) or other.ready(),
        address=other.address,
        port=other.port,
    )
    with pytest.raises(StackError, match=r"(?s)impostor ended.*in use"):
        start(supervisor, impostor)


def test_a_living_process_without_its_port_does_not_count(supervisor):
    # Its server could not have the port and ended; what started it lives on.
    other = web("other")
    start(supervisor, other)
    argv = [sys.executable, "-c", "import time; time.sleep(99)"]
    with pytest.raises(StackError, match=rf"port {other.port} of impostor is answered by another program"):
        start(supervisor, web("impostor", argv=argv, ready=other.ready, address=other.address, port=other.port))
    assert set(supervisor.running()) == {"other"}


def test_never_ready_is_reported_and_stopped(supervisor):
    silent = web(
        "silent", argv=[sys.executable, "-c", "import time; print('warming'); time.sleep(99)"], ready_within=2.0
    )
    began = time.monotonic()
    with pytest.raises(StackError, match=r"silent does not serve within 2 s"):
        start(supervisor, silent)
    assert time.monotonic() - began < 10
    assert supervisor.members("silent") == []


def test_missing_program_is_reported(supervisor):
    with pytest.raises(StackError, match="no-such-program"):
        start(supervisor, web("absent", argv=["no-such-program"]))


def test_stop_ends_the_whole_family(supervisor):
    port = free_port()
    start(supervisor, web(argv=[sys.executable, "-c", STUBBORN_FAMILY, str(port)], ready=accepts_tcp(port), port=port))
    family = supervisor.members("web")
    assert len(family) == 3
    supervisor.stop("web")
    assert [pid for pid in family if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"] == []


def test_family_of_a_dead_leader_is_still_ended(supervisor):
    port = free_port()
    start(supervisor, web(argv=[sys.executable, "-c", STUBBORN_FAMILY, str(port)], ready=accepts_tcp(port), port=port))
    os.kill(supervisor.running()["web"].leader.pid, signal.SIGKILL)
    time.sleep(0.5)
    assert supervisor.running() == {}
    left = supervisor.members("web")
    assert len(left) == 2
    supervisor.stop("web")
    assert supervisor.members("web") == []


def test_session_is_enough_where_the_mark_is_lost(supervisor):
    # A program that changes its title overwrites its environment: Airflow's workers do.
    port = free_port()
    unmarked = f"import os, subprocess, sys; os.environ.pop('{MARK}'); sys.argv[0] = '-c'\n" + STUBBORN_FAMILY
    start(supervisor, web(argv=[sys.executable, "-c", unmarked, str(port)], ready=accepts_tcp(port), port=port))
    assert len(supervisor.members("web")) == 2, "leader and child; the unmarked one of another session is out of reach"
    escaped = [
        p.pid for p in psutil.Process(supervisor.running()["web"].leader.pid).children() if os.getsid(p.pid) == p.pid
    ]
    os.kill(escaped[0], signal.SIGKILL)
    supervisor.stop("web")
    assert supervisor.members("web") == []


def test_number_of_a_process_that_is_gone_is_not_signalled(supervisor):
    # Somebody else has the number now: same number, another start.
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        leader = Leader.of(bystander.pid)
        stale = Leader(leader.pid, leader.started - 100, leader.boot)
        record = {"leader": dict(stale.record()), "fingerprint": "", "address": "", "since": 0.0}
        supervisor.state.run.mkdir(parents=True)
        (supervisor.state.run / "web.json").write_text(json.dumps(record))
        assert supervisor.running() == {}
        supervisor.stop_all()
        assert bystander.poll() is None
        assert supervisor.records() == [], "the stale record is gone"
    finally:
        bystander.kill()
        bystander.wait()


def test_record_from_before_a_reboot_is_not_trusted():
    leader = Leader.of(os.getpid())
    assert leader.lives()
    before = Leader(leader.pid, leader.started, leader.boot - 86400)
    assert not before.lives()
    assert not before.has_session()


def test_stop_all_finds_what_lost_its_record(supervisor):
    start(supervisor, web())
    (supervisor.state.run / "web.json").unlink()
    assert supervisor.members("web")
    supervisor.stop_all()
    assert supervisor.members("web") == []


def test_stops_in_reverse_order(supervisor, said):
    start(supervisor, web("first"), web("second", after=("first",)))
    said.clear()
    supervisor.stop_all()
    assert [line.split()[0] for line in said] == ["second", "first"]


def test_log_of_the_start_before_is_kept(supervisor):
    once = web(argv=[sys.executable, "-c", "print('one'); raise SystemExit(1)"])
    for text in ("one", "two"):
        with pytest.raises(StackError):
            start(supervisor, web(argv=[*once.argv[:2], once.argv[2].replace("one", text)]))
    log = supervisor.log_file("web")
    assert log.read_text() == "two\n"
    assert log.with_suffix(".log.1").read_text() == "one\n"
