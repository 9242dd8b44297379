"""docker-compose.yaml keeps the house's rules, and each rule finds a mistake. Whether it runs: tests/e2e/compose."""

import copy
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.code_version import ROOT
from include.local import compression, monitoring_files
from include.local.state import DEFAULT_PORTS
from include.settings import Settings

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
FOLDER = ROOT / "deploy" / "compose"
EXAMPLE = dict(
    line.split("=", 1) for line in (ROOT / ".env.example").read_text().splitlines() if line and line[0] != "#"
)
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")
SECRET_NAME = re.compile(r"PASSWORD|SECRET|KEY|TOKEN", re.IGNORECASE)
FROM_A_FILE = ("_FILE", "_CMD")
PASSWORD_IN_URL = re.compile(r"://[^/\s:@]*:(?!%s@)[^@\s/]+@")  # printf fills in what it read from a file
HEALTHY, COMPLETED = "service_healthy", "service_completed_successfully"


def services(compose: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from compose["services"].items()


def one_shots(compose: dict[str, Any]) -> set[str]:
    """Whose success others wait for. `up --wait` takes the end of any other service for a failure."""
    return {
        other
        for _, service in services(compose)
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == COMPLETED
    }


def unhealthy(compose: dict[str, Any]) -> Iterator[str]:
    once = one_shots(compose)
    for name, service in services(compose):
        if (name in once) == ("healthcheck" in service):
            yield f"{name}: needs a health check, or others that wait for its success, and not both"
        if (service.get("restart") == "no") != (name in once):
            yield f"{name}: what runs once is not restarted, everything else is"
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] != (COMPLETED if other in once else HEALTHY):
                yield f"{name}: waits for {other} by {how['condition']}"


def unlimited(compose: dict[str, Any]) -> Iterator[str]:
    for name, service in services(compose):
        limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
        if missing := {"cpus", "memory"} - set(limits):
            yield f"{name}: no limit of {', '.join(sorted(missing))}"
        elif not 0 < float(limits["cpus"]) <= 2:
            yield f"{name}: cpus {limits['cpus']} cannot be had on a machine of two cores"


def privileged(compose: dict[str, Any]) -> Iterator[str]:
    for name, service in services(compose):
        if str(service.get("user", "root")).partition(":")[0] in ("0", "root", ""):
            yield f"{name}: runs as root"
        if service.get("cap_drop") != ["ALL"] or "cap_add" in service or service.get("privileged"):
            yield f"{name}: keeps capabilities"
        if "no-new-privileges:true" not in service.get("security_opt", []):
            yield f"{name}: may gain privileges"
        if service.get("read_only") is not True:
            yield f"{name}: may write into its image"


def told_secrets(compose: dict[str, Any]) -> Iterator[str]:
    """A secret is a file; a value in the configuration of a container is seen by everybody who may inspect it."""
    for name, service in services(compose):
        environment = service.get("environment", {})
        for variable in environment:
            if SECRET_NAME.search(variable) and not variable.endswith(FROM_A_FILE):
                yield f"{name}: {variable} is a secret that is not in a file"
        for text in [*map(str, environment.values()), *map(str, service.get("command", []))]:
            if PASSWORD_IN_URL.search(text):
                yield f"{name}: a password in the address {text!r}"
        for asked in service.get("secrets", []):
            source = asked["source"] if isinstance(asked, dict) else asked
            if source not in compose["secrets"]:
                yield f"{name}: secret {source} is not declared"
    for name, secret in compose["secrets"].items():
        if secret != {"file": f"deploy/compose/secrets/{name}"}:
            yield f"secret {name}: not the file of its name in deploy/compose/secrets"


def open_ports(compose: dict[str, Any]) -> Iterator[str]:
    for name, service in services(compose):
        for port in service.get("ports", []):
            if not re.fullmatch(r"127\.0\.0\.1:\$\{\w+_PORT:-\d+\}:\d+", str(port)):
                yield f"{name}: port {port!r} is not 127.0.0.1:${{NAME_PORT:-number}}:number"
        if service.get("network_mode") == "host":
            yield f"{name}: has the machine's own network"


def floating_images(compose: dict[str, Any]) -> Iterator[str]:
    for name, service in services(compose):
        image = VARIABLE.sub(r"\2", service["image"])
        tag = image.rpartition(":")[2] if ":" in image else ""
        if "build" in service:
            continue
        if tag in ("", "latest") or not re.search(r"\d", tag):
            yield f"{name}: image {image} has no version"
        elif not VARIABLE.search(service["image"]):
            yield f"{name}: the version of {image} cannot be chosen in .env"


