"""Retrain the fraud model; promote it when it is measurably better.

Every Monday at 04:00 UTC, as of the day before: the newest week whose labels are all known is the test week, the week
two weeks earlier is the training week (labels are seven days late). Every candidate chooses its parameters on a
validation week that ended before; the best one there meets the champion on the same test week, and a paired bootstrap
over customers says whether the difference in average precision is real. The winner is registered in MLflow; it becomes
`champion` only when the rule of the form says so, packed with what serving needs beside it (histories, a decision
threshold, golden requests); the asset `fraud_model` then starts `redeploy_model`.

From the UI: choose the as-of date, window lengths, candidates, the promotion rule, or a dry run. The same date run
twice gives the same parameters and predictions, and registers nothing new.

**When it fails**

- `plan`, *bad input*: the form asks for windows that cannot be; the message says which field.
- `dataset`, *bad input*: a day is missing (run `ingest_transactions` for it) or a window has no fraud. *Refused*: an
  input gives the label away; find out how it got into the lake before anything is trained on it.
- `train`, *bad input*: the exported model does not give scikit-learn's scores; do not serve it, look at the candidate.
- `train`, `evaluate`, `package`, `promote`, *failed after retries*: MLflow or the lake did not answer; clear the task.
- `promote`, *refused*: the champion changed while this run compared; the message says who won. Run it again.
- `promote` *skipped* is no failure: the champion was kept, `evaluate` says why.
"""

from airflow.sdk import DAG, task

from include import assets
from include.fraud.form import RetrainForm
from include.pipeline.form import form
from include.pipeline.house import HOUSE, clock, day
from include.pipeline.step import mapped_step, step
from include.pipeline.tags import Tag, Tier


@task
def candidates(plan: dict) -> list[str]:
    """The candidates to train, one task each."""
    return plan["candidates"]


@task.short_circuit
def worth_promoting(evaluation: dict) -> bool:
    """Go on to promotion only with a winner that is to be promoted."""
    return evaluation["decision"] == "promote" and not evaluation["dry_run"]


with DAG(
    "retrain_model",
    schedule=clock("0 4 * * 1"),
    params=form(RetrainForm),
    doc_md=__doc__,
    tags=[Tag.MODEL, Tier.TWO],
    **HOUSE,
):
    plan = step("plan", "include.fraud.plan", {"as_of": day("as_of"), "form": "{{ params | tojson }}"}).output
    dataset = step("dataset", "include.fraud.dataset", {"plan": plan}, profile="data").output
    trained = mapped_step(
        "train",
        "include.fraud.train",
        {"plan": plan, "dataset": dataset},
        each="candidate",
        over=candidates(plan),
        profile="training",
    ).output
    evaluation = step(
        "evaluate",
        "include.fraud.evaluate",
        {"plan": plan, "dataset": dataset, "trained": trained},
        profile="data",
    ).output
    package = step(
        "package",
        "include.fraud.package",
        {"plan": plan, "dataset": dataset, "evaluation": evaluation},
        profile="data",
    )
    promote = step("promote", "include.fraud.promote", {"evaluation": evaluation}, outlets=[assets.fraud_model])
    worth_promoting(evaluation) >> package >> promote
