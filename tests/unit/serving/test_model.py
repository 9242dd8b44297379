"""A package is loaded, or it is said what is wrong with it."""

import math

import numpy as np
import pytest
from onnx import TensorProto

from include.command import BadInput
from include.fraud.online import FEATURES
from include.model_package import MODEL, Golden
from include.serving.model import GOLDEN_TOLERANCE, Model
from tests.unit.serving.conftest import onnx_model

AMOUNT_100 = [100.0, *[0.0] * (len(FEATURES) - 1)]
SCORE = 1 / (1 + math.exp(-1.0))


def test_scores_rows(make_package):
    model = Model(make_package())
    model.warm_up()
    scores = model.probabilities(np.array([AMOUNT_100, [0.0] * len(FEATURES)]))
    np.testing.assert_allclose(scores, [SCORE, 0.5], atol=1e-6)


@pytest.mark.parametrize("off", [-1.0, 0.0, 1.0])
def test_golden_scores_must_match(make_package, off):
    model = Model(make_package(golden=[Golden({}, AMOUNT_100, SCORE + off * 1.5 * GOLDEN_TOLERANCE)]))
    if off:
        with pytest.raises(BadInput, match="do not serve it"):
            model.warm_up()
    else:
        model.warm_up()


def test_golden_inputs_must_be_those_of_the_model(make_package):
    with pytest.raises(BadInput, match="15 features"):
        Model(make_package(golden=[Golden({}, AMOUNT_100[:-1], SCORE)])).warm_up()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a model",
        onnx_model()[:-20],
        onnx_model(inputs=14),
        onnx_model(outputs=2),
        onnx_model(kind=TensorProto.DOUBLE),
    ],
)
def test_a_file_that_is_no_such_model(make_package, content):
    with pytest.raises(BadInput, match=MODEL):
        Model(make_package(content))


def test_a_file_that_is_not_the_packed_one(make_package):
    folder = make_package()
    (folder / MODEL).write_bytes(onnx_model() + b"\0")
    with pytest.raises(BadInput, match="SHA-256"):
        Model(folder)
