"""Every DAG as CI of any user would run it."""

import json
import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

from include.code_version import ROOT


class Airflow:
    """`airflow dags test`, on a database of its own."""

    def __init__(self, home: Path, env: dict[str, str], logical_date: date) -> None:
        self.logical_date = logical_date
        self.env = (
            os.environ
            | {
                "AIRFLOW_HOME": str(home),
                "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                "PYTHONPATH": str(ROOT),
                "MLOPS_RUNTIME": "local",
            }
            | env
        )
        migrated = self.run("db", "migrate")
        assert migrated.returncode == 0, migrated.stderr

    def run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "airflow", *words]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, check=False, timeout=500)

    def test(self, dag: str, **conf: Any) -> "subprocess.CompletedProcess[str]":
        """One run of the DAG."""
        return self.run("dags", "test", dag, str(self.logical_date), "-c", json.dumps(conf))
