"""The HPA's formula."""

import pytest

from include.local.autoscaler import (
    MEBIBYTE,
    Autoscaler,
    Figures,
    Requests,
    Targets,
    Usage,
    as_percent,
    cpu_figures,
    proposed,
)

REQUEST = 0.1  # cores; so 0.08 is a ratio of 1
IDLE = Usage(cpu=0.01, memory=10 * MEBIBYTE)
BUSY = Usage(cpu=0.2, memory=10 * MEBIBYTE)


def cores(*percent_of_request):
    return tuple(REQUEST * each / 100 for each in percent_of_request)


@pytest.mark.parametrize(
    ("current", "figures", "expected"),
    [
        pytest.param(4, Figures(cores(80, 80, 80, 80)), 4, id="at the target"),
        pytest.param(4, Figures(cores(88, 88, 88, 88)), 4, id="ratio 1.1 is tolerated"),
        pytest.param(4, Figures(cores(89, 89, 89, 89)), 5, id="a little more is not"),
        pytest.param(6, Figures(cores(72, 72, 72, 72, 72, 72)), 6, id="ratio 0.9 is tolerated"),
        pytest.param(6, Figures(cores(66, 66, 66, 66, 66, 66)), 5, id="ratio 0.825 of six is rounded up to five"),
        pytest.param(6, Figures(cores(67, 67, 67, 67, 67, 67)), 6, id="ratio 0.8375 of six is rounded up to six"),
        pytest.param(4, Figures(cores(160, 160, 160, 160)), 8, id="twice the target"),
        pytest.param(4, Figures(cores(320, 0, 0, 0)), 4, id="the mean counts, not the hottest"),
        pytest.param(4, Figures(cores(40, 40, 40, 40)), 2, id="half the target"),
        pytest.param(4, Figures(()), None, id="nobody was measured"),
        # 3 at 160 %: alone a ratio of 2; with the fourth at 0, 120 % of 80 %
        pytest.param(4, Figures(cores(160, 160, 160), missing=1), 6, id="missing counts as 0 upwards"),
        pytest.param(4, Figures(cores(100, 100, 100), missing=1), 4, id="missing turns it round: nothing changes"),
        # 3 at 40 %: alone 2; with the fourth at 100 % of its request, 55 % of 80 %
        pytest.param(4, Figures(cores(40, 40, 40), missing=1), 3, id="missing counts as its request downwards"),
        # 3 at 20 %: alone 1; with three more at 100 %, 60 % of 80 % of six
        pytest.param(6, Figures(cores(20, 20, 20), missing=3), 5, id="the whole request, not the target"),
        pytest.param(4, Figures(cores(160), missing=3), 4, id="missing turns it round far: nothing changes"),
        pytest.param(4, Figures(cores(64, 64, 64), missing=1), 4, id="missing downwards within the tolerance"),
        pytest.param(4, Figures(cores(80, 80, 80), missing=1), 4, id="missing at the target itself"),
        pytest.param(5, Figures(cores(160, 160, 160, 160), unready=1), 8, id="unready counts as 0 upwards"),
        pytest.param(5, Figures(cores(100, 100, 100, 100), unready=1), 5, id="unready turns it round"),
        pytest.param(5, Figures(cores(40, 40, 40, 40), unready=1), 2, id="unready is set aside downwards"),
        pytest.param(6, Figures(cores(130, 130, 130), unready=1), 6, id="would be fewer though it asks for more"),
    ],
)
def test_one_metric(current, figures, expected):
    assert proposed(current, figures, REQUEST, 80) == expected


def test_cpu_of_the_starting_is_set_aside():
    starting = Usage(cpu=5.0, memory=1.0, ready=False)
    blind = Usage(cpu=None, memory=1.0)
    assert cpu_figures([IDLE, starting, blind]) == Figures((0.01,), missing=1, unready=1)


def scaler(**targets):
    return Autoscaler(Requests(cpu=REQUEST, memory=100 * MEBIBYTE), Targets(**targets))


def later(current, usages):
    """What it says when it has looked at the same for longer than the window."""
    autoscaler = scaler()
    return [autoscaler.desired(now, current, usages) for now in (0, 301)][1]


def test_never_fewer_than_four_never_more_than_six():
    assert scaler().desired(0, 4, [BUSY] * 4) == 6
    assert later(6, [IDLE] * 6) == 4


def test_the_higher_metric_wins():
    full = Usage(cpu=0.08, memory=100 * MEBIBYTE)  # 100 of 70 %: ceil(1.43 * 4) = 6
    assert scaler().desired(0, 4, [full] * 4) == 6


def test_memory_of_the_starting_counts():
    filled = Usage(cpu=None, memory=87 * MEBIBYTE, ready=False)
    assert scaler().desired(0, 4, [filled] * 4) == 5


def test_half_blind_it_takes_nothing_away():
    blind = Usage(cpu=None, memory=10 * MEBIBYTE)
    assert later(6, [blind] * 6) == 6
    assert later(6, []) == 6


def test_up_at_once_and_down_after_the_window():
    autoscaler = scaler()
    assert autoscaler.desired(0, 4, [BUSY] * 4) == 6
    current = 6
    went_down = None
    for now in range(15, 601, 15):
        wanted = autoscaler.desired(now, current, [IDLE] * 6)
        if wanted < current and went_down is None:
            went_down = now
        current = wanted
    assert (went_down, current) == (315, 4), "300 s after the last recommendation of more"


def test_one_peak_within_the_window_keeps_them():
    autoscaler = scaler()
    autoscaler.desired(0, 6, [BUSY] * 6)
    for now in range(15, 300, 15):
        autoscaler.desired(now, 6, [IDLE] * 6)
    autoscaler.desired(300, 6, [BUSY] * 6)
    assert [autoscaler.desired(now, 6, [IDLE] * 6) for now in (315, 600, 615)] == [6, 6, 4]


def test_a_new_autoscaler_takes_nothing_away_at_once():
    autoscaler = scaler()
    assert [autoscaler.desired(now, 6, [IDLE] * 6) for now in (0, 300, 301)] == [6, 6, 4]


def test_the_highest_recommendation_of_the_window_counts():
    autoscaler = scaler(scale_down_window=100)
    five = Usage(cpu=0.066, memory=1.0)
    autoscaler.desired(0, 6, [five] * 6)
    autoscaler.desired(50, 6, [five] * 6)
    assert autoscaler.desired(110, 6, [IDLE] * 6) == 5


def test_percent_for_people():
    assert as_percent([IDLE, BUSY], Requests(REQUEST, 100 * MEBIBYTE)) == {"cpu": 105, "memory": 10}
    assert as_percent([], Requests()) == {"cpu": None, "memory": None}
