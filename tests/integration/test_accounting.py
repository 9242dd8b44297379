"""A small run of `bench/accounting.py`: the real scorer, both kills, nothing unaccounted for."""

import pytest

from bench.accounting import MALFORMED_EVERY, account
from tests.integration.serving.conftest import packed, small_lake  # noqa: F401 - fixtures

COUNT = 30_000


@pytest.mark.timeout(1200)
def test_every_message_has_an_answer_although_broker_and_scorer_are_killed(tmp_path, packed):  # noqa: F811
    found = account(tmp_path, packed, COUNT)
    assert found["acked"] == found["sent"] == COUNT
    assert found["unaccounted"] == found["failed"] == 0
    assert found["dead_lettered"] == found["malformed"] == COUNT // MALFORMED_EVERY
    assert found["predicted"] + found["dead_lettered"] == COUNT
    written = found["written"]
    assert written["transactions-input"] == COUNT
    answers = found["predicted"] + found["dead_lettered"] + found["duplicates"]
    assert written["fraud-predictions"] + written["transactions-dlq"] == answers
