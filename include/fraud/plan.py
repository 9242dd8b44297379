"""Step: choose the windows of a retrain from its as-of date, never from the clock.

`python -m include.fraud.plan --as-of 2025-06-29 --form '{"rule": "better"}'`
"""

from datetime import date, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict

from include.command import BadInput, StepArgs, run
from include.fraud.form import CandidateName, RetrainForm, Rule
from include.fraud.protocol import Fold
from include.fraud.windows import HISTORY_DAYS, LABEL_DELAY_DAYS


class Plan(BaseModel):
    """Everything that the later steps of a retrain need to know."""

    model_config = ConfigDict(frozen=True)

    as_of: date
    fold: Fold
    candidates: list[CandidateName]
    rule: Rule
    margin: float
    floor: float
    dry_run: bool

    @property
    def first_scored(self) -> date:
        """The first day whose features are needed: the validation fold's first training day."""
        return self.fold.validation().train_first

    @property
    def first_read(self) -> date:
        """The first day whose transactions are needed: the features of `first_scored` look back from there."""
        return self.first_scored - timedelta(days=HISTORY_DAYS)


class Args(StepArgs):
    """Choose the windows of a retrain."""

    as_of: date
    form: RetrainForm


def plan(as_of: date, form: RetrainForm) -> Plan:
    """The newest test window whose labels are all known on `as_of`, and the training window before it."""
    if form.gap_days < LABEL_DELAY_DAYS:
        raise BadInput(
            f"gap_days={form.gap_days}: the windows overlap what is known; labels are {LABEL_DELAY_DAYS} days late, "
            f"so at the test window's first day no label of the gap has arrived; "
            f"set gap_days to {LABEL_DELAY_DAYS} or more"
        )
    test_last = as_of - timedelta(days=LABEL_DELAY_DAYS)
    train_last = test_last - timedelta(days=form.test_days + form.gap_days)
    fold = Fold(
        train_first=train_last - timedelta(days=form.train_days - 1),
        train_days=form.train_days,
        delay_days=form.gap_days,
        test_days=form.test_days,
    )
    return Plan(as_of=as_of, fold=fold, **form.model_dump(include=Plan.model_fields.keys() - {"as_of", "fold"}))


def main(args: Args) -> dict[str, Any]:
    """The plan, with the windows' last days spelled out for whoever reads the task's answer."""
    made = plan(args.as_of, args.form)
    fold = made.fold
    windows = {
        "train": f"{fold.train_first} to {fold.train_last}",
        "test": f"{fold.test_first} to {fold.test_last}",
        "validation": f"{fold.validation().test_first} to {fold.validation().test_last}",
        "reads": f"{made.first_read} to {fold.test_last}",
    }
    return {**made.model_dump(mode="json"), "windows": windows}


if __name__ == "__main__":
    run(main)
