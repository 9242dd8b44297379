"""What may be committed: whatever the order of the outcomes, nothing without one."""

import random

from hypothesis import given
from hypothesis import strategies as st

from include.streaming.offsets import UNKNOWN, Progress


@given(st.integers(0, 2**32), st.integers(1, 60), st.integers(0, 1000))
def test_never_beyond_the_first_without_outcome(seed, number, begin):
    order = list(range(begin, begin + number))
    progress = Progress("t", 0, begin)
    for offset in order:
        progress.read(offset)
    random.Random(seed).shuffle(order)
    for at, offset in enumerate(order):
        progress.finish(offset)
        assert progress.position == min(order[at + 1 :], default=begin + number)


def test_nothing_read_is_nothing_to_commit():
    assert not Progress("t", 0).to_commit
    assert not Progress("t", 0, begin=5).to_commit


def test_begins_where_the_first_message_is_when_nothing_was_committed():
    progress = Progress("t", 0, UNKNOWN)
    assert progress.read(7) == 0
    assert progress.position == 7
    progress.finish(7)
    assert progress.position == 8
    assert progress.to_commit


def test_offsets_that_are_gone_are_told():
    progress = Progress("t", 0, begin=3)
    assert progress.read(10) == 7
    assert progress.read(11) == 0
    progress.finish(11)
    assert progress.position == 10
    progress.finish(10)
    assert progress.position == 12
