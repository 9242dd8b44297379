"""The local Deployment: ``python -m include.local.replicas --port P --spec FILE --status FILE``.

Holds one listening socket and runs the replicas of the model API behind it. All of them accept from that one socket,
which stays open while they come and go, so a connection that nobody has taken yet waits for the next one instead of
being refused. What is asked for, and what there is, are two files (`include/local/replica_files.py`).
SIGTERM ends every replica as a rollout would, then this program.
"""

import argparse
import asyncio
import signal
import socket
import sys
from pathlib import Path

from include.local.autoscaler import MEBIBYTE, Autoscaler, Requests, Targets
from include.local.replica import Command, Means, Timing
from include.local.replica_deployment import Deployment
from include.local.replica_models import FetchCommand, ModelFolders
from include.settings import settings

WAIT_FOR_MLFLOW_SECONDS = 60  # shorter than the progress deadline: the status can name the cause by then
BACKLOG = 1024  # connections that wait while no replica takes them; the kernel may allow fewer


def api_command(folder: Path, fd: int, probe_port: int) -> list[str]:
    """One replica of the model API."""
    served = ("--model-dir", str(folder), "--fd", str(fd), "--probe-port", str(probe_port))
    return [sys.executable, "-m", "include.serving.api", *served]


def fetch_command(version: str, folder: Path) -> list[str]:
    """Fill `folder` with a version of the model."""
    wanted = ("--name", settings().model_name, "--version", version, "--to", str(folder))
    wait = ("--wait-seconds", str(WAIT_FOR_MLFLOW_SECONDS))
    return [sys.executable, "-m", "include.serving.fetch", *wanted, *wait]


def listening_socket(host: str, port: int) -> socket.socket:
    """The socket that all replicas share. Raises OSError when the address is taken."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)  # for all who share it: two may wake for one connection
    listener.bind((host, port))
    listener.listen(BACKLOG)
    return listener


def main(command: Command = api_command, fetch: FetchCommand = fetch_command, timing: Timing | None = None) -> int:
    """Exit code 0 after SIGTERM, 1 when the port is taken. The arguments are for tests with replicas of their own."""
    asked = _arguments()
    try:
        listener = listening_socket(asked.host, asked.port)
    except OSError as error:
        print(f"port {asked.port} of {asked.host}: {error}; end who listens there", file=sys.stderr)
        return 1
    models = ModelFolders(asked.spec.absolute().parent / "models", fetch)
    means = Means(listener.fileno(), models, command, timing or Timing())
    autoscaler = Autoscaler(
        Requests(asked.cpu_request, asked.memory_request * MEBIBYTE),
        Targets(scale_down_window=asked.scale_down_window),
    )
    with listener:
        asyncio.run(_serve(Deployment(means, asked.spec, asked.status, autoscaler, asked.progress_deadline)))
    return 0


async def _serve(deployment: Deployment) -> None:
    stop = asyncio.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    await deployment.run(stop)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_argument
    given(
        "--host", default="127.0.0.1", help="address to listen on (default: this machine only; 0.0.0.0 in a container)"
    )
    given("--port", type=int, required=True)
    given("--spec", type=Path, required=True, help="what is asked for; the models are kept beside it")
    given("--status", type=Path, required=True, help="where to tell what there is")
    given("--progress-deadline", type=float, default=120.0, help="seconds without progress until a rollout is overdue")
    given(
        "--cpu-request", type=float, default=Requests.cpu, help="cores per replica that the autoscaler's 80 %% are of"
    )
    given(
        "--memory-request",
        type=float,
        default=Requests.memory / MEBIBYTE,
        help="MiB per replica that the autoscaler's 70 %% are of",
    )
    given(
        "--scale-down-window",
        type=float,
        default=Targets.scale_down_window,
        help="seconds of less need before the autoscaler takes a replica away",
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