def foreign_settings(compose: dict[str, Any]) -> Iterator[str]:
    """`.env.example` has every port and version, with the defaults of the compose file, and nothing else."""
    found = {name: default for name, default in VARIABLE.findall(str(compose["services"])) if name != "COMMIT"}
    for name in sorted(found.keys() | EXAMPLE.keys()):
        if found.get(name) != EXAMPLE.get(name):
            yield f"{name}: {found.get(name)} in docker-compose.yaml, {EXAMPLE.get(name)} in .env.example"
        elif not name.endswith(("_PORT", "_VERSION")):
            yield f"{name}: neither a port nor a version"


def loose_mounts(compose: dict[str, Any]) -> Iterator[str]:
    for name, service in services(compose):
        for mount in service.get("volumes", []):
            source, target, *mode = mount.split(":")
            if not source.startswith("."):
                if source not in compose["volumes"]:
                    yield f"{name}: volume {source} is not declared"
            elif mode != ["ro"]:
                yield f"{name}: {source} of the checkout can be written"
            elif not (ROOT / source).exists() or FOLDER.is_relative_to((ROOT / source).resolve()):
                yield f"{name}: {source} is not there, or has the passwords in it"
            assert target.startswith("/")


RULES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    rule.__name__: rule
    for rule in (
        unhealthy,
        unlimited,
        privileged,
        told_secrets,
        open_ports,
        floating_images,
        foreign_settings,
        loose_mounts,
    )
}


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_holds(rule: str) -> None:
    assert list(RULES[rule](COMPOSE)) == []


def changed(path: str, value: Any) -> dict[str, Any]:
    """The compose file with one value replaced, or removed (None)."""
    compose = copy.deepcopy(COMPOSE)
    *above, last = path.split("/")
    inner = compose
    for key in above:
        inner = inner[key]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return compose


@pytest.mark.parametrize(
    ("rule", "path", "value", "said"),
    [
        ("unhealthy", "services/redis/healthcheck", None, "redis: needs a health check"),
        ("unhealthy", "services/topics/restart", "always", "topics: what runs once"),
        ("unhealthy", "services/mlflow/depends_on/postgres/condition", "service_started", "by service_started"),
        ("unlimited", "services/kafka/deploy/resources/limits/memory", None, "kafka: no limit of memory"),
        ("unlimited", "services/kafka/deploy/resources/limits/cpus", "8", "kafka: cpus 8"),
        ("unlimited", "services/grafana/deploy", None, "grafana: no limit of cpus, memory"),
        ("privileged", "services/mlflow/user", None, "mlflow: runs as root"),
        ("privileged", "services/mlflow/user", "0:0", "mlflow: runs as root"),
        ("privileged", "services/scorer/cap_drop", [], "scorer: keeps capabilities"),
        ("privileged", "services/scorer/security_opt", None, "scorer: may gain privileges"),
        ("privileged", "services/inbox/read_only", False, "inbox: may write into its image"),
        (
            "told_secrets",
            "services/postgres/environment/POSTGRES_PASSWORD",
            "postgres",
            "POSTGRES_PASSWORD is a secret",
        ),
        ("told_secrets", "services/mlflow/command", ["--uri=postgresql://mlflow:x@postgres"], "a password in the"),
        ("told_secrets", "services/mlflow/environment/URL", "redis://:x@redis:6379", "a password in the address"),
        ("told_secrets", "services/mlflow/secrets", ["forgotten"], "secret forgotten is not declared"),
        ("told_secrets", "secrets/redis-password", {"environment": "REDIS"}, "secret redis-password: not the file"),
        ("open_ports", "services/mlflow/ports", ["5000:5000"], "mlflow: port '5000:5000'"),
        ("open_ports", "services/mlflow/ports", ["0.0.0.0:${MLFLOW_PORT:-5000}:5000"], "mlflow: port"),
        ("open_ports", "services/kafka/network_mode", "host", "kafka: has the machine's own network"),
        ("floating_images", "services/grafana/image", "grafana/grafana", "grafana/grafana has no version"),
        ("floating_images", "services/grafana/image", "grafana/grafana:${V:-latest}", "latest has no version"),
        ("floating_images", "services/grafana/image", "grafana/grafana:12.4.0", "cannot be chosen in .env"),
        ("foreign_settings", "services/mlflow/ports", ["127.0.0.1:${MLFLOW_PORT:-5001}:5000"], "MLFLOW_PORT: 5001"),
        ("foreign_settings", "services/mlflow/environment/HOME", "${WHERE:-/tmp}", "WHERE: /tmp in docker-compose"),
        ("loose_mounts", "services/redis/volumes", ["lost:/data"], "redis: volume lost is not declared"),
        ("loose_mounts", "services/redis/volumes", ["./dags:/data"], "./dags of the checkout can be written"),
        ("loose_mounts", "services/redis/volumes", [".:/data:ro"], "has the passwords in it"),
    ],
)
def test_the_rule_finds_a_mistake(rule: str, path: str, value: Any, said: str) -> None:
    found = list(RULES[rule](changed(path, value)))
    assert len(found) == 1, found
    assert said in found[0]


