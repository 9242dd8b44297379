"""Turns a fitted candidate into ONNX, so that serving needs neither scikit-learn nor a pickle.

The graph has one input, "features" [rows, 15] float32, and one output, "fraud_probability" [rows, 1] float32. All trees
of all averaged forests go into one TreeEnsemble node; the node's tables are taken from scikit-learn's arrays as they
are, which is fast and keeps the file small. The same model gives the same bytes.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from include.command import BadInput
from include.fraud import candidates
from include.fraud.derived_inputs import LEAST_DENOMINATOR, PRODUCTS, RATIOS, positions
from include.fraud.windows import FEATURES

INPUT, COLUMNS, OUTPUT = "features", "columns", "fraud_probability"
PARITY_LIMIT = 1e-5
LESS_OR_EQUAL, SUM = 0, 1  # BRANCH_LEQ and SUM in the ai.onnx.ml specification of TreeEnsemble
OPSETS = (("", 18), ("ai.onnx.ml", 5))
IR_VERSION = 10  # the first that knows these operator sets; newer readers take it too


def export(model: Pipeline) -> bytes:
    """The `model` that `candidates.fit` returned, as the bytes of an ONNX file.

    Raises BadInput for a kind of model that is not known here.
    """
    nodes, constants = _derived_inputs()
    trees, terms = [], []
    for number, (part, weight) in enumerate(_parts(model.steps[-1][1], 1.0)):
        forest = _forest(part)
        if forest is None:
            linear_nodes, linear_constants = _linear(part, weight, f"linear{number}")
            nodes += linear_nodes
            constants += linear_constants
            terms.append(f"linear{number}")
        else:
            trees += [(tree.tree_, weight / len(forest)) for tree in forest]
    if trees:
        nodes.append(_tree_ensemble(trees, "trees"))
        terms.append("trees")
    nodes.append(helper.make_node("Sum", terms, [OUTPUT]))
    return _graph(nodes, constants).SerializeToString(deterministic=True)


def scores(onnx: bytes, features: NDArray[np.floating]) -> NDArray[np.float32]:
    """The fraud probability of each row [rows] for features [rows, 15], computed by onnxruntime on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # several threads would add up the trees in another order
    session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
    answer: NDArray[np.float32] = session.run([OUTPUT], {INPUT: np.ascontiguousarray(features, dtype=np.float32)})[0]
    return answer[:, 0]


def parity(model: Pipeline, onnx: bytes, features: NDArray[np.floating], limit: float = PARITY_LIMIT) -> float:
    """The largest difference between the two probabilities of a row, over features [rows, 15].

    Raises BadInput when it is above `limit`: the file must not be served then.
    """
    difference = float(np.max(np.abs(candidates.scores(model, features) - scores(onnx, features))))
    if not difference <= limit:
        raise BadInput(
            f"the ONNX file and the model differ by {difference:.2g} on one of {len(features)} rows, at most "
            f"{limit:.0e} is allowed: export the model again, with the versions in requirements-steps.txt"
        )
    return difference


def _derived_inputs() -> tuple[list[NodeProto], list[TensorProto]]:
    """`derived_inputs.with_derived` as a graph: the same operations in the same precision."""
    constants = [numpy_helper.from_array(np.array(LEAST_DENOMINATOR, dtype=np.float32), "least")]
    nodes = []
    for name, pairs in (("ratios", RATIOS), ("products", PRODUCTS)):
        for side, columns in zip(("left", "right"), positions(pairs), strict=True):
            constants.append(numpy_helper.from_array(np.array(columns), f"{name}.{side}.columns"))
            nodes.append(helper.make_node("Gather", [INPUT, f"{name}.{side}.columns"], [f"{name}.{side}"], axis=1))
    nodes += [
        helper.make_node("Max", ["ratios.right", "least"], ["ratios.below"]),
        helper.make_node("Div", ["ratios.left", "ratios.below"], ["ratios"]),
        helper.make_node("Mul", ["products.left", "products.right"], ["products"]),
        helper.make_node("Concat", [INPUT, "ratios", "products"], [COLUMNS], axis=1),
    ]
    return nodes, constants


def _parts(model: Any, weight: float) -> Iterator[tuple[Any, float]]:
    """The members of an average, each with its share of the answer."""
    if not isinstance(model, VotingClassifier):
        yield model, weight
        return
    shares = np.ones(len(model.estimators_)) if model.weights is None else np.array(model.weights, dtype=np.float64)
    for member, share in zip(model.estimators_, shares / shares.sum(), strict=True):
        yield from _parts(member, weight * float(share))


def _forest(model: Any) -> list[DecisionTreeClassifier] | None:
    if isinstance(model, DecisionTreeClassifier):
        return [model]
    if isinstance(model, RandomForestClassifier | ExtraTreesClassifier):
        return list(model.estimators_)
    return None


