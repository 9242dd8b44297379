"""Alertmanager as a local process: the routing of deploy/alertmanager, all of it delivered to the local inbox."""

from collections.abc import Mapping
from fractions import Fraction

import yaml

from include.code_version import ROOT
from include.local import compression
from include.local.process import Process, answers_http
from include.local.programs import path_of
from include.local.state import State

ROUTING = ROOT / "deploy" / "alertmanager" / "alertmanager.yaml"


def alertmanager_server(state: State, ports: Mapping[str, int], factor: Fraction) -> Process:
    """One server without a cluster."""
    data = state.data("alertmanager")
    address = f"http://127.0.0.1:{ports['alertmanager']}"
    configuration = data / "alertmanager.yaml"
    routing = compression.routing(ROUTING.read_text(), factor)
    return Process(
        name="alertmanager",
        argv=[
            *(path_of("alertmanager"), f"--config.file={configuration}", f"--storage.path={data / 'notified'}"),
            *(f"--web.listen-address=127.0.0.1:{ports['alertmanager']}", "--cluster.listen-address="),
        ],
        files={configuration: delivered_to_inbox(routing, ports["inbox"], ports["inbox-smtp"])},
        ready=answers_http(f"{address}/-/ready"),
        address=address,
        port=ports["alertmanager"],
        after=("inbox",),
    )


def delivered_to_inbox(routing: str, http_port: int, smtp_port: int, host: str = "127.0.0.1") -> str:
    """The same routes and receivers; every mail goes to the inbox, every webhook to /webhook/<receiver> of it.

    A receiver's second way of a kind is the copy for the inbox already, and is left out: it would arrive twice.
    """
    configuration = yaml.safe_load(routing)
    configuration["global"] |= {"smtp_smarthost": f"{host}:{smtp_port}", "smtp_require_tls": False}
    for receiver in configuration["receivers"]:
        for ways in receiver.values():
            if isinstance(ways, list):
                del ways[1:]
        for webhook in receiver.get("webhook_configs", []):
            webhook["url"] = f"http://{host}:{http_port}/webhook/{receiver['name']}"
    return yaml.safe_dump(configuration, sort_keys=False, allow_unicode=True, width=200)
