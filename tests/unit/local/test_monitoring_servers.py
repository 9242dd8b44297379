"""The configuration of the local Prometheus and Alertmanager, judged by their own tools."""

import shutil
import subprocess
from fractions import Fraction

import pytest
import yaml

from include.local.alertmanager_server import ROUTING, alertmanager_server, delivered_to_inbox
from include.local.prometheus_server import prometheus_server
from include.local.replica_files import targets, targets_file
from include.local.state import DEFAULT_PORTS, State


@pytest.fixture(params=[1, 15, 60])
def factor(request):
    return Fraction(request.param)


def accepted(process, *check):
    for file, text in process.files.items():
        file.write_text(text)
    done = subprocess.run([*check, str(next(iter(process.files)))], capture_output=True, text=True, check=False)
    return done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_takes_its_configuration_and_rules(tmp_path, factor):
    process = prometheus_server(State(tmp_path), DEFAULT_PORTS, tmp_path / "targets.json", factor)
    good, said = accepted(process, "promtool", "check", "config")
    assert good, said
    assert said.count("rules found") == 2, "alerts and recording rules"


@pytest.mark.skipif(not shutil.which("amtool"), reason="amtool is not installed")
def test_alertmanager_takes_its_configuration(tmp_path, factor):
    good, said = accepted(alertmanager_server(State(tmp_path), DEFAULT_PORTS, factor), "amtool", "check-config")
    assert good, said


def test_everything_is_delivered_to_the_inbox_and_the_routes_stay(tmp_path):
    ours = yaml.safe_load(ROUTING.read_text())
    local = yaml.safe_load(delivered_to_inbox(ROUTING.read_text(), 8025, 2525))
    assert (local["route"], local["inhibit_rules"]) == (ours["route"], ours["inhibit_rules"])
    assert (local["global"]["smtp_smarthost"], local["global"]["smtp_require_tls"]) == ("127.0.0.1:2525", False)
    urls = [hook["url"] for receiver in local["receivers"] for hook in receiver.get("webhook_configs", [])]
    assert "http://127.0.0.1:8025/webhook/admin" in urls
    assert "http://127.0.0.1:8025/webhook/heartbeat" in urls
    assert all(url.startswith("http://127.0.0.1:8025/webhook/") for url in urls)


def test_other_rules_or_another_factor_start_it_anew(tmp_path):
    def described(factor):
        return prometheus_server(State(tmp_path), DEFAULT_PORTS, tmp_path / "targets.json", Fraction(factor))

    assert described(15).fingerprint() == described(15).fingerprint()
    assert described(15).fingerprint() != described(1).fingerprint()


def test_every_target_is_of_the_namespace_local_and_the_replicas_come_from_the_file(tmp_path):
    process = prometheus_server(State(tmp_path), DEFAULT_PORTS, tmp_path / "targets.json", Fraction(15))
    jobs = {job["job_name"]: job for job in yaml.safe_load(next(iter(process.files.values())))["scrape_configs"]}
    assert set(jobs) == {"model-api", "scorer", "pushgateway", "prometheus", "alertmanager"}
    for job in jobs.values():
        assert {"target_label": "namespace", "replacement": "local"} in job["relabel_configs"]
    assert jobs["model-api"]["file_sd_configs"] == [{"files": [str(tmp_path / "targets.json")]}]
    assert jobs["pushgateway"]["honor_labels"] is True


def test_targets_are_the_replicas_that_have_a_process(tmp_path):
    pods = [{"name": "model-api-3-1", "probe_port": 20001}, {"name": "model-api-3-2", "probe_port": None}]
    assert targets(pods) == [{"targets": ["127.0.0.1:20001"], "labels": {"pod": "model-api-3-1"}}]
    assert targets_file(tmp_path / "status.json") == tmp_path / "targets.json"
