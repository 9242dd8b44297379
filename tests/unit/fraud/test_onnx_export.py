"""The exported file scores as the model does, bit by bit the same each time, and needs no scikit-learn."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.tree import DecisionTreeClassifier

from include.command import BadInput
from include.fraud import candidates, onnx_export
from include.fraud.candidates import CANDIDATES
from include.fraud.derived_inputs import with_derived
from include.fraud.windows import FEATURES

BETTER_THAN_THE_LIMIT = 2e-6


def inputs(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Cents, counts and shares as the real inputs have them, and labels that depend on some of them."""
    draw = np.random.default_rng(seed)
    features = np.column_stack(
        [
            draw.integers(0, 20, rows) / draw.integers(1, 21, rows) if "risk" in name else draw.gamma(2, 30, rows)
            for name in FEATURES
        ]
    )
    odd = features[:, 0] / features[:, FEATURES.index("customer_avg_amount_7d")]
    return features, (odd + features[:, FEATURES.index("terminal_risk_7d")] + draw.normal(0, 0.5, rows) > 7).astype(int)


@pytest.fixture(scope="module", params=list(CANDIDATES))
def fitted(request: pytest.FixtureRequest) -> Pipeline:
    return candidates.fit(request.param, CANDIDATES[request.param].grid[0], *inputs(4000))


def test_scores_are_those_of_the_model(fitted: Pipeline) -> None:
    features, _ = inputs(5000, seed=1)
    file = onnx_export.export(fitted)
    assert onnx_export.parity(fitted, file, features) <= BETTER_THAN_THE_LIMIT
    expected = candidates.scores(fitted, features)
    assert np.unique(expected).size > 3
    assert np.allclose(onnx_export.scores(file, features), expected, atol=BETTER_THAN_THE_LIMIT, rtol=0)


def test_the_same_model_gives_the_same_bytes_and_a_valid_file(fitted: Pipeline) -> None:
    file = onnx_export.export(fitted)
    assert onnx_export.export(fitted) == file
    onnx.checker.check_model(onnx.load_from_string(file), full_check=True)


def test_a_row_scores_the_same_alone_and_among_others(fitted: Pipeline) -> None:
    features, _ = inputs(300)
    file = onnx_export.export(fitted)
    together = onnx_export.scores(file, features)
    alone = np.concatenate([onnx_export.scores(file, features[row : row + 1]) for row in range(0, 300, 60)])
    assert np.allclose(together[::60], alone, atol=1e-6, rtol=0)


def test_values_on_a_threshold_go_the_same_way() -> None:
    # The middle of two neighbouring float32 values is neither of them; rounded up it would be the right one.
    left = np.float32(4) + np.arange(64, dtype=np.float32) * np.float32(2**-21)
    right = np.nextafter(left, np.float32(8))
    for low, high in zip(left, right, strict=True):
        features = np.zeros((2, len(FEATURES)), dtype=np.float32)
        features[:, 1] = (low, high)
        tree = DecisionTreeClassifier(random_state=0)
        model = make_pipeline(FunctionTransformer(with_derived), tree).fit(features, [0, 1])
        assert onnx_export.scores(onnx_export.export(model), features).tolist() == [0.0, 1.0]


def test_a_tree_that_never_splits() -> None:
    features, fraud = np.ones((10, len(FEATURES)), dtype=np.float32), np.array([0, 1] * 5)
    model = make_pipeline(FunctionTransformer(with_derived), DecisionTreeClassifier()).fit(features, fraud)
    assert onnx_export.scores(onnx_export.export(model), features).tolist() == [0.5] * 10


def test_free_transactions_do_not_divide_by_zero(fitted: Pipeline) -> None:
    features, _ = inputs(200)
    features[:100, [0, *(FEATURES.index(f"customer_avg_amount_{days}d") for days in (1, 7, 30))]] = 0
    scores = onnx_export.scores(onnx_export.export(fitted), features)
    assert np.isfinite(scores).all()
    assert np.allclose(scores, candidates.scores(fitted, features), atol=BETTER_THAN_THE_LIMIT, rtol=0)


def test_the_file_is_served_without_scikit_learn(fitted: Pipeline, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_export.export(fitted))
    served = (
        "import sys, numpy, onnxruntime\n"
        "session = onnxruntime.InferenceSession(sys.argv[1])\n"
        "(given,), (answer,) = session.get_inputs(), session.get_outputs()\n"
        "assert (given.name, given.shape, given.type) == ('features', ['rows', 15], 'tensor(float)'), given\n"
        "assert (answer.name, answer.shape) == ('fraud_probability', ['rows', 1]), answer\n"
        "print(session.run(None, {'features': numpy.full((1, 15), 2, numpy.float32)})[0][0, 0])\n"
        "assert 'sklearn' not in sys.modules\n"
    )
    answer = subprocess.run([sys.executable, "-c", served, str(path)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert float(answer.stdout) == pytest.approx(candidates.scores(fitted, np.full((1, 15), 2.0))[0], abs=1e-5)


def test_a_file_of_another_model_is_refused() -> None:
    features, fraud = inputs(2000)
    one, other = (candidates.fit("decision_tree", {"max_depth": depth}, features, fraud) for depth in (3, 5))
    with pytest.raises(BadInput, match=r"differ by .* on one of 2000 rows"):
        onnx_export.parity(one, onnx_export.export(other), features)


def test_an_unknown_kind_of_model_is_refused_by_name() -> None:
    features, fraud = inputs(500)
    booster = HistGradientBoostingClassifier(max_iter=2)
    model = make_pipeline(FunctionTransformer(with_derived), booster).fit(features.astype(np.float32), fraud)
    with pytest.raises(BadInput, match="HistGradientBoostingClassifier has no ONNX form here"):
        onnx_export.export(model)