def _tree_ensemble(trees: list[tuple[Any, float]], output: str) -> NodeProto:
    """One node for all trees; each leaf holds its probability of fraud times its tree's weight.

    scikit-learn keeps all nodes of a tree in one table; here inner nodes and leaves have tables of their own, so each
    node gets its position among its own kind. A threshold is rounded down to float32: a float32 value is at most the
    one exactly when it is at most the other, so both send every row to the same leaf.
    """
    columns: dict[str, list[NDArray]] = {name: [] for name in ("feature", "split", "yes", "no", "yes_leaf", "no_leaf")}
    leaf_weights, roots = [], []
    inner_before = leaves_before = 0
    for tree, weight in trees:
        is_leaf = tree.children_left < 0
        if is_leaf[0]:
            table, leaves = _constant_tree(tree, leaves_before)
        else:
            position = np.where(is_leaf, leaves_before + np.cumsum(is_leaf), inner_before + np.cumsum(~is_leaf)) - 1
            inner = np.flatnonzero(~is_leaf)
            left, right = tree.children_left[inner], tree.children_right[inner]
            table = (
                tree.feature[inner],
                _rounded_down(tree.threshold[inner]),
                position[left],
                position[right],
                is_leaf[left],
                is_leaf[right],
            )
            leaves = _fraud_share(tree)[is_leaf]
        for column, values in zip(columns.values(), table, strict=True):
            column.append(values)
        leaf_weights.append(leaves * weight)
        roots.append(inner_before)
        inner_before += len(table[0])
        leaves_before += len(leaves)
    merged = {name: np.concatenate(values) for name, values in columns.items()}
    return helper.make_node(
        "TreeEnsemble",
        [COLUMNS],
        [output],
        domain="ai.onnx.ml",
        n_targets=1,
        aggregate_function=SUM,
        tree_roots=roots,
        nodes_featureids=merged["feature"].tolist(),
        nodes_splits=numpy_helper.from_array(merged["split"]),
        nodes_modes=numpy_helper.from_array(np.full(inner_before, LESS_OR_EQUAL, dtype=np.uint8)),
        nodes_truenodeids=merged["yes"].tolist(),
        nodes_falsenodeids=merged["no"].tolist(),
        nodes_trueleafs=merged["yes_leaf"].astype(np.int64).tolist(),
        nodes_falseleafs=merged["no_leaf"].astype(np.int64).tolist(),
        leaf_targetids=[0] * leaves_before,
        leaf_weights=numpy_helper.from_array(np.concatenate(leaf_weights).astype(np.float32)),
    )


def _constant_tree(tree: Any, leaf: int) -> tuple[tuple[NDArray, ...], NDArray[np.float64]]:
    """A tree that never splits: the operator wants an inner node, so one whose both branches are the same leaf."""
    one, split, yes = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.float32), np.ones(1, dtype=bool)
    return (one, split, one + leaf, one + leaf, yes, yes), _fraud_share(tree)


def _fraud_share(tree: Any) -> NDArray[np.float64]:
    counts = tree.value[:, 0, :]
    share: NDArray[np.float64] = counts[:, 1] / counts.sum(axis=1)
    return share


def _rounded_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    nearest = threshold.astype(np.float32)
    return np.where(nearest > threshold, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _linear(part: Any, weight: float, output: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """Logistic regression with its scaler folded in: weight * sigmoid(features @ coefficients + intercept).

    In double precision, because amounts and counts are far from zero and the coefficients cancel.
    """
    scaler, regression = _scaler_and_regression(part)
    coefficients = regression.coef_[0] / scaler.scale_
    intercept = regression.intercept_[0] - coefficients @ scaler.mean_
    constants = [
        numpy_helper.from_array(coefficients.reshape(-1, 1), f"{output}.coefficients"),
        numpy_helper.from_array(np.array([intercept]), f"{output}.intercept"),
        numpy_helper.from_array(np.array([weight], dtype=np.float32), f"{output}.weight"),
    ]
    nodes = [
        helper.make_node("Cast", [COLUMNS], [f"{output}.double"], to=TensorProto.DOUBLE),
        helper.make_node("MatMul", [f"{output}.double", f"{output}.coefficients"], [f"{output}.product"]),
        helper.make_node("Add", [f"{output}.product", f"{output}.intercept"], [f"{output}.logit"]),
        helper.make_node("Sigmoid", [f"{output}.logit"], [f"{output}.sigmoid"]),
        helper.make_node("Cast", [f"{output}.sigmoid"], [f"{output}.probability"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{output}.probability", f"{output}.weight"], [output]),
    ]
    return nodes, constants


def _scaler_and_regression(model: Any) -> tuple[StandardScaler, LogisticRegression]:
    steps = [step for _, step in model.steps] if isinstance(model, Pipeline) else [model]
    kinds = [type(step).__name__ for step in steps]
    if kinds != ["StandardScaler", "LogisticRegression"]:
        raise BadInput(
            f"a model of {' and '.join(kinds)} has no ONNX form here: use trees, forests, a scaled logistic "
            f"regression, or an average of them"
        )
    return steps[0], steps[1]


def _graph(nodes: list[NodeProto], constants: list[TensorProto]) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "fraud",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", len(FEATURES)])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows", 1])],
        constants,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in OPSETS]
    return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
