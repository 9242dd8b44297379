"""Training, comparison and promotion against a real MLflow server, on a small lake."""

from datetime import date

import numpy as np
import onnxruntime
import polars as pl
import pytest

from include.command import Refused
from include.fraud import dataset, evaluate, promote, tracking, train
from include.fraud.form import RetrainForm
from include.fraud.ingest import fill
from include.fraud.lake import Lake
from include.fraud.plan import plan
from include.fraud.simulator import Simulator
from include.fraud.tracking import CHAMPION, PREVIOUS_CHAMPION
from include.settings import settings

AS_OF = date(2025, 6, 29)


def planned(**form):
    return plan(AS_OF, RetrainForm(**({"train_days": 4, "test_days": 4, "rule": "not_worse", "margin": 1.0} | form)))


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lake")
    fill(Lake(str(folder)), Simulator(7, customers=400, terminals=800), planned().first_read, AS_OF)
    return folder


@pytest.fixture(autouse=True)
def deployment(mlflow_server, lake, monkeypatch, request):
    """Settings of a deployment: this lake, this server, and an experiment and a model of the test's own."""
    name = request.node.name.replace("[", "-").strip("]")
    for setting, value in {
        "LAKE_URI": str(lake),
        "MLFLOW_TRACKING_URI": mlflow_server,
        "MLFLOW_EXPERIMENT": name,
        "MODEL_NAME": name,
    }.items():
        monkeypatch.setenv(f"MLOPS_{setting}", value)
    settings.cache_clear()
    yield
    settings.cache_clear()


def trained(made, *names):
    rows = dataset.main(dataset.Args(plan=made))
    return rows, [train.main(train.Args(plan=made, dataset=rows, candidate=name)) for name in names]


def compared(made, *names):
    rows, models = trained(made, *names)
    return evaluate.main(evaluate.Args(plan=made, dataset=rows, trained=models))


def alias(name):
    found = tracking.version_with_alias(tracking.connect(), name)
    return found.version if found else None


def versions():
    return len(tracking.connect().search_model_versions(f"name = '{settings().model_name}'"))


def test_a_run_holds_everything_that_is_asked_of_it():
    _, [model] = trained(planned(), "decision_tree")
    client = tracking.connect()
    run = client.get_run(model.run_id)
    assert {"test_auc_roc", "test_average_precision", "test_card_precision_at_100", "train_seconds",
            "onnx_max_delta", "validation_average_precision"} <= set(run.data.metrics)  # fmt: skip
    assert len(client.get_metric_history(model.run_id, "test_card_precision_at_100_of_day")) == 4
    assert run.data.params["candidate"] == "decision_tree"
    assert {"git_commit", "features", "window.train", "window.test", "dataset.sha256"} <= set(run.data.tags)
    files = {file.path for file in client.list_artifacts(model.run_id)}
    assert {"precision_recall.png", "scores.png", "origin.json"} <= files
    logged = client.get_logged_model(run.data.tags[tracking.MODEL_ID])
    files = {file.path for file in client.list_logged_model_artifacts(logged.model_id)}
    assert {"MLmodel", "model.onnx", "input_example.json", "requirements.txt"} <= files


def test_what_is_registered_needs_no_scikit_learn():
    verdict = compared(planned(), "logistic_regression")
    session = onnxruntime.InferenceSession(tracking.onnx_of_run(tracking.connect(), verdict.run_id))
    assert [i.shape[1] for i in session.get_inputs()] == [15]
    score = session.run(None, {session.get_inputs()[0].name: np.zeros((2, 15), np.float32)})[0]
    assert score.shape[0] == 2


def test_the_first_model_becomes_champion_and_the_same_date_again_changes_nothing():
    made = planned()
    first = compared(made, "logistic_regression", "decision_tree")
    assert first.decision == "promote"
    answer = promote.main(promote.Args(evaluation=first))
    assert (answer["version"], answer["previous_version"]) == ("1", None)
    assert alias(CHAMPION) == "1"
    again = compared(made, "logistic_regression", "decision_tree")
    assert again.decision == "unchanged"
    assert (again.winner, again.run_id, again.version) == (first.winner, first.run_id, "1")
    assert versions() == 1


