"""Secrets made by hand: the same as a store of secrets would bring, whole, kept, and by no way that others can read."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from sqlalchemy import make_url

from deploy.secrets import by_hand
from include.code_version import ROOT

STORE = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "s3/+="}
BY_NAME_ONLY = {"git-credentials"}  # of a private repository: its owner's


def by_name(known: dict[str, str]) -> dict[str, dict[str, str]]:
    return {one["metadata"]["name"]: one["stringData"] for one in by_hand.manifests(known, "https://git.example/x")}


def test_they_are_those_that_a_store_would_bring(tmp_path: Path) -> None:
    offered = {
        (one["metadata"]["namespace"], one["metadata"]["name"])
        for file in (ROOT / "deploy/secrets").rglob("*.yaml")
        for one in yaml.safe_load_all(file.read_text())
    }
    made = by_hand.manifests(by_hand.values(tmp_path / "kept", STORE), "https://git.example/x")
    assert {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in made} == {
        pair for pair in offered if pair[1] not in BY_NAME_ONLY
    }


def test_what_is_kept_stays_and_is_its_owners_alone(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    first = by_hand.values(folder, STORE)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert by_hand.values(folder, {}) == first, "the keys of the store are kept as well"
    passwords = [first[name] for name in by_hand.PASSWORDS]
    assert len(set(passwords)) == len(passwords)
    assert min(map(len, passwords)) >= 32
    (folder / "redis").write_text("by me\n")
    assert by_hand.values(folder, {}) == first | {"redis": "by me"}


def test_a_password_with_signs_arrives_as_it_is(tmp_path: Path) -> None:
    odd = "r@:/?#&%x y"
    (tmp_path / "airflow").write_text(odd)
    (tmp_path / "backup").write_text(odd)
    found = by_name(by_hand.values(tmp_path, STORE))
    address = make_url(found["airflow-db"]["connection"])
    assert (address.password, address.host) == (odd, "postgres.mlops.svc.cluster.local")
    assert found["postgres-passwords"]["airflow"] == odd
    assert found["backup-databases"]["pg_service.conf"].count(f"password={odd}\n") == 2


def test_another_object_store_than_that_of_aws(tmp_path: Path) -> None:
    aws = by_name(by_hand.values(tmp_path / "aws", STORE))
    assert {"AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"}.isdisjoint(aws["mlops-secrets"])
    other = by_name(by_hand.values(tmp_path / "other", STORE | {"AWS_ENDPOINT_URL": "http://store:9000"}))
    assert (
        other["mlops-secrets"] | {"AWS_ENDPOINT_URL": "http://store:9000", "AWS_ALLOW_HTTP": "true"}
        == other["mlops-secrets"]
    )
    logs = json.loads(other["airflow-connections"]["AIRFLOW_CONN_AIRFLOW_LOGS"])
    assert (logs["password"], logs["extra"]["endpoint_url"]) == ("s3/+=", "http://store:9000")


def run(folder: Path, kubectl: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """As somebody types it; `kubectl` is the text of a program of that name."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "kubectl").write_text(f"#!/bin/sh\n{kubectl}\n")
    (programs / "kubectl").chmod(0o755)
    path = f"{programs}{os.pathsep}/usr/bin{os.pathsep}/bin"
    command = [sys.executable, "-m", "deploy.secrets.by_hand", str(folder / "kept"), "--repository", "https://x"]
    return subprocess.run(
        command, cwd=ROOT, env={"PATH": path, **environment}, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_fake_kubectl_gets_all_of_it_by_standard_input(tmp_path: Path) -> None:
    done = run(tmp_path, f'echo "$@" > {tmp_path}/arguments; cat > {tmp_path}/input', **STORE)
    assert (done.returncode, done.stderr) == (0, "")
    given = json.loads((tmp_path / "input").read_text())
    assert len(given["items"]) == len({one["metadata"]["name"] for one in given["items"]}) == 11
    password = (tmp_path / "kept" / "postgres").read_text()
    assert password not in (tmp_path / "arguments").read_text() + done.stdout


def test_without_the_keys_of_the_store_nothing_reaches_the_cluster(tmp_path: Path) -> None:
    done = run(tmp_path, f"touch {tmp_path}/called", AWS_ACCESS_KEY_ID="key")
    assert done.returncode == 2
    assert "AWS_SECRET_ACCESS_KEY is neither in the environment nor a file of" in done.stderr
    assert not (tmp_path / "called").exists()


def test_a_value_of_two_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlflow").write_text("one\nhost=elsewhere\n")
    with pytest.raises(ValueError, match=r"mlflow has more than one line"):
        by_hand.values(tmp_path, STORE)


def test_when_a_fake_kubectl_fails_a_retry_can_help(tmp_path: Path) -> None:
    done = run(tmp_path, "echo 'namespaces \"mlops\" not found' >&2; exit 1", **STORE)
    assert done.returncode == 1
    assert "not found" in done.stderr
    assert "are there the namespaces" in done.stderr
