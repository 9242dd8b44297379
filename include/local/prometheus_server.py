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
    address = f"http://127.0.0.1:{ports['prometheus']}"
    configuration = data / "prometheus.yaml"
    rules = {data / name: compression.rules(_rules(name), factor) for name in RULES}
    return Process(
        name="prometheus",
        argv=[
            *(path_of("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={data / 'series'}"),
            *(f"--web.listen-address=127.0.0.1:{ports['prometheus']}", "--web.enable-lifecycle"),
            *("--storage.tsdb.retention.time=7d", f"--rules.alert.resend-delay={compression.resend_delay(factor)}"),
        ],
        files={configuration: yaml.safe_dump(_configuration(ports, replicas, factor), sort_keys=False), **rules},
        ready=answers_http(f"{address}/-/ready"),
        address=address,
        port=ports["prometheus"],
    )


def _rules(name: str) -> str:
    """With the limit that a replica has on this machine in the place of a pod's."""
    text = (ROOT / "deploy" / "rules" / name).read_text()
    return text.replace(f"/ {POD_CPU_LIMIT}", f"/ {cpu_limit()}")


def _configuration(ports: Mapping[str, int], replicas: Path, factor: Fraction) -> dict[str, Any]:
    interval = compression.scrape_seconds(factor)
    return {
        "global": {
            "scrape_interval": compression.duration(interval),
            "scrape_timeout": compression.duration(min(interval, LONGEST_TIMEOUT)),
            "evaluation_interval": compression.duration(interval),
        },
        "rule_files": list(RULES),  # beside this file
        "alerting": {"alertmanagers": [{"static_configs": _at(ports["alertmanager"])}]},
        "scrape_configs": [
            _job("model-api", file_sd_configs=[{"files": [str(replicas)]}]),
            _job("scorer", static_configs=_at(ports["scorer"])),
            # Who pushed keeps its own labels: job, run, drill.
            _job("pushgateway", static_configs=_at(ports["pushgateway"]), honor_labels=True),
            _job("prometheus", static_configs=_at(ports["prometheus"])),
            _job("alertmanager", static_configs=_at(ports["alertmanager"])),
        ],
    }


def _job(name: str, **found: Any) -> dict[str, Any]:
    return {
        "job_name": name,
        **found,
        "relabel_configs": [{"target_label": "namespace", "replacement": NAMESPACE}],
    }


def _at(port: int) -> list[dict[str, Any]]:
    return [{"targets": [f"127.0.0.1:{port}"]}]
