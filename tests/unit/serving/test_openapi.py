"""The document says what the code does."""

import json

import jsonschema
import msgspec
import openapi_spec_validator
import pytest

from include.serving.openapi import EXAMPLE, document
from include.serving.predict import MOST_ROWS, parse
from include.serving.scoring import Prediction

DOCUMENT = document("fraud", "3")
PREDICT = DOCUMENT["paths"]["/predict"]["post"]


def test_it_is_valid():
    openapi_spec_validator.validate(DOCUMENT)
    assert DOCUMENT["info"]["version"] == "3"


def test_its_example_is_taken():
    (taken,), _ = parse(json.dumps(EXAMPLE).encode())
    assert taken.customer_id == EXAMPLE["customer_id"]


@pytest.mark.parametrize("inputs", [{}, {"inputs": {"tx_amount": 1.5}}])
def test_answers_are_as_described(inputs):
    schema = PREDICT["responses"]["200"]["content"]["application/json"]["schema"] | {
        "components": DOCUMENT["components"]
    }
    one = json.loads(msgspec.json.encode(Prediction(1, 0.5, "accept", "3", False, **inputs)))
    assert ("inputs" in one) == bool(inputs)
    jsonschema.validate(one, schema)
    jsonschema.validate([one, one], schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(one | {"decision": "perhaps"}, schema)


def test_every_status_of_predict_is_there():
    assert set(PREDICT["responses"]) == {"200", "413", "422", "503"}
    assert PREDICT["requestBody"]["content"]["application/json"]["schema"]["oneOf"][1]["maxItems"] == MOST_ROWS
