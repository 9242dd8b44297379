"""What a person may choose when a retrain, or an ingest, is started by hand. The trigger forms are made from this."""

from datetime import date
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

CandidateName = Literal[
    "blend", "extra_trees", "random_forest", "decision_tree", "logistic_regression"
]  # slowest first
Rule = Literal["better", "not_worse"]


class IngestForm(BaseModel):
    """Fields of `ingest_transactions`."""

    model_config = ConfigDict(extra="forbid")

    first: date | None = Field(None, title="First day", description="empty: the day before the logical date")
    last: date | None = Field(None, title="Last day", description="empty: the day before the logical date")


class RetrainForm(BaseModel):
    """Fields of `retrain_model`."""

    model_config = ConfigDict(extra="forbid")

    as_of: date | None = Field(
        None, title="As of", description="last day whose data may be used; empty: the day before the logical date"
    )
    train_days: int = Field(
        7, ge=1, le=90, title="Training window, days", description="ends where the gap before the test window begins"
    )
    gap_days: int = Field(7, le=60, title="Gap, days", description="between training and test; labels are 7 days late")
    test_days: int = Field(
        7, ge=1, le=28, title="Test window, days", description="the newest days whose labels are all known"
    )
    candidates: list[CandidateName] = Field(
        list(get_args(CandidateName)),
        min_length=1,
        title="Candidates",
        description="models to train; the best one on the validation week meets the champion",
        # Airflow's form offers examples as a list to choose several from.
        json_schema_extra={"examples": list(get_args(CandidateName))},
    )
    rule: Rule = Field(
        "better",
        title="Promotion rule",
        description="better: surely better than the champion; not_worse: surely not worse by more than the margin",
    )
    margin: float = Field(
        0.01, ge=0, le=1, title="Margin", description="average precision that `not_worse` may lose at the most"
    )
    floor: float = Field(
        0.1, ge=0, le=1, title="Floor", description="average precision below which nothing is promoted"
    )
    dry_run: bool = Field(False, title="Dry run", description="compare and report; register and promote nothing")
