"""The keeper, with real child processes."""

import os
import signal
import sys
import time

import pytest

from include.local import keeper as keeper_module
from include.local.events import events
from include.local.keeper import Keeper
from include.local.process import Process, answers_http
from include.local.replica import Timing
from include.local.state import State, any_free_port
from include.local.supervisor import KEEPER, Supervisor


@pytest.fixture
def supervisor(tmp_path):
    supervisor = Supervisor(State(tmp_path), say=print)
    yield supervisor
    supervisor.stop_all()


def web(name="web", **changes):
    port = any_free_port(taken=())
    address = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    return Process(
        **{"name": name, "argv": argv, "ready": answers_http(address), "address": address, "port": port, **changes}
    )


def kill(supervisor, name):
    leader = supervisor.running()[name].leader
    os.kill(leader.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while name in supervisor.running():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kept(supervisor, *processes):
    return Keeper(supervisor.state, lambda: processes, dict(os.environ))


def told(supervisor):
    return [(event["name"], event["event"]) for event in events(supervisor.state)]


def test_who_died_serves_again_and_it_is_told(supervisor):
    died, other = web("died"), web("other")
    supervisor.start([died, other], dict(os.environ))
    before = supervisor.running()
    keeper = kept(supervisor, died, other)
    keeper.look()
    assert told(supervisor) == []
    kill(supervisor, "died")
    keeper.look()
    assert died.ready()
    assert told(supervisor) == [("died", "died"), ("died", "restarted")]
    assert supervisor.running()["other"] == before["other"]


def test_who_was_stopped_stays_stopped(supervisor):
    process = web()
    supervisor.start([process], dict(os.environ))
    keeper = kept(supervisor, process)
    keeper.look()
    supervisor.stop("web")
    keeper.look()
    assert supervisor.running() == {}
    assert told(supervisor) == []


def test_a_command_under_way_is_not_disturbed(supervisor):
    process = web()
    supervisor.start([process], dict(os.environ))
    keeper = kept(supervisor, process)
    kill(supervisor, "web")
    with supervisor.state.locked():
        keeper.look()
        assert supervisor.running() == {}
        supervisor.start([process], dict(os.environ))
    keeper.look()
    assert told(supervisor) == [], "it was the command that started it"


def test_restarts_wait_longer_each_time(supervisor, monkeypatch):
    monkeypatch.setattr(keeper_module, "Timing", lambda: Timing(backoff_first=1.0))
    process = web()
    supervisor.start([process], dict(os.environ))
    keeper = kept(supervisor, process)
    kill(supervisor, "web")
    keeper.look()
    kill(supervisor, "web")
    keeper.look()
    assert supervisor.running() == {}, "not before a second has passed"
    time.sleep(1.1)
    keeper.look()
    assert process.ready()


def test_a_start_that_failed_is_tried_again(supervisor, monkeypatch):
    monkeypatch.setattr(keeper_module, "Timing", lambda: Timing(backoff_first=0.1))
    process = web()
    broken = web("web", argv=[sys.executable, "-c", "raise SystemExit(7)"])
    supervisor.start([process], dict(os.environ))
    described = [broken]
    keeper = Keeper(supervisor.state, lambda: described, dict(os.environ))
    kill(supervisor, "web")
    keeper.look()
    assert told(supervisor) == [("web", "died"), ("web", "start failed")]
    assert "exit code 7" in events(supervisor.state)[-1]["detail"]
    described[:] = [process]
    time.sleep(0.2)
    keeper.look()
    assert process.ready()


def test_the_keeper_is_stopped_first_and_what_was_restarted_before_what_it_needs(supervisor):
    said = []
    supervisor.say = said.append
    database, page = web("database"), web("page", after=("database",))
    sleeper = web(KEEPER, argv=[sys.executable, "-c", "import time; time.sleep(99)"], ready=lambda: True, port=None)
    supervisor.start([database, page, sleeper], dict(os.environ))
    kill(supervisor, "database")
    kept(supervisor, database, page).look()
    said.clear()
    supervisor.stop_all()
    assert [line.split()[0] for line in said] == [KEEPER, "page", "database"]