def test_shorter_times_fit_together() -> None:
    """What is divided by the compression, and the replica's limit, stand in several services."""
    factor = compression.factor_of(COMPOSE["services"]["monitoring-files"]["environment"][compression.SETTING])
    airflow = COMPOSE["services"]["airflow-dag-processor"]["environment"]
    assert Fraction(airflow["MLOPS_ALERT_FOR_SECONDS"]) == 300 / factor
    resend = f"--rules.alert.resend-delay={compression.resend_delay(factor)}"
    assert resend in COMPOSE["services"]["prometheus"]["command"]
    replicas = " ".join(COMPOSE["services"]["model-api"]["command"])
    assert float(_flag(replicas, "scale-down-window")) == 300 / factor
    limit = float(_flag(" ".join(COMPOSE["services"]["monitoring-files"]["command"]), "replica-cores"))
    assert float(_flag(replicas, "cpu-request")) == limit / 2


def _flag(command: str, name: str) -> str:
    found = re.search(rf"--{name}[ =](\S+)", command)
    assert found, f"{command} has no --{name}"
    return found[1]


def test_settings_are_known() -> None:
    """A misspelt setting would be ignored."""
    known = {f"MLOPS_{name.upper()}" for name in Settings.model_fields} | {"MLOPS_CODE_VERSION", compression.SETTING}
    for name, service in services(COMPOSE):
        unknown = {each for each in service.get("environment", {}) if each.startswith("MLOPS_")} - known
        assert not unknown, f"{name}: {unknown}"


def test_monitoring_asks_services_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names and ports that they have in the compose file."""
    command = COMPOSE["services"]["monitoring-files"]["command"]
    flags = [word.replace("--to=/monitoring", f"--to={tmp_path}") for word in command[3:]]
    monkeypatch.setattr(sys, "argv", ["monitoring_files", *flags])
    monkeypatch.setenv(compression.SETTING, "15")
    assert monitoring_files.main() == 0
    names = set(COMPOSE["services"]) | set(COMPOSE["services"]["machine"]["networks"]["default"]["aliases"])
    texts = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert set(texts) == {"prometheus.yaml", "alertmanager.yaml", "alerts.yaml", "recording-local.yaml"}
    asked = re.findall(r"([a-z-]+):(\d{4})\b", texts["prometheus.yaml"] + texts["alertmanager.yaml"])
    assert {name for name, _ in asked} == {"scorer", "pushgateway", "prometheus", "alertmanager", "inbox"} <= names
    assert {(name, int(port)) for name, port in asked} <= {*DEFAULT_PORTS.items(), ("inbox", 2525)}
    assert "for: 20s" in texts["alerts.yaml"]
    assert "/ 0.04" in texts["recording-local.yaml"]
    monkeypatch.setenv(compression.SETTING, "soon")
    assert monitoring_files.main() == 2


def test_passwords_are_made_once(tmp_path: Path) -> None:
    program = Path(shutil.copy(FOLDER / "make-secrets", tmp_path))

    def made() -> dict[str, str]:
        done = subprocess.run([program], capture_output=True, text=True, check=False, env={"PATH": "/usr/bin:/bin"})
        assert (done.returncode, done.stderr) == (0, "")
        return {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}

    first = made()
    assert set(first) == set(COMPOSE["secrets"])
    assert all(len(text) > 40 for text in first.values())
    assert len(set(first.values())) == len(first)
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "secrets").iterdir()} == {0o444}
    assert made() == first, "what is there stays"
    assert first["backup-password"] in first["backup-databases.conf"]
    assert first["redis-password"] in first["redis.conf"]
    (tmp_path / "secrets" / "airflow-jwt-secret").unlink()
    again = made()
    assert {name for name in again if again[name] != first[name]} == {"airflow-jwt-secret"}


def test_git_ignores_the_passwords() -> None:
    assert "deploy/compose/secrets/" in (ROOT / ".gitignore").read_text().splitlines()
