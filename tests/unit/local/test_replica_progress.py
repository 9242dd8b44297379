"""When a rollout is under way, and when it is overdue."""

from include.local.replica_progress import Counts, Progress


def rollout():
    progress = Progress(deadline=120)
    progress.begin(0)
    progress.observe(0, Counts(desired=4, updated=1, updated_ready=0, outdated=4))
    return progress


def test_without_a_rollout_nothing_is_overdue():
    progress = Progress(deadline=120)
    progress.observe(0, Counts(4, 0, 0, 4))
    assert not progress.rolling
    assert not progress.exceeded(1e9)


def test_each_replica_gets_the_deadline_anew():
    progress = rollout()
    assert not progress.exceeded(120)
    assert progress.exceeded(121)
    progress.observe(100, Counts(4, 1, 1, 4))
    assert not progress.exceeded(220)
    assert progress.exceeded(221)
    progress.observe(200, Counts(4, 1, 1, 3))
    assert not progress.exceeded(320)


def test_a_replica_that_comes_and_goes_makes_no_progress():
    progress = rollout()
    for now in range(0, 200, 10):
        progress.observe(now, Counts(4, 1, now // 10 % 2, 4))
    assert progress.exceeded(140)


def test_done_when_all_are_ready_and_the_old_ones_gone():
    progress = rollout()
    for counts in (Counts(4, 4, 4, 1), Counts(4, 4, 3, 0), Counts(4, 3, 3, 0), Counts(5, 4, 4, 0)):
        progress.observe(10, counts)
        assert progress.rolling, counts
    progress.observe(20, Counts(4, 4, 4, 0))
    assert not progress.rolling


def test_what_dies_later_is_no_rollout():
    progress = rollout()
    progress.observe(20, Counts(4, 4, 4, 0))
    progress.observe(30, Counts(4, 4, 2, 0))
    assert not progress.rolling
    assert not progress.exceeded(1000)


def test_overdue_is_taken_back_when_it_goes_on_after_all():
    progress = rollout()
    assert progress.exceeded(130)
    progress.observe(130, Counts(4, 1, 1, 4))
    assert not progress.exceeded(131)


def test_another_version_begins_anew():
    progress = rollout()
    progress.begin(500)
    progress.observe(500, Counts(4, 4, 4, 1))
    assert progress.rolling
    assert not progress.exceeded(620)
    assert progress.exceeded(621)
