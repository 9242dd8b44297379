"""The models that compete every week. All are plain scikit-learn and deterministic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from include.command import BadInput
from include.fraud.derived_inputs import with_derived

SEED = 0
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A way to build a model, and the parameters that are tried on the validation week."""

    name: str
    build: Callable[..., ClassifierMixin]
    grid: tuple[Parameters, ...]


def _logistic_regression(C: float) -> ClassifierMixin:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000, random_state=SEED))


def _decision_tree(max_depth: int) -> ClassifierMixin:
    return DecisionTreeClassifier(max_depth=max_depth, random_state=SEED)


def _random_forest(n_estimators: int, min_samples_leaf: int) -> ClassifierMixin:
    return RandomForestClassifier(
        n_estimators, min_samples_leaf=min_samples_leaf, max_features=0.2, max_samples=0.25, random_state=SEED
    )


def _extra_trees(n_estimators: int, min_samples_leaf: int, max_samples: float | None = 0.5) -> ClassifierMixin:
    """With `max_samples`, each tree sees that share of the rows; None: all of them."""
    return ExtraTreesClassifier(
        n_estimators,
        min_samples_leaf=min_samples_leaf,
        max_features=0.8,
        bootstrap=max_samples is not None,
        max_samples=max_samples,
        random_state=SEED,
    )


def _blend(n_estimators: int, coarse_leaf: int) -> ClassifierMixin:
    """Trees with small leaves rank the frauds that stand out, trees with large ones the many rows in between."""
    fine, coarse = _extra_trees(n_estimators, 3), _extra_trees(n_estimators, coarse_leaf, max_samples=None)
    return VotingClassifier([("fine", fine), ("coarse", coarse)], voting="soft", n_jobs=1)


CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        Candidate("logistic_regression", _logistic_regression, ({"C": 1.0}, {"C": 0.1}, {"C": 100.0})),
        Candidate("decision_tree", _decision_tree, ({"max_depth": 3}, {"max_depth": 5}, {"max_depth": 8})),
        Candidate(
            "random_forest", _random_forest, tuple({"n_estimators": 40, "min_samples_leaf": leaf} for leaf in (3, 10))
        ),
        Candidate(
            "extra_trees", _extra_trees, tuple({"n_estimators": 40, "min_samples_leaf": leaf} for leaf in (3, 10))
        ),
        Candidate("blend", _blend, ({"n_estimators": 80, "coarse_leaf": 30},)),
    )
}


def candidate(name: str) -> Candidate:
    """The candidate called `name`. Raises BadInput when there is none."""
    if name not in CANDIDATES:
        raise BadInput(f"candidate {name!r} is not known: choose one of {', '.join(CANDIDATES)}")
    return CANDIDATES[name]


def fit(
    name: str, parameters: Parameters, features: NDArray[np.floating], fraud: NDArray[np.integer], jobs: int = -1
) -> Pipeline:
    """Fit the candidate `name` to features [rows, 15] and labels [rows] (1 is fraud), trees on `jobs` cores at a time.

    The features are rounded to float32 first, because that is what the exported model receives: so both see the same
    values. The number of jobs does not change the model, and it is not kept: predicting on several cores would add up
    the trees in the order in which the threads end, so that the last digits would differ from call to call.
    """
    model = make_pipeline(FunctionTransformer(with_derived), candidate(name).build(**parameters))
    with joblib.parallel_config(backend="threading", n_jobs=jobs):
        model.fit(_rounded(features), fraud)
    return model


def scores(model: Pipeline, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """The fraud probability of each row [rows] for features [rows, 15]."""
    probabilities: NDArray[np.float64] = model.predict_proba(_rounded(features))[:, 1]
    return probabilities


def _rounded(features: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(features, dtype=np.float32)
