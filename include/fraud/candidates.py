"""The models that compete every week. All are plain scikit-learn and deterministic."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from include.command import BadInput

SEED = 0
Parameters = Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A way to build a model, and the parameters worth trying; the first of `grid` is used when nothing is searched."""

    name: str
    build: Callable[..., ClassifierMixin]
    grid: tuple[Parameters, ...]


def _logistic_regression(C: float) -> ClassifierMixin:
    return make_pipeline(StandardScaler(), LogisticRegression(C=C, max_iter=1000, random_state=SEED))


def _decision_tree(max_depth: int) -> ClassifierMixin:
    return DecisionTreeClassifier(max_depth=max_depth, random_state=SEED)


def _random_forest(n_estimators: int, min_samples_leaf: int, max_features: float) -> ClassifierMixin:
    return RandomForestClassifier(
        n_estimators, min_samples_leaf=min_samples_leaf, max_features=max_features, n_jobs=1, random_state=SEED
    )


def _extra_trees(n_estimators: int, min_samples_leaf: int, max_features: float) -> ClassifierMixin:
    return ExtraTreesClassifier(
        n_estimators, min_samples_leaf=min_samples_leaf, max_features=max_features, n_jobs=1, random_state=SEED
    )


CANDIDATES = {
    candidate.name: candidate
    for candidate in (
        Candidate("logistic_regression", _logistic_regression, ({"C": 1.0}, {"C": 0.1}, {"C": 100.0})),
        Candidate("decision_tree", _decision_tree, ({"max_depth": 3}, {"max_depth": 5}, {"max_depth": 8})),
        Candidate(
            "random_forest", _random_forest, ({"n_estimators": 100, "min_samples_leaf": 3, "max_features": 0.5},)
        ),
        Candidate("extra_trees", _extra_trees, ({"n_estimators": 300, "min_samples_leaf": 3, "max_features": 0.8},)),
    )
}


def candidate(name: str) -> Candidate:
    """The candidate called `name`. Raises BadInput when there is none."""
    if name not in CANDIDATES:
        raise BadInput(f"candidate {name!r} is not known: choose one of {', '.join(CANDIDATES)}")
    return CANDIDATES[name]


def fit(
    name: str, parameters: Parameters, features: NDArray[np.floating], fraud: NDArray[np.integer], jobs: int = -1
) -> ClassifierMixin:
    """Fit the candidate `name` to features [rows, 15] and labels [rows] (1 is fraud), trees on `jobs` cores at a time.

    The features are rounded to float32 first, because that is what the exported model receives: so both see the same
    values. The number of jobs does not change the model, and the fitted model predicts on one core: several would add
    up the trees in the order in which the threads end, so that the last digits would differ from call to call.
    """
    model = candidate(name).build(**parameters)
    _set_jobs(model, jobs)
    model.fit(_rounded(features), fraud)
    _set_jobs(model, 1)
    return model


def scores(model: ClassifierMixin, features: NDArray[np.floating]) -> NDArray[np.float64]:
    """The fraud probability of each row [rows] for features [rows, 15]."""
    probabilities: NDArray[np.float64] = model.predict_proba(_rounded(features))[:, 1]
    return probabilities


def _rounded(features: NDArray[np.floating]) -> NDArray[np.float32]:
    return np.ascontiguousarray(features, dtype=np.float32)


def _set_jobs(model: ClassifierMixin, jobs: int) -> None:
    parallel = [name for name, value in model.get_params().items() if name.endswith("n_jobs") and value is not None]
    model.set_params(**dict.fromkeys(parallel, jobs))
