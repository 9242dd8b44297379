"""The admin's inbox as a local process: mails and webhooks, which can be asked for."""

import sys
from collections.abc import Mapping

from include.local.process import Process, answers_http
from include.local.state import State


def inbox_server(state: State, ports: Mapping[str, int]) -> Process:
    """One inbox, which keeps what arrived."""
    address = f"http://127.0.0.1:{ports['inbox']}"
    return Process(
        name="inbox",
        argv=[
            *(sys.executable, "-m", "include.alerting.inbox", "--folder", str(state.data("inbox"))),
            *("--http-port", str(ports["inbox"]), "--smtp-port", str(ports["inbox-smtp"])),
        ],
        ready=answers_http(f"{address}/health"),
        address=address,
        port=ports["inbox"],
    )