def test_training_again_from_scratch_gives_the_same_model(monkeypatch):
    """Without the runs that are there: parameters and the exported model come out the same, byte for byte."""
    made = planned()
    for name in ("random_forest", "extra_trees"):
        _, [one] = trained(made, name)
        monkeypatch.setattr(tracking, "finished_run", lambda *_: None)
        _, [two] = trained(made, name)
        monkeypatch.undo()
        assert one.run_id != two.run_id
        assert (one.params, one.onnx_sha256, one.test) == (two.params, two.onnx_sha256, two.test)


def test_a_new_champion_leaves_the_old_one_an_alias():
    promote.main(promote.Args(evaluation=compared(planned(), "decision_tree")))
    second = compared(planned(), "extra_trees")
    assert second.champion_version == "1"
    assert second.champion_test is not None
    assert second.difference is not None
    promote.main(promote.Args(evaluation=second))
    assert (alias(CHAMPION), alias(PREVIOUS_CHAMPION)) == ("2", "1")
    # A retry after the alias was moved finds its work done.
    promote.main(promote.Args(evaluation=second))
    assert (alias(CHAMPION), alias(PREVIOUS_CHAMPION)) == ("2", "1")


def test_a_champion_that_changed_meanwhile_is_not_overwritten():
    made = planned()
    promote.main(promote.Args(evaluation=compared(made, "decision_tree")))
    ours = compared(made, "extra_trees")
    theirs = compared(made, "logistic_regression")
    tracking.connect().set_registered_model_alias(settings().model_name, CHAMPION, theirs.version)
    with pytest.raises(
        Refused, match=r"extra_trees \(version 2\) won against version 1, but the champion is version 3"
    ):
        promote.main(promote.Args(evaluation=ours))
    assert alias(CHAMPION) == theirs.version


def test_a_worse_winner_is_registered_and_not_promoted():
    promote.main(promote.Args(evaluation=compared(planned(), "extra_trees")))
    verdict = compared(planned(rule="better"), "decision_tree")
    assert verdict.decision == "keep"
    assert "does not replace version 1" in verdict.verdict
    assert (alias(CHAMPION), versions()) == ("1", 2)
    run = tracking.connect().get_run(verdict.run_id)
    assert run.data.tags["verdict"] == verdict.verdict


def test_a_dry_run_registers_nothing():
    verdict = compared(planned(dry_run=True), "decision_tree")
    assert verdict.verdict.startswith("Dry run: ")
    assert versions() == 0


def test_the_winner_is_chosen_on_the_validation_week():
    made = planned()
    rows, [one, two] = trained(made, "logistic_regression", "decision_tree")
    # Whatever the test week says, the validation week decides.
    one = one.model_copy(update={"validation": one.validation | {"average_precision": 0.9}, "test": {}})
    two = two.model_copy(update={"validation": two.validation | {"average_precision": 0.8}})
    assert evaluate.main(evaluate.Args(plan=made, dataset=rows, trained=[one, two])).winner == "logistic_regression"


def test_a_model_that_knows_nothing_is_not_promoted(monkeypatch):
    """Features without any information: the floors hold, also for the very first model."""
    made = planned(floor=0.0)
    rows, [model] = trained(made, "logistic_regression")
    monkeypatch.setattr(evaluate.onnx_export, "scores", lambda _, matrix: np.random.default_rng(1).random(len(matrix)))
    verdict = evaluate.main(evaluate.Args(plan=made, dataset=rows, trained=[model]))
    assert verdict.decision == "keep"
    assert "fraud rate" in verdict.verdict


def test_mlflow_that_does_not_answer_is_a_clear_error_that_a_retry_may_cure(monkeypatch):
    monkeypatch.setenv("MLOPS_MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    settings.cache_clear()
    with pytest.raises(ConnectionError, match=r"http://127.0.0.1:9 does not answer.*MLOPS_MLFLOW_TRACKING_URI"):
        tracking.connect()


def test_the_scores_are_those_of_the_test_rows():
    """The metrics that the verdict quotes, computed again from the registered file."""
    made = planned()
    rows, [model] = trained(made, "decision_tree")
    verdict = evaluate.main(evaluate.Args(plan=made, dataset=rows, trained=[model]))
    assert verdict.test == pytest.approx(model.test)
    assert isinstance(rows.read(), pl.DataFrame)
