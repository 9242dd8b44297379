"""What a replica says of itself, how it answers, and what it counts."""

import json
import shutil
import sqlite3

import httpx
import openapi_spec_validator
import pytest

from include.fraud.windows import FEATURES
from include.model_package import MANIFEST, MODEL, SNAPSHOT
from tests.integration.serving.conftest import metric, transaction


def test_it_says_what_it_is(replica):
    with replica.client() as client:
        about = client.get("/").json()
        assert (about["model"], about["version"]) == ("fraud", "1")
        assert client.get("/health").json() == {"status": "alive"}
        assert client.get("/ready").json() == {"status": "ready", "version": "1", "features": "degraded"}
    assert replica.metric("ml_model_info", name="fraud", version="1") == 1


def test_the_page_for_people_loads_from_here_alone(replica):
    with replica.client() as client:
        page = client.get("/docs").text
        assert "//" not in page.replace("</", "")
        for file in ("/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"):
            assert file in page
            assert client.get(file).status_code == 200


def test_the_openapi_document_is_one(replica):
    with replica.client() as client:
        openapi_spec_validator.validate(client.get("/openapi.json").json())


def test_one_gets_one_answer_and_a_list_a_list(replica):
    with replica.client() as client:
        answer = client.post("/predict", json=transaction(transaction_id=7))
        assert answer.headers["content-type"] == "application/json"
        one = answer.json()
        assert set(one) == {"transaction_id", "probability", "decision", "model_version", "degraded"}
        assert (one["transaction_id"], one["model_version"], one["degraded"]) == (7, "1", True)
        assert 0 <= one["probability"] <= 1
        many = client.post("/predict", json=[transaction(transaction_id=n) for n in (3, 1, 2)]).json()
        assert [each["transaction_id"] for each in many] == [3, 1, 2]
        assert len(client.post("/predict", json=[transaction(transaction_id=n) for n in range(1000)]).json()) == 1000


def test_inputs_are_shown_to_those_who_ask(replica):
    with replica.client() as client:
        inputs = client.post("/predict?explain=true", json=transaction()).json()["inputs"]
    assert tuple(inputs) == FEATURES
    assert inputs["tx_amount"] == 57.16


@pytest.mark.parametrize("query", ["explain=false", "", "other=1"])
def test_inputs_are_not_shown_to_others(replica, query):
    with replica.client() as client:
        assert "inputs" not in client.post(f"/predict?{query}", json=transaction()).json()


@pytest.mark.parametrize("query", ["explain=yes", "explain=", "explain", "explain=true&explain=false", "explain=%FF"])
def test_explain_is_true_or_false(replica, query):
    with replica.client() as client:
        answer = client.post(f"/predict?{query}", json=transaction())
    assert (answer.status_code, answer.json()["field"]) == (422, "explain")


def test_the_threshold_decides(serve, packed, copy_of):
    folder = copy_of(packed)
    manifest = json.loads((folder / MANIFEST).read_text())
    found = {one["request"]["transaction_id"]: one["probability"] for one in manifest["golden"]}
    manifest["threshold"] = (min(found.values()) + max(found.values())) / 2
    (folder / MANIFEST).write_text(json.dumps(manifest))
    replica = serve(folder)
    with replica.client() as client:
        answers = client.post("/predict", json=[one["request"] for one in manifest["golden"]]).json()
    reviewed = {one["transaction_id"] for one in answers if one["decision"] == "review"}
    assert reviewed == {number for number, probability in found.items() if probability >= manifest["threshold"]}
    assert 0 < len(reviewed) < len(answers)
    assert replica.metric("ml_model_predictions_total", decision="review") == len(reviewed)
    assert replica.metric("ml_model_predictions_total", decision="accept") == len(answers) - len(reviewed)


def test_every_answer_is_counted_under_few_labels(replica):
    with replica.client() as client:
        before = client.get("/metrics").text
        client.post("/predict", json=[transaction(), transaction(transaction_id=2)])
        client.get("/health")
        assert client.get("/nothing/here").status_code == 404
        client.request("PROPFIND", "/somewhere")
        not_post = client.get("/predict")
        assert (not_post.status_code, not_post.headers["allow"]) == (405, "POST")
        after = client.get("/metrics").text

    def grown(name: str, **labels: str) -> float:
        return metric(after, name, **labels) - metric(before, name, **labels)

    assert grown("http_requests_total", method="POST", path="/predict", status="200") == 1
    assert grown("http_requests_total", method="GET", path="/predict", status="405") == 1
    assert grown("http_requests_total", method="GET", path="/health", status="200") == 1
    assert grown("http_requests_total", method="GET", path="other", status="404") == 1
    assert grown("http_requests_total", method="other", path="other") == 1
    assert grown("http_request_duration_seconds_count", path="/predict") == 2
    assert grown("ml_model_predictions_total") == 2
    assert grown("ml_model_prediction_duration_seconds_count") == 1
    assert grown("ml_features_degraded_total", reason="redis_down") == 2
    assert grown("ml_model_errors_total") == 0
    assert metric(after, "ml_queue_rows") == 0
    assert metric(after, "ml_requests_in_flight") == 1  # the one for the metrics
    assert metric(after, "process_cpu_seconds_total") > 0
    assert metric(after, "process_start_time_seconds") > 0


def spoil_model(folder):
    content = bytearray((folder / MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / MODEL).write_bytes(content)


def spoil_manifest(folder):
    (folder / MANIFEST).write_text("{")


def spoil_golden(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["golden"][3]["probability"] += 0.01
    (folder / MANIFEST).write_text(json.dumps(manifest))


def spoil_snapshot(folder):
    (folder / SNAPSHOT).write_bytes(b"SQLite format 3\0" + bytes(5000))


def forget_terminals(folder):
    connection = sqlite3.connect(folder / SNAPSHOT)
    connection.execute("DROP TABLE terminal")
    connection.close()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_model, "SHA-256"),
        (spoil_manifest, "no model package"),
        (spoil_golden, "golden"),
        (spoil_snapshot, "features.sqlite cannot be read"),
        (forget_terminals, "features.sqlite cannot be read"),
        (lambda folder: (folder / MODEL).unlink(), "no model package"),
        (lambda folder: (folder / MANIFEST).unlink(), "include.serving.fetch"),
        (lambda folder: (folder / SNAPSHOT).unlink(), "features.sqlite does not exist"),
        (shutil.rmtree, "no model package"),
    ],
)
def test_what_is_not_a_usable_package_is_not_served(serve, packed, copy_of, spoil, message):
    folder = copy_of(packed)
    spoil(folder)
    bad = serve(folder, wait=False)
    assert bad.process.wait(timeout=60) == 2
    said = bad.log.read_text()
    assert message in said
    assert "Traceback" not in said


def test_a_port_that_is_taken_is_worth_another_try(replica, serve, packed):
    second = serve(packed, wait=False, port=int(replica.url.rpartition(":")[2]))
    assert second.process.wait(timeout=60) == 1
    assert "cannot listen" in second.log.read_text()
    assert httpx.get(f"{replica.url}/health", trust_env=False).status_code == 200
