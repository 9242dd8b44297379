"""Step: check the data of a retrain's windows and compute its features, once for all candidates.

`python -m include.fraud.dataset --plan "$(cat plan.json)"`
"""

import hashlib
import io
import logging
from datetime import date

import fsspec
import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from include.command import BadInput, StepArgs, run
from include.fraud.features import features_by_chunk
from include.fraud.lake import Lake, days_between
from include.fraud.leak import refuse_leaks
from include.fraud.plan import Plan
from include.fraud.protocol import rows_to_test, rows_to_train
from include.fraud.windows import FEATURES
from include.settings import settings

log = logging.getLogger(__name__)


class Dataset(BaseModel):
    """Where the rows are, and what they are: the same rows always have the same digest."""

    model_config = ConfigDict(frozen=True)

    uri: str
    sha256: str
    rows: int
    frauds: int
    fraud_rate: float
    first: date
    last: date

    def read(self) -> pl.DataFrame:
        """Transactions with FEATURES and tx_fraud. Raises BadInput when the file is not the one that was written."""
        with fsspec.open(self.uri) as file:
            content = file.read()
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise BadInput(f"{self.uri} has SHA-256 {found}, the plan's is {self.sha256}; run the step dataset again")
        return pl.read_parquet(io.BytesIO(content))


class Args(StepArgs):
    """Check the data of the windows and compute the features."""

    plan: Plan


def main(args: Args) -> Dataset:
    """Answer: the data set's place, digest and size."""
    plan = args.plan
    lake = Lake(settings().lake_uri)
    _refuse_gaps(lake, plan)
    rows = pl.concat(features_by_chunk(lake, plan.first_scored, plan.fold.test_last, plan.as_of))
    unknown = rows["tx_fraud"].null_count()
    if unknown:
        raise BadInput(
            f"{unknown} of {len(rows)} transactions from {plan.first_scored} to {plan.fold.test_last} have no label on "
            f"{plan.as_of}; ingest the days again once the source has them"
        )
    # Each window must hold both classes, and no input may give the label away.
    training = rows_to_train(rows, plan.fold)
    for fold in (plan.fold, plan.fold.validation()):
        rows_to_train(rows, fold)
        rows_to_test(rows, fold)
    refuse_leaks(feature_matrix(training), training["tx_fraud"].to_numpy(), FEATURES)
    return write(lake, rows, plan)


def feature_matrix(rows: pl.DataFrame) -> NDArray[np.float32]:
    """The inputs of the model, [rows, 15], in the order of FEATURES and with the precision that the model is served."""
    return rows.select(pl.col(FEATURES).cast(pl.Float32)).to_numpy(order="c")


def write(lake: Lake, rows: pl.DataFrame, plan: Plan) -> Dataset:
    """Write the rows beside the lake's partitions, under a name that says which windows they are for."""
    buffer = io.BytesIO()
    rows.write_parquet(buffer, compression="zstd", compression_level=1)
    content = buffer.getvalue()
    digest = hashlib.sha256(content).hexdigest()
    name = f"training/as_of={plan.as_of}/{plan.first_scored}_{plan.fold.test_last}_{digest[:12]}.parquet"
    uri = lake.put(name, content)
    frauds = int(rows["tx_fraud"].sum())
    log.info("%d rows, %d frauds, %s to %s -> %s", len(rows), frauds, plan.first_scored, plan.fold.test_last, uri)
    return Dataset(
        uri=uri,
        sha256=digest,
        rows=len(rows),
        frauds=frauds,
        fraud_rate=frauds / len(rows),
        first=plan.first_scored,
        last=plan.fold.test_last,
    )


def _refuse_gaps(lake: Lake, plan: Plan) -> None:
    missing = sorted(set(days_between(plan.first_read, plan.fold.test_last)) - set(lake.days()))
    if missing:
        raise BadInput(
            f"the lake {lake.uri} has no transactions of {len(missing)} days that the windows need, from {missing[0]} "
            f"to {missing[-1]}; fill the gap with: "
            f"python -m include.fraud.ingest --first {missing[0]} --last {missing[-1]}"
            " (in Airflow: trigger ingest_transactions with these days)"
        )


if __name__ == "__main__":
    run(main)
