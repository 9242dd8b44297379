"""The API's OpenAPI document, from the types that parse requests and build answers."""

from typing import Any

import msgspec

from include.fraud.online import Transaction
from include.serving.predict import MOST_BYTES, MOST_ROWS
from include.serving.scoring import Prediction

EXAMPLE = {
    "transaction_id": 1754155,
    "tx_datetime": "2018-09-05T12:34:56Z",
    "customer_id": 596,
    "terminal_id": 3156,
    "tx_amount": 57.16,
}
REFERENCE = "#/components/schemas/{name}"


class Problem(msgspec.Struct):
    """Why a request got no prediction: which field, and the reason."""

    field: str
    reason: str


def document(name: str, version: str) -> dict[str, Any]:
    """OpenAPI 3.0 for the given version of the model."""
    (transaction, prediction, problem), schemas = msgspec.json.schema_components(
        (Transaction, Prediction, Problem), ref_template=REFERENCE
    )
    return {
        "openapi": "3.0.3",
        "info": {
            "title": f"model API: {name}",
            "version": version,
            "description": "Scores transactions as they happen. The inputs of the model are computed here, from the "
            "transaction and from what its customer and terminal did before.",
        },
        "components": {"schemas": schemas},
        "paths": {
            "/predict": {"post": _predict(transaction, prediction, problem)},
            "/": _get("What this is: model, version, commit."),
            "/health": _get("The process is alive."),
            "/ready": _get("The process takes traffic.", {"503": _json("It is about to stop; go elsewhere.")}),
            "/metrics": _get("Metrics in Prometheus' text format.", content_type="text/plain"),
        },
    }


def _predict(transaction: Any, prediction: Any, problem: Any) -> dict[str, Any]:
    many_in = {"type": "array", "items": transaction, "minItems": 1, "maxItems": MOST_ROWS}
    many_out = {"type": "array", "items": prediction}
    retry = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return {
        "summary": "Score one transaction, or a list.",
        "description": "Sending a transaction again gives an answer again; it counts once in its customer's history.",
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "description": "true: the answer holds the model's inputs",
                "schema": {"type": "boolean", "default": False},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"oneOf": [transaction, many_in]}, "example": EXAMPLE}},
        },
        "responses": {
            "200": _json("The predictions, in the order sent.", {"oneOf": [prediction, many_out]}),
            "413": _json(f"More than {MOST_ROWS} transactions or {MOST_BYTES} bytes.", problem),
            "422": _json("Not a transaction: which field, and why.", problem),
            "503": {**_json("Too much waits already; try again.", problem), "headers": retry},
        },
    }


def _get(summary: str, more: dict[str, Any] | None = None, content_type: str = "application/json") -> dict[str, Any]:
    answer = {"description": summary, "content": {content_type: {"schema": {}}}}
    return {"get": {"summary": summary, "responses": {"200": answer, **(more or {})}}}


def _json(description: str, schema: Any = None) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema or {}}}}
