"""The Pushgateway as a local process: figures of what runs for a while only, kept until they are replaced."""

from include.local.process import Process, answers_http
from include.local.programs import path_of
from include.local.state import State


def pushgateway_server(state: State, port: int) -> Process:
    """One server, which knows after a restart what it was told a second before."""
    address = f"http://127.0.0.1:{port}"
    return Process(
        name="pushgateway",
        argv=[
            *(path_of("pushgateway"), f"--web.listen-address=127.0.0.1:{port}"),
            *(f"--persistence.file={state.data('pushgateway') / 'metrics'}", "--persistence.interval=1s"),
        ],
        ready=answers_http(f"{address}/-/ready"),
        address=address,
        port=port,
    )
