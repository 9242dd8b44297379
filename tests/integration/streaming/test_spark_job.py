"""The Spark job for real: a local Spark with two cores, in a virtual environment of its own."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from include.code_version import ROOT
from tests.integration.serving.conftest import transaction, wait_for

PROGRAMS = ROOT / "build" / "programs"
PYTHON = PROGRAMS / "spark-venv" / "bin" / "python"
JARS = PROGRAMS / "spark-4.0.0" / "jars"
POM = ROOT / "include" / "streaming" / "spark"
PATIENCE = 400  # Spark took 21 s to start on a machine that was not busy
UNREADABLE = {b"not-json": b"{", b"nothing": None, b"\xff": b"\xff\xfe"}


def missing() -> str:
    """What this machine lacks to run Spark."""
    lacks = [program for program in ("java", "mvn") if shutil.which(program) is None and not JARS.exists()]
    if lacks or shutil.which("java") is None:
        return f"{' and '.join(lacks) or 'java'} not installed"
    try:
        httpx.head("https://repo.maven.apache.org/maven2/", timeout=20)
    except httpx.TransportError as error:
        return "" if PYTHON.exists() and JARS.exists() else f"Maven Central is not reachable: {error}"
    return ""


@pytest.fixture(scope="module")
def spark() -> None:
    """Spark and its Kafka connector, downloaded once for this checkout."""
    reason = missing()
    if reason and "CI" not in os.environ:
        pytest.skip(reason)
    assert not reason
    uv = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    if not PYTHON.exists():
        subprocess.run([uv, "venv", "--quiet", "--python", "3.11", PYTHON.parent.parent], check=True)
    lock = ROOT / "requirements-spark.txt"
    subprocess.run([uv, "pip", "sync", "--quiet", "--python", PYTHON, lock], check=True)
    if not JARS.exists():
        copy = ["dependency:copy-dependencies", f"-DoutputDirectory={JARS}", "-DincludeScope=runtime"]
        command = ["mvn", "-B", "-ntp", "-q", "-s", POM / "settings.xml", "-f", POM / "pom.xml", *copy]
        subprocess.run(command, check=True)


@pytest.fixture
def job(spark: None, stream, real_api, tmp_path: Path) -> Iterator[list[subprocess.Popen]]:
    """Starts a job with the test's checkpoint: `job()`."""
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MLOPS_")}
        with (tmp_path / "job.log").open("ab") as log:
            process = subprocess.Popen(
                [PYTHON, "-m", "include.streaming.spark_job", "--checkpoint", tmp_path / "checkpoint",
                 "--master", "local[2]", "--jars", JARS, "--most-messages", "500"],
                env=kept | stream.environment | {"PYTHONPATH": str(ROOT), "MLOPS_MODEL_API_URL": real_api.url},
                stderr=log, stdout=log, cwd=ROOT, start_new_session=True,
            )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.mark.timeout(1200)
def test_the_job_writes_what_the_scorer_writes_and_goes_on_from_its_checkpoint(stream, job):
    stream.send_transactions(range(900))
    for key, value in UNREADABLE.items():
        stream.send(value, key, {"exercise": b"run-1"})
    stream.send(json.dumps(transaction(transaction_id=900)).encode(), b"596", {"exercise": b"run-1"})
    stream.flush()
    first = job()
    wait_for(lambda: first.poll() is not None or len(stream.read(stream.predictions)) >= 901, "predictions", PATIENCE)
    wait_for(lambda: first.poll() is not None or len(stream.read(stream.dead)) >= 3, "dead letters", PATIENCE)
    assert first.poll() is None
    told = {int(message.key()): message for message in stream.read(stream.predictions)}
    assert set(told) == set(range(901))
    assert json.loads(told[900].value()).keys() >= {"transaction_id", "customer_id", "probability", "scored_at"}
    headers = dict(told[900].headers())
    assert headers["exercise"] == b"run-1"
    assert headers["source"].decode().startswith(f"{stream.input}/")
    dead = stream.read(stream.dead)
    assert {message.key(): message.value() for message in dead} == UNREADABLE
    assert all(dict(message.headers())["error"] for message in dead)

    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    stream.send_transactions(range(1000, 1100))
    stream.flush()
    second = job()
    wait_for(lambda: second.poll() is not None or len(set(stream.predicted())) == 1001, "the rest", PATIENCE)
    assert set(stream.predicted()) == set(range(901)) | set(range(1000, 1100))
    second.send_signal(signal.SIGTERM)
    assert second.wait(timeout=PATIENCE) == 0
