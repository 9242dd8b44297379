"""Imports go one way: dags -> include.pipeline -> contracts; rooms know neither Airflow nor each other."""

import ast
from pathlib import Path

import pytest

from include.code_version import ROOT

# What the model's domain offers to other rooms: its request and inputs, its histories, and nothing else.
DOMAIN = ("include.fraud.online", "include.fraud.event_log", "include.fraud.examples")
ROOMS = sorted(folder.name for folder in (ROOT / "include").iterdir() if (folder / "__init__.py").exists())
FILES = sorted((ROOT / "include").rglob("*.py")) + sorted((ROOT / "dags").glob("*.py"))


def imported(source: str) -> set[str]:
    """Full names of the modules that the source imports, wherever the import stands."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def offences(path: Path, source: str) -> set[str]:
    """The imports that the file at `path` may not have."""
    names = imported(source)
    parts = path.relative_to(ROOT).with_suffix("").parts
    airflow = {name for name in names if name.split(".")[0] == "airflow"}
    if parts[0] == "dags":
        bad = {n for n in names if n.split(".")[0] in ("airflow", "kubernetes") and not n.startswith("airflow.sdk")}
        for name in names:
            room = name.removeprefix("include.").split(".")[0]
            if name.startswith("include.") and room in ROOMS and room != "pipeline":
                # A form is the one thing of a room that parsing may load.
                bad |= set() if name.split(".")[2:3] in ([], ["form"]) else {name}
        return bad
    if len(parts) == 2:  # include/<contract>.py
        return set() if parts[1] == "assets" else airflow
    room = parts[1]
    others = {n for n in names if n.startswith("include.") and n.split(".")[1] in set(ROOMS) - {room}}
    if room != "pipeline":
        from_domain = any(name.startswith(DOMAIN) for name in others)
        others = {n for n in others if not n.startswith(DOMAIN) and not (n == "include.fraud" and from_domain)}
    return others | (set() if room == "pipeline" else airflow)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_downwards(path):
    assert not offences(path, path.read_text())


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("include/fraud/train.py", "from airflow.sdk import task"),
        ("include/fraud/train.py", "from include.local import stack"),
        ("include/local/up.py", "import include.fraud.plan"),
        ("include/pipeline/step.py", "from include.fraud.plan import Plan"),
        ("include/serving/scoring.py", "from include.fraud.plan import Plan"),
        ("include/fraud/package.py", "from include.serving import fetch"),
        ("dags/retrain_model.py", "from include.fraud.plan import Plan"),
        ("dags/retrain_model.py", "from airflow.operators.python import PythonOperator"),
        ("include/settings.py", "import airflow"),
    ],
)
def test_an_upward_import_is_caught(path, line):
    assert offences(ROOT / path, line)
