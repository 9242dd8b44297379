"""Requests made up from the OpenAPI document, good and bad ones, get answers that are documented there."""

import subprocess
import sys

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
)


def test_no_answer_is_undocumented(replica, tmp_path):
    """Schemathesis' own command: its plugin for pytest hides which request failed."""
    before = replica.metric("http_requests_total")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{replica.url}/openapi.json"),
            *("--checks", ",".join(CHECKS), "--max-examples", "150", "--seed", "1", "--continue-on-failure"),
            *("--generation-database", "none", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert replica.metric("http_requests_total") - before > 300
    assert replica.metric("http_requests_total", path="/predict", status="200") > 20
    assert replica.metric("http_requests_total", path="/predict", status="422") > 50
    assert replica.metric("ml_model_errors_total", reason="internal") == 0
