"""No secret is in git: the tree is searched for what looks like one, and a planted one is found."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
# What a secret looks like wherever it stands.
LOOKS = {
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----",
    "an access key of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a token of GitHub": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{60,})",
    "a token of GitLab": r"\bglpat-[A-Za-z0-9_-]{20,}",
    "a token of Slack": r"\bxox[abpros]-[A-Za-z0-9-]{10,}",
    "a key of Google": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "a signed token": r"\beyJ[A-Za-z0-9_-]{15,}\.eyJ[A-Za-z0-9_-]{15,}\.[A-Za-z0-9_-]{20,}",
    "a Fernet key": r"(?<![A-Za-z0-9_+/=-])[A-Za-z0-9_-]{43}=(?![A-Za-z0-9_+/=-])",
    "an age or SOPS key": r"\bAGE-SECRET-KEY-1[0-9A-Z]{20,}",
}
# In what is deployed also: a password in an address, and a plain value for a key that is called like one.
DEPLOYED = {
    "an address with a password": r"://[^/\s:@<>${}]*:[^/\s@<>${}…*]+@(?!sha256:|[a-z.]*example\.org)",
    "a value of a secret's name": (
        r"(?im)^[ \t\-{]*[\"']?[a-z_.-]*(?:password|secret_?key|api_?key|token|fernet-?key)[\"']?[ \t]*[:=][ \t]*"
        r"[\"']?(?!true\b|false\b|null\b|none\b)[A-Za-z0-9+/_!#%&-]{8,}[\"']?[ \t]*(?:,|\}|$|#)"
    ),
}
WHERE_DEPLOYED = ("deploy/", "helm-values/", ".github/", "Dockerfile", "docker-compose", "skaffold", ".env")
NOT_TEXT = {".png", ".parquet", ".gz", ".zst", ".onnx", ".dump"}
# The example of how addresses are written, and names of files and Secrets: nothing that opens a door.
FINE = re.compile(
    r"_file\b|File\b|existingSecret|secretName|SecretName|secretKeyRef|/run/|secrets\.GITHUB_TOKEN|\$\{\{"
)


def tracked() -> list[str]:
    """Files of the tree that are, or would be, in git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]


def findings(name: str, text: str) -> Iterator[str]:
    """What looks like a secret in a file of that name; the secret itself is not repeated."""
    patterns = LOOKS | (DEPLOYED if name.startswith(WHERE_DEPLOYED) and not name.endswith((".py", ".md")) else {})
    for what, pattern in patterns.items():
        for found in re.finditer(pattern, text):
            number = text.count("\n", 0, found.start())
            if what not in DEPLOYED or not FINE.search(text.splitlines()[number]):
                yield f"{name}:{number + 1}: {what}"
    if name.endswith(".yaml") and name.startswith(WHERE_DEPLOYED) and "{{" not in text:
        for document in yaml.safe_load_all(text):
            secret = isinstance(document, dict) and document.get("kind") == "Secret"
            if secret and (document.get("data") or document.get("stringData")):
                yield f"{name}: a Secret with its values"


def test_no_secret_in_the_tree() -> None:
    found = []
    for name in tracked():
        if Path(name).suffix not in NOT_TEXT:
            found += findings(name, (ROOT / name).read_text(errors="replace"))
    assert found == []


def test_the_search_looks_at_what_matters() -> None:
    names = tracked()
    assert len(names) > 200
    assert {"deploy/README.md", "Dockerfile", ".github/workflows/ci.yaml", "helm-values/airflow.yaml"} <= set(names)


# Made up, and put together here so that this file does not hold them.
PLANTED = {
    "a private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "an access key of AWS": "AKIA" + "Q" * 16,
    "a token of GitHub": "ghp_" + "a1" * 18,
    "a token of GitLab": "glpat-" + "x" * 20,
    "a token of Slack": "xoxb-" + "1" * 12,
    "a key of Google": "AIza" + "b" * 35,
    "a signed token": ".".join(["eyJ" + "a" * 20, "eyJ" + "b" * 20, "c" * 30]),
    "a Fernet key": "A" * 43 + "=",
    "an age or SOPS key": "AGE-SECRET-KEY-1" + "Q" * 30,
    "an address with a password": "connection: postgresql://mlflow:" + "hunter2" + "@postgres:5432/mlflow",
    "a value of a secret's name": "  password: " + "correcthorse",
    "a Secret with its values": "apiVersion: v1\nkind: Secret\nmetadata: {name: x}\nstringData: {a: b}\n",
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_planted_secret_is_found(what: str) -> None:
    text = "# a file\n" + PLANTED[what] + "\n"
    assert any(line.endswith(what) for line in findings("deploy/planted.yaml", text))


@pytest.mark.parametrize(
    "line",
    [
        "smtp_auth_password_file: /etc/alertmanager/secrets/alertmanager-mail/password",
        "apiSecretKeySecretName: airflow-keys",
        "host: postgres # password: <from the Secret>",
        "database: postgresql://mlflow:<password>@postgres:5432/mlflow",
        "automountServiceAccountToken: false",
        "url: http://127.0.0.1:9090/metrics",
        "password: ${{ secrets.GITHUB_TOKEN }}",
    ],
)
def test_a_name_is_no_secret(line: str) -> None:
    assert list(findings("deploy/fine.yaml", line + "\n")) == []


def test_every_secret_that_is_named_has_a_way_in() -> None:
    """Each Secret that a manifest or values file names is in deploy/secrets; those that charts make are listed here."""
    made_by_charts = {"model-api-tls", "alertmanager-routing", "mlops-secrets"}
    offered = {
        document["metadata"]["name"]
        for file in (ROOT / "deploy/secrets").rglob("*.yaml")
        for document in yaml.safe_load_all(file.read_text())
    }
    named: set[str] = set()
    pattern = r"(?:[sS]ecretName|secret(?:Key)?Ref: \{name|existingSecret|configSecret): ?\"?([a-z][a-z0-9-]+)"
    for folder in ("helm-values", "deploy/mlflow", "deploy/postgresql", "deploy/platform", "deploy/kafka"):
        for file in (ROOT / folder).rglob("*.yaml"):
            named |= set(re.findall(pattern, file.read_text()))
    grants = (ROOT / "include/pipeline/grants.py").read_text()
    named |= set(re.findall(r'databases="([a-z-]+)"', grants))
    assert {"airflow-db", "postgres-passwords", "backup-databases", "grafana-admin"} <= named
    assert named - offered - made_by_charts == set()
