"""MLflow as a local process: a database behind it, artifacts in a folder."""

import sys

from include.local.process import Process, answers_http
from include.local.state import State


def mlflow_server(state: State, port: int, database: str = "", after: tuple[str, ...] = ()) -> Process:
    """One server that keeps artifacts under the state folder and hands them out itself.

    :param database: where it keeps runs and models; without one, in a file of its own
    """
    data = state.data("mlflow")
    address = f"http://127.0.0.1:{port}"
    return Process(
        name="mlflow",
        argv=[
            *(sys.executable, "-m", "mlflow", "server"),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--backend-store-uri", database or f"sqlite:///{data / 'mlflow.db'}"),
            *("--artifacts-destination", str(data / "artifacts")),
        ],
        env={
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight idle processes, 690 MiB, that nothing here uses
            "MLFLOW_DISABLE_TELEMETRY": "true",
        },
        ready=answers_http(f"{address}/health"),
        address=address,
        port=port,
        after=after,
    )
