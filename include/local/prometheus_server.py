"""Prometheus as a local process: the stack's own processes as targets, the rules of deploy/rules."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from include.code_version import ROOT
from include.local import compression
from include.local.model_api import POD_CPU_LIMIT, cpu_limit
from include.local.process import Process, answers_http
from include.local.programs import path_of
from include.local.state import State

RULES = ("alerts.yaml", "recording-local.yaml")
NAMESPACE = "local"  # where Kubernetes has a namespace
LONGEST_TIMEOUT = Fraction(10)


def prometheus_server(state: State, ports: Mapping[str, int], replicas: Path, factor: Fraction) -> Process:
    """One server. `replicas` is the file that names the replicas of the model API, rewritten whenever they change."""
    data = state.data("prometheus")
    addresses = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    address = f"http://{addresses['prometheus']}"
    configuration = data / "prometheus.yaml"
    rules = {data / name: text for name, text in rule_files(factor, cpu_limit()).items()}
    return Process(
        name="prometheus",
        argv=[
            *(path_of("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={data / 'series'}"),
            *(f"--web.listen-address=127.0.0.1:{ports['prometheus']}", "--web.enable-lifecycle"),
            *("--storage.tsdb.retention.time=7d", f"--rules.alert.resend-delay={compression.resend_delay(factor)}"),
        ],
        files={configuration: configuration_file(addresses, replicas, factor), **rules},
        ready=answers_http(f"{address}/-/ready"),
        address=address,
        port=ports["prometheus"],
    )


def rule_files(factor: Fraction, replica_cores: float) -> dict[str, str]:
    """The rules by file name, with the limit that a replica has here (`replica_cores`) in the place of a pod's."""
    texts = {name: (ROOT / "deploy" / "rules" / name).read_text() for name in RULES}
    return {
        name: compression.rules(text.replace(f"/ {POD_CPU_LIMIT}", f"/ {replica_cores}"), factor)
        for name, text in texts.items()
    }


def configuration_file(addresses: Mapping[str, str], replicas: Path, factor: Fraction) -> str:
    """What Prometheus reads beside the rules. `addresses`: host:port by the name of the server."""
    return yaml.safe_dump(_configuration(addresses, replicas, factor), sort_keys=False)


def _configuration(addresses: Mapping[str, str], replicas: Path, factor: Fraction) -> dict[str, Any]:
    interval = compression.scrape_seconds(factor)
    return {
        "global": {
            "scrape_interval": compression.duration(interval),
            "scrape_timeout": compression.duration(min(interval, LONGEST_TIMEOUT)),
            "evaluation_interval": compression.duration(interval),
        },
        "rule_files": list(RULES),  # beside this file
        "alerting": {"alertmanagers": [{"static_configs": _at(addresses["alertmanager"])}]},
        "scrape_configs": [
            _job("model-api", file_sd_configs=[{"files": [str(replicas)]}]),
            _job("scorer", static_configs=_at(addresses["scorer"])),
            # Who pushed keeps its own labels: job, run, drill.
            _job("pushgateway", static_configs=_at(addresses["pushgateway"]), honor_labels=True),
            _job("prometheus", static_configs=_at(addresses["prometheus"])),
            _job("alertmanager", static_configs=_at(addresses["alertmanager"])),
        ],
    }


def _job(name: str, **found: Any) -> dict[str, Any]:
    return {
        "job_name": name,
        **found,
        "relabel_configs": [{"target_label": "namespace", "replacement": NAMESPACE}],
    }


def _at(address: str) -> list[dict[str, Any]]:
    return [{"targets": [address]}]
