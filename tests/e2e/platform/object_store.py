"""Object storage outside of the cluster: moto's server, a process of this machine. It speaks S3, it does not prove S3.

It outlives the cluster, as a cloud's would; its data is in memory and goes with the process.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
import httpx

from tests.e2e.cluster import run, wait_for

BUCKETS = ("mlops-lake", "mlops-artifacts", "mlops-backups", "mlops-logs")


@dataclass(frozen=True)
class ObjectStore:
    """Where pods find it, and with which keys."""

    url: str
    access_key: str = "testing"
    secret_key: str = "testing"
    region: str = "us-east-1"

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def environment(self) -> dict[str, str]:
        """As every client of AWS reads it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_REGION": self.region,
            "AWS_ALLOW_HTTP": "true",  # polars' own client refuses plain HTTP otherwise
        }

    def client(self) -> "boto3.client":
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
        )


def address_for_pods() -> str:
    """E2E_HOST, or the node's own address where that is this machine's."""
    named = os.environ.get("E2E_HOST")
    if named:
        return named
    found = run(
        "kubectl", "get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    )
    try:
        with socket.socket() as probe:
            probe.bind((found, 0))
    except OSError:
        raise AssertionError(
            f"the node's address {found} is not this machine's: name the address under which pods reach this machine"
            " in E2E_HOST (kind: the gateway of the docker network `kind`)"
        ) from None
    return found


@contextmanager
def object_store() -> Iterator[ObjectStore]:
    """As long as the block lasts."""
    host = address_for_pods()
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", host, "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    store = ObjectStore(f"http://{host}:{port}")
    try:
        wait_for(lambda: _answers(store.url), "moto answers", 60)
        for bucket in BUCKETS:
            store.client().create_bucket(Bucket=bucket)
        yield store
    finally:
        server.terminate()
        server.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code < 500
    except httpx.TransportError:
        return False
