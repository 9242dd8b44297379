"""Windows come from the as-of date, and nothing overlaps."""

from datetime import date, timedelta

import pytest
from pydantic import ValidationError

from include.command import BadInput
from include.fraud.candidates import CANDIDATES
from include.fraud.form import RetrainForm
from include.fraud.plan import Args, main, plan
from include.fraud.windows import HISTORY_DAYS, LABEL_DELAY_DAYS

AS_OF = date(2018, 8, 21)


def test_the_published_windows():
    made = plan(AS_OF, RetrainForm())
    assert (made.fold.train_first, made.fold.train_last) == (date(2018, 7, 25), date(2018, 7, 31))
    assert (made.fold.test_first, made.fold.test_last) == (date(2018, 8, 8), date(2018, 8, 14))
    assert made.first_scored == date(2018, 7, 11)
    assert made.first_read == date(2018, 7, 11) - timedelta(days=HISTORY_DAYS)


@pytest.mark.parametrize(("train", "gap", "test"), [(7, 7, 7), (28, 7, 7), (7, 14, 3), (1, 7, 1), (90, 60, 28)])
def test_windows_never_overlap_and_all_labels_are_known(train, gap, test):
    made = plan(AS_OF, RetrainForm(train_days=train, gap_days=gap, test_days=test))
    fold, validation = made.fold, made.fold.validation()
    assert fold.test_last == AS_OF - timedelta(days=LABEL_DELAY_DAYS)
    for one in (fold, validation):
        assert (one.test_first - one.train_last).days == gap + 1
        assert one.test_last >= one.test_first
    # What parameters are chosen on ends before the test begins, with its labels known by then.
    assert validation.test_last + timedelta(days=LABEL_DELAY_DAYS) < fold.test_first


@pytest.mark.parametrize("gap", [-3, 0, 6])
def test_windows_that_overlap_what_is_known_are_refused(gap):
    with pytest.raises(BadInput, match=f"gap_days={gap}: the windows overlap"):
        plan(AS_OF, RetrainForm(gap_days=gap))


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"candidates": ["random_forrest"]}, "random_forest"),
        ({"candidates": []}, "at least 1"),
        ({"train_days": 0}, "greater than or equal to 1"),
        ({"rule": "best"}, "'better' or 'not_worse'"),
        ({"colour": "red"}, "Extra inputs"),
        ({"floor": 1.5}, "less than or equal to 1"),
    ],
)
def test_a_form_that_cannot_be_is_refused(form, said):
    with pytest.raises(ValidationError, match=said):
        RetrainForm(**form)


def test_the_form_offers_every_candidate():
    assert set(RetrainForm().candidates) == set(CANDIDATES)


def test_the_answer_can_be_read_back():
    args = Args(as_of=AS_OF, form=RetrainForm(train_days=14, dry_run=True))
    answer = main(args)
    assert answer["windows"]["train"] == "2018-07-18 to 2018-07-31"
    assert type(plan(AS_OF, args.form)).model_validate(answer) == plan(AS_OF, args.form)
