"""Finding the programs that no Python package brings."""

import pytest

from include.local import programs
from include.local.state import StackError


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with the programs that a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(programs, "_become_root", lambda: None)

    def has(name, text="exit 0"):
        file = tmp_path / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    return has


def java(version):
    return f"echo 'openjdk version \"{version}\" 2025-04-15' >&2"


@pytest.mark.parametrize("name", ["alertmanager", "prometheus-alertmanager"])
def test_a_program_is_found_by_either_name(machine, name, tmp_path):
    machine(name)
    assert programs.path_of("alertmanager") == str(tmp_path / name)
    programs.provide(["alertmanager"], print)


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "apt-get install maven prometheus-pushgateway"),
        ("dnf", r"dnf install maven; put into a folder of PATH: pushgateway \(https"),
        ("brew", r"brew install maven; put into a folder of PATH: pushgateway \(https"),
    ],
)
def test_what_is_missing_is_named_with_the_command_of_the_system(machine, manager, command):
    machine(manager)
    with pytest.raises(StackError, match=f"needs mvn, pushgateway, .*{command}"):
        programs.provide(["mvn", "pushgateway"], print)


def test_without_a_known_package_manager_the_names_are_said(machine):
    with pytest.raises(StackError, match="needs mvn, not found in PATH; put into a folder of PATH: mvn"):
        programs.provide(["mvn"], print)


@pytest.mark.parametrize(
    ("version", "good"), [("17.0.15", True), ("21", True), ("11.0.2", False), ("1.8.0_392", False)]
)
def test_an_old_java_does_not_count(machine, version, good):
    machine("java", java(version))
    if good:
        programs.provide(["java"], print)
    else:
        with pytest.raises(StackError, match="needs java"):
            programs.provide(["java"], print)


def test_root_on_debian_installs_what_is_missing_and_nothing_is_started(machine, monkeypatch, tmp_path):
    policy = tmp_path / "policy-rc.d"
    monkeypatch.setattr(programs, "POLICY", policy)
    monkeypatch.setattr(programs, "_become_root", lambda: ())
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine(
        "apt-get",
        f'echo "$@" "policy:$(tail -n 1 {policy})" >> {tmp_path}/asked; cp {tmp_path}/apt-get {tmp_path}/x-made',
    )
    monkeypatch.setitem(programs.PROGRAMS, "x-made", programs.Program(("x-made",), {"apt": "x-package"}))
    said = []
    programs.provide(["x-made"], said.append)
    assert said == ["installing x-package with apt-get; their own servers are not started"]
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked[-1] == "install -y -qq --no-install-recommends x-package policy:exit 101"
    assert not policy.exists(), "the machine's own policy is as it was"
    programs.provide(["x-made"], said.append)
    assert len(said) == 1, "nothing is installed twice"


def test_an_installation_that_fails_says_what_it_said(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(programs, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(programs, "_become_root", lambda: ())
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    machine("apt-get", "echo 'E: Unable to locate package x-package'; exit 100")
    monkeypatch.setitem(programs.PROGRAMS, "x-made", programs.Program(("x-made",), {"apt": "x-package"}))
    with pytest.raises(StackError, match=r"(?s)x-package cannot be installed.*exit code 100.*Unable to locate"):
        programs.provide(["x-made"], print)
    assert not (tmp_path / "policy-rc.d").exists()
