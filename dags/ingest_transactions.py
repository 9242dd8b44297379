"""Ingest a day of card transactions into the lake.

Every night at 01:00 UTC the day before is read from the source (`MLOPS_SOURCE`: the simulator, or Parquet files) and
written as one partition of the lake. Labels are seven days late: with the transactions of day D come the labels of
day D-7. Bad rows go to `quarantine/` with the reason and are counted in the task's answer; a day with more than 1 % of
them is refused as a whole. Running a day again gives the same bytes.

Then the histories of all customers and terminals go from the lake to the feature store (Redis), labels included, so
that the model API computes its inputs from what training knows.

From the UI: choose a first and a last day to fill a gap, or to load history before the first retrain.

**When it fails**

- *bad input (no retry)*: the message names the day, the rule and the fix. The lake is untouched for that day; repair
  the source and run the same days again. Retraining waits for the gap: it refuses windows with a missing day.
- *failed after retries*: the source or the lake's storage did not answer. Nothing is half written; clear the task.
- `load_features`, *failed after retries*: Redis did not answer. The model API goes on with yesterday's histories;
  runbook: docs/runbooks/features-degraded.md
"""

from airflow.sdk import DAG

from include import assets
from include.fraud.form import IngestForm
from include.pipeline.form import form
from include.pipeline.house import HOUSE, clock, day
from include.pipeline.step import step
from include.pipeline.tags import Tag, Tier

with DAG(
    "ingest_transactions",
    schedule=clock("0 1 * * *"),
    params=form(IngestForm),
    doc_md=__doc__,
    tags=[Tag.DATA, Tier.ONE],
    **HOUSE,
):
    ingest = step(
        "ingest",
        "include.fraud.ingest",
        {"first": day("first"), "last": day("last")},
        profile="data",
        outlets=[assets.transactions],
    )
    load_features = step("load_features", "include.serving.load_features", {}, profile="data", grant="feature store")
    ingest >> load_features
