"""Every Secret of an installation that has no store of secrets.

``python -m deploy.secrets.by_hand FOLDER --repository URL``

FOLDER keeps one file for each value, readable by its owner alone, and is what outlives the cluster: what is there
stays, so the same folder gives a new cluster the same secrets. Passwords and keys that are missing are made up. The
keys of the object store cannot be: they come from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where it is not AWS,
AWS_ENDPOINT_URL in the environment, or from files of these names.

Exit code 0: the Secrets are in the cluster that kubectl talks to; 1: kubectl failed, its message says why, and a retry
can help; 2: a value is missing or wrong.
"""

import argparse
import base64
import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

ROLES = ("postgres", "airflow", "mlflow", "backup", "restorer")  # deploy/postgresql/roles.sh
DATABASES = ("mlflow", "airflow")  # what is backed up
PASSWORDS = (*ROLES, "redis", "airflow-admin", "grafana-admin")
KEYS = ("api-secret-key", "jwt-secret")
REQUIRED = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
DEFAULTS = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": "", "mail-password": ""}
NAMESPACES = ("mlops", "airflow", "monitoring")


def values(folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What the folder holds, after what was missing has been added to it. Raises ValueError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    made = {
        **{name: secrets.token_urlsafe(24) for name in PASSWORDS},
        **{name: secrets.token_hex(32) for name in KEYS},
        "fernet-key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    wanted = {**made, **{name: given.get(name) or default for name, default in DEFAULTS.items()}}
    wanted |= {name: given.get(name, "") for name in REQUIRED}
    found = {name: _kept(folder / name, value) for name, value in wanted.items()}
    for name in REQUIRED:
        if not found[name]:
            raise ValueError(f"{name} is neither in the environment nor a file of {folder}: the object store's key")
    for name, value in found.items():
        if "\n" in value:
            raise ValueError(f"{folder / name} has more than one line; each file is one value")
    return found


def _kept(file: Path, value: str) -> str:
    """What the file holds; if there is none, it holds `value` from now on, unless that is empty."""
    if file.exists():
        return file.read_text().rstrip("\n")
    if value:
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as made:
            made.write(value)
    return value


def manifests(known: Mapping[str, str], repository: str) -> list[dict[str, Any]]:
    """The Secrets of all three namespaces; `known` are the `values`."""
    store = {name: known[name] for name in (*REQUIRED, "AWS_DEFAULT_REGION")}
    store["AWS_REGION"] = store["AWS_DEFAULT_REGION"]  # polars' client reads this one
    if known["AWS_ENDPOINT_URL"]:
        store["AWS_ENDPOINT_URL"] = known["AWS_ENDPOINT_URL"]
        if known["AWS_ENDPOINT_URL"].startswith("http://"):
            store["AWS_ALLOW_HTTP"] = "true"  # polars' own client refuses plain HTTP otherwise
    keys = ("fernet-key", *KEYS)
    found: dict[str, dict[str, dict[str, str]]] = {
        "mlops": {
            "postgres-passwords": {role: known[role] for role in ROLES},
            "mlflow": {"database": _address("mlflow", known, "postgres")},
            "mlops-secrets": {"MLOPS_REDIS_PASSWORD": known["redis"], **store},
            "backup-databases": {"pg_service.conf": _services("backup", known)},
            "restore-databases": {"pg_service.conf": _services("restorer", known)},
        },
        "airflow": {
            "airflow-db": {"connection": _address("airflow", known, "postgres.mlops.svc.cluster.local")},
            "airflow-keys": {name: known[name] for name in keys},
            "airflow-admin": {"password": known["airflow-admin"]},
            "airflow-connections": {
                "AIRFLOW_CONN_AIRFLOW_LOGS": json.dumps(_logs(known)),
                "AIRFLOW_CONN_MLOPS_GIT": json.dumps({"conn_type": "git", "host": repository}),
            },
        },
        "monitoring": {
            "grafana-admin": {"admin-user": "admin", "admin-password": known["grafana-admin"]},
            "alertmanager-mail": {"password": known["mail-password"]},
        },
    }
    return [
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace}, "stringData": data}
        for namespace, named in found.items()
        for name, data in named.items()
    ]


def _address(role: str, known: Mapping[str, str], host: str) -> str:
    return f"postgresql+psycopg2://{role}:{quote(known[role], safe='')}@{host}:5432/{role}"


def _services(role: str, known: Mapping[str, str]) -> str:
    """libpq's service file: a section for each database."""
    return "".join(
        f"[{name}]\nhost=postgres\nuser={role}\npassword={known[role]}\ndbname={name}\n\n" for name in DATABASES
    )


def _logs(known: Mapping[str, str]) -> dict[str, Any]:
    """Airflow's connection to the bucket of the logs."""
    extra = {"region_name": known["AWS_DEFAULT_REGION"]}
    if known["AWS_ENDPOINT_URL"]:
        extra["endpoint_url"] = known["AWS_ENDPOINT_URL"]
    login, password = (known[name] for name in REQUIRED)
    return {"conn_type": "aws", "login": login, "password": password, "extra": extra}


def apply(found: list[dict[str, Any]]) -> None:
    """Into the cluster that kubectl talks to. Raises CalledProcessError."""
    # Server-side, and by standard input: the values are in no annotation and in no process list.
    command = ["kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-"]
    listed = {"apiVersion": "v1", "kind": "List", "items": found}
    subprocess.run(command, input=json.dumps(listed), text=True, check=True)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the values are kept; not in the repository")
    parser.add_argument("--repository", required=True, help="address from which Airflow clones the DAGs")
    asked = parser.parse_args()
    if not shutil.which("kubectl"):
        print("kubectl is not on PATH", file=sys.stderr)
        return 2
    try:
        known = values(asked.folder, os.environ)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        apply(manifests(known, asked.repository))
    except subprocess.CalledProcessError:
        print(f"are there the namespaces {', '.join(NAMESPACES)}, and may you make Secrets in them?", file=sys.stderr)
        return 1
    print(f"kept in {asked.folder}; Airflow's first user is admin, with the password in {asked.folder}/airflow-admin")
    return 0


if __name__ == "__main__":
    sys.exit(main())
