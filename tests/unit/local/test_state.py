"""The ports of the local stack, and its lock."""

import socket
from pathlib import Path

import pytest

from include.code_version import ROOT
from include.local import state as state_module
from include.local.state import StackError, State


@pytest.fixture
def state(tmp_path, monkeypatch):
    ports = {}
    for name in ("page", "store"):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            ports[name] = server.getsockname()[1]
    monkeypatch.setattr(state_module, "DEFAULT_PORTS", ports)
    return State(tmp_path)


@pytest.fixture
def take():
    taken = []

    def listen(port: int, address: str = "127.0.0.1") -> None:
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        taken.append(server)

    yield listen
    for server in taken:
        server.close()


def test_default_ports_when_free(state):
    assert state.choose_ports(keep=False) == state_module.DEFAULT_PORTS


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_taken_port_gives_another_and_it_is_remembered(state, take, address):
    default = state_module.DEFAULT_PORTS["page"]
    take(default, address)
    chosen = state.choose_ports(keep=False)
    assert chosen["page"] != default
    assert chosen["store"] == state_module.DEFAULT_PORTS["store"]
    assert State(state.root).ports() == chosen
    assert State(state.root).choose_ports(keep=False) == chosen


def test_ports_of_a_running_stack_are_its_own(state, take):
    chosen = state.choose_ports(keep=False)
    take(chosen["page"])
    assert state.choose_ports(keep=True) == chosen


def test_new_name_gets_a_port_beside_a_running_stack(state, monkeypatch):
    chosen = state.choose_ports(keep=False)
    monkeypatch.setattr(state_module, "DEFAULT_PORTS", {**state_module.DEFAULT_PORTS, "queue": chosen["page"]})
    grown = state.choose_ports(keep=True)
    assert grown.items() >= chosen.items()
    assert grown["queue"] not in chosen.values()


def test_one_command_at_a_time(state):
    with state.locked(), pytest.raises(StackError, match="another command"), State(state.root).locked():
        pass
    with state.locked():
        pass


def test_folder_is_chosen_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.delenv("MLOPS_STATE", raising=False)
    assert State.from_environment().root == (ROOT / "build" / "local").resolve()
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    assert State.from_environment().root == Path(tmp_path).resolve()
