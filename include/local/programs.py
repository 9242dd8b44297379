"""The programs that the local stack needs and that no Python package brings: found, installed, or asked for.

On Debian and Ubuntu, as root or with sudo that asks for no password, they are installed; elsewhere the message of the
error names the command. Their packages must not start a server of their own: the stack starts its own.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from include.local.process import Say
from include.local.state import StackError

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\nexit 101\n"
OLDEST_JAVA = 17


@dataclass(frozen=True)
class Program:
    """What to look for, and the package of it by package manager; without a package: where it is to be had."""

    names: Sequence[str]
    packages: Mapping[str, str]
    folders: str = ""  # a pattern, below /, of folders beside those of PATH; the newest is looked into first
    home: str = ""


PROMETHEUS = "https://prometheus.io/download"
PROGRAMS = {
    "java": Program(
        ("java",), {"apt": "openjdk-17-jre-headless", "dnf": "java-latest-openjdk-headless", "brew": "openjdk"}
    ),
    "mvn": Program(("mvn",), {"apt": "maven", "dnf": "maven", "brew": "maven"}),
    "postgres": Program(
        ("postgres",),
        {"apt": "postgresql", "dnf": "postgresql-server", "brew": "postgresql@15"},
        "usr/lib/postgresql/*/bin",
    ),
    "initdb": Program(
        ("initdb",),
        {"apt": "postgresql", "dnf": "postgresql-server", "brew": "postgresql@15"},
        "usr/lib/postgresql/*/bin",
    ),
    "prometheus": Program(("prometheus",), {"apt": "prometheus", "brew": "prometheus"}, home=PROMETHEUS),
    "alertmanager": Program(
        ("prometheus-alertmanager", "alertmanager"),
        {"apt": "prometheus-alertmanager", "brew": "alertmanager"},
        home=PROMETHEUS,
    ),
    "pushgateway": Program(
        ("prometheus-pushgateway", "pushgateway"), {"apt": "prometheus-pushgateway"}, home=PROMETHEUS
    ),
}


def path_of(name: str) -> str:
    """The program's path; its bare name while it is missing."""
    program = PROGRAMS[name]
    beside = sorted(map(str, Path("/").glob(program.folders or "-")), key=_newest)
    folders = [os.environ.get("PATH", os.defpath), *beside]
    found = (shutil.which(each, path=folder) for folder in folders for each in program.names)
    return next((path for path in found if path), name)


def provide(needed: Sequence[str], say: Say) -> None:
    """Install what is missing. Raises StackError, which names the command, where that is not possible."""
    missing = [name for name in needed if not _usable(name)]
    if not missing:
        return
    manager = _package_manager()
    become_root = _become_root()
    if manager != "apt" or become_root is None:
        raise StackError(f"the local stack needs {', '.join(missing)}, not found in PATH; {advice(missing, manager)}")
    packages = sorted({PROGRAMS[name].packages["apt"] for name in missing})
    say(f"installing {', '.join(packages)} with apt-get; their own servers are not started")
    _install(packages, become_root)
    if still := [name for name in missing if not _usable(name)]:
        raise StackError(f"{', '.join(still)} not found in PATH after the installation; {advice(still, manager)}")


def advice(missing: Sequence[str], manager: str | None) -> str:
    """The command that installs `missing` with this package manager, and where the rest is to be had."""
    commands = {"apt": "apt-get install", "dnf": "dnf install", "brew": "brew install"}
    packages = {name: PROGRAMS[name].packages.get(manager or "") for name in missing}
    known = sorted({package for package in packages.values() if package})
    said = [f"install with: {commands[manager]} {' '.join(known)}"] if manager and known else []
    rest = [name for name, package in packages.items() if not package]
    if rest:
        homes = " ".join(f"{name} ({PROGRAMS[name].home})" if PROGRAMS[name].home else name for name in rest)
        said.append(f"put into a folder of PATH: {homes}")
    return "; ".join(said)


def run(command: Sequence[str], failure: str, env: Mapping[str, str] | None = None) -> None:
    """Run a short command. Raises StackError with its last lines when it fails."""
    done = subprocess.run(command, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(f"  {line}" for line in (done.stdout + done.stderr).splitlines()[-15:])
        raise StackError(f"{failure}: {Path(command[0]).name} ended with exit code {done.returncode}:\n{said}")


def _usable(name: str) -> bool:
    path = path_of(name)
    return path != name and (name != "java" or java_version(path) >= OLDEST_JAVA)


def java_version(java: str) -> int:
    """The major version of a Java program; 0 when it does not say one."""
    said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    return int(found.group(1)) if found else 0


def _newest(folder: str) -> list[int]:
    return [-int(number) for number in re.findall(r"\d+", folder)]


def _package_manager() -> str | None:
    programs = {"apt": "apt-get", "dnf": "dnf", "brew": "brew"}
    order = ("brew",) if sys.platform == "darwin" else ("apt", "dnf", "brew")
    return next((name for name in order if shutil.which(programs[name])), None)


def _become_root() -> Sequence[str] | None:
    """What to put before a command so that root runs it; None when that is not possible."""
    if os.geteuid() == 0:
        return ()
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return (sudo, "-n")
    return None


def _install(packages: Sequence[str], become_root: Sequence[str]) -> None:
    ours = not POLICY.exists()
    failure = f"{', '.join(packages)} cannot be installed"
    if ours:
        write = f"printf '%s' '{POLICY_TEXT}' > {POLICY} && chmod 755 {POLICY}"
        run([*become_root, "sh", "-c", write], failure)
    try:
        run([*become_root, "apt-get", "update", "-qq"], failure)
        quiet = [*become_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-qq"]
        run([*quiet, "--no-install-recommends", *packages], failure)
    finally:
        if ours:
            run([*become_root, "rm", "-f", str(POLICY)], failure)
