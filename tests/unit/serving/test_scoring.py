"""Requests gather into batches; each gets its own answers; too many are refused."""

import asyncio
import math

import pytest

from include.serving import scoring
from include.serving.feature_store import FeatureStore
from include.serving.model import Model
from include.serving.scoring import BATCH_ROWS, QUEUE_ROWS, QueueFull, Scorer
from include.serving.snapshot import Snapshot
from tests.unit.serving.conftest import sent


@pytest.fixture
def scorer(make_package, monkeypatch):
    """With the batches it scored, as `sizes`."""
    folder = make_package()
    model = Model(folder)
    scorer = Scorer(model, FeatureStore("", None, Snapshot(model.snapshot)))
    scorer.sizes = []
    score = scorer.score

    async def seen(transactions):
        scorer.sizes.append(len(transactions))
        return await score(transactions)

    monkeypatch.setattr(scorer, "score", seen)
    return scorer


def submitted(scorer, *requests, **options):
    """The outcome of each request, sent at once."""

    async def send():
        waiting = [asyncio.ensure_future(scorer.submit(request, **options)) for request in requests]
        await asyncio.sleep(0)
        scorer.start()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        await scorer.stop()
        return outcomes

    return asyncio.run(send())


def test_requests_share_a_batch_and_each_gets_its_own(scorer):
    one, two = submitted(scorer, [sent(5, amount=100)], [sent(3), sent(4, amount=200)])
    assert scorer.sizes == [3]
    assert [each.transaction_id for each in one + two] == [5, 3, 4]
    expected = [1 / (1 + math.exp(-amount / 100)) for amount in (100, 1, 200)]
    assert [each.probability for each in one + two] == pytest.approx(expected, abs=1e-6)
    assert [each.decision for each in one + two] == ["review", "accept", "review"]
    assert {each.model_version for each in one + two} == {"4"}


def test_batches_are_bounded_but_a_request_is_not_torn(scorer):
    answers = submitted(scorer, [sent(n) for n in range(BATCH_ROWS + 9)], *([sent(n)] for n in range(BATCH_ROWS + 1)))
    assert scorer.sizes == [BATCH_ROWS + 9, BATCH_ROWS, 1]
    assert [each.transaction_id for answer in answers[1:] for each in answer] == list(range(BATCH_ROWS + 1))


@pytest.mark.parametrize("rows", [QUEUE_ROWS, QUEUE_ROWS + 1])
def test_more_than_may_wait_are_refused_but_never_the_first(scorer, rows):
    answers = submitted(scorer, [sent(n) for n in range(rows)], [sent(1)])
    assert [type(one) for one in answers] == [list, QueueFull]


def test_a_batch_that_fails_fails_alone(scorer, monkeypatch):
    probabilities = scorer.model.probabilities

    def failing(inputs):
        if len(inputs) == 2:
            raise RuntimeError("out of memory")
        return probabilities(inputs)

    monkeypatch.setattr(scorer.model, "probabilities", failing)
    monkeypatch.setattr(scoring, "BATCH_ROWS", 2)
    good, bad, after = submitted(scorer, [sent(n) for n in range(3)], [sent(1), sent(2)], [sent(3)])
    assert len(good) == 3
    assert isinstance(bad, RuntimeError)
    assert after[0].transaction_id == 3


def test_inputs_are_told_only_when_asked(scorer):
    ((told,),) = submitted(scorer, [sent(1, amount=2.5)], explain=True)
    assert told.inputs["tx_amount"] == 2.5
    assert told.inputs["customer_nb_tx_1d"] == 2  # the snapshot's and itself


def test_from_the_snapshot_is_degraded_except_golden(scorer):
    ((known, golden),) = submitted(scorer, [sent(1), sent(-1, customer=-1)])
    assert known.degraded
    assert golden.degraded  # its terminal is not a golden one
