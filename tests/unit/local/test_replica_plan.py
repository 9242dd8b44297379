"""What to do next, for every state the replicas can be in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.local.replica_plan import Seen, Start, Stop, next_action


def replicas(described):
    """``"1+ 2- 2x"``: version 1 ready, version 2 not ready, version 2 ending; named a, b, c …"""
    return [
        Seen("abcdefghij"[place], word[0], ready=word[1] == "+", stopping=word[1] == "x")
        for place, word in enumerate(described.split())
    ]


@pytest.mark.parametrize(
    ("desired", "there", "expected"),
    [
        pytest.param(4, "", Start("2"), id="the first of all"),
        pytest.param(4, "2- 2- 2-", Start("2"), id="the first ones start together"),
        pytest.param(4, "2+ 2+ 2+ 2+", None, id="all as asked for"),
        pytest.param(4, "2- 2+ 2+ 2+", None, id="one starts, or fell ill: nobody starts beside it"),
        pytest.param(4, "1+ 1+ 1+ 1+", Start("2"), id="one new first"),
        pytest.param(4, "1+ 1+ 1+ 1+ 2-", None, id="wait until it is ready"),
        pytest.param(4, "1+ 1+ 1+ 1+ 2+", Stop("a"), id="then one old, the oldest"),
        pytest.param(4, "1x 1+ 1+ 1+ 2+", None, id="wait until it has gone"),
        pytest.param(4, "1+ 1+ 1+ 2+", Start("2"), id="then the next new one"),
        pytest.param(4, "1+ 2+ 2+ 2+ 2+", Stop("a"), id="the last old one"),
        pytest.param(4, "1+ 1- 1+ 1+ 2+", Stop("b"), id="an old one that does not serve goes first"),
        pytest.param(4, "1- 1+ 1+ 1+ 2-", None, id="an ill old one may recover while the new one starts"),
        pytest.param(4, "1- 1- 1- 1-", Start("2"), id="all old ones are bad"),
        pytest.param(4, "1- 1- 1- 1- 2+", Stop("a"), id="all old ones are bad, the first good one is there"),
        pytest.param(4, "2+ 2+ 2+ 2+ 3-", Stop("e"), id="undo: the bad one goes at once"),
        pytest.param(4, "2+ 2+ 2+ 3+ 3-", Stop("e"), id="undo half-way: who does not serve goes first"),
        pytest.param(4, "2+ 2+ 2+ 3+ 3x", None, id="undo half-way: wait until it has gone"),
        pytest.param(4, "2+ 2+ 2+ 3+", Start("2"), id="undo half-way: back one by one"),
        pytest.param(4, "2+ 2+ 2+ 3x", Start("2"), id="undo half-way: room for the next"),
        pytest.param(6, "2+ 2+ 2+ 2+", Start("2"), id="more are asked for"),
        pytest.param(4, "2+ 2+ 2+ 2+ 2+ 2+", Stop("f"), id="fewer: the youngest"),
        pytest.param(4, "2+ 2- 2+ 2+ 2+", Stop("b"), id="fewer: who does not serve"),
        pytest.param(4, "1+ 1+ 1+ 1+ 1+ 1+", Stop("a"), id="fewer and another version: the old ones"),
        pytest.param(4, "1+ 2+ 2+ 2+ 2+ 2+", Stop("a"), id="fewer in the middle of a rollout: the old one first"),
        pytest.param(4, "2+ 2+ 2+ 2x", Start("2"), id="one ends that was needed after all: the next beside it"),
        pytest.param(4, "2+ 2+ 2x 2x", Start("2"), id="never more than one above"),
        pytest.param(4, "2+ 2+ 2x 2x 2-", None, id="never more than one above, ending ones included"),
        pytest.param(0, "1+ 1- 3x", Stop("b"), id="none at all: who does not serve"),
        pytest.param(0, "1+ 3x", Stop("a"), id="none at all: the rest"),
        pytest.param(0, "3x", None, id="none at all: wait"),
        pytest.param(0, "", None, id="none at all"),
    ],
)
def test_next_action(desired, there, expected):
    assert next_action(desired, "2", replicas(there)) == expected


@given(
    st.integers(4, 6),
    st.lists(st.sampled_from(["1+", "1-", "2+", "2-", "3+", "3-"]), max_size=6),
    st.randoms(use_true_random=False),
)
def test_every_state_becomes_what_is_asked_for_and_never_serves_less(desired, there, random):
    now = replicas(" ".join(there))
    for step in range(200):
        count, serving = len(now), sum(each.ready and not each.stopping for each in now)
        action = next_action(desired, "2", now)
        if isinstance(action, Start):
            now.append(Seen(f"new {step}", action.version, ready=False))
            assert len(now) <= max(count, desired + 1)
        elif isinstance(action, Stop):
            now = [_changed(each, stopping=True) if each.name == action.name else each for each in now]
            left = sum(each.ready and not each.stopping for each in now)
            assert left >= min(serving, desired)
        else:
            waiting = [each for each in now if each.stopping or not each.ready]
            if not waiting:
                break
            each = random.choice(waiting)  # time passes: one has gone, or one has become ready
            now.remove(each)
            if not each.stopping:
                now.append(_changed(each, ready=True))
    assert [each.version for each in now] == ["2"] * desired


def _changed(seen, **changes):
    return Seen(**{**vars(seen), **changes})
