"""Which backups a rotation deletes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.backup.catalogue import Backup
from include.backup.manifest import Manifest, Verified, stem_of
from include.backup.rotate import DAY_SECONDS, expired

NOW = 1_800_000_000.0


def backup(number: int, age_days: float, verified: bool = True, whole: bool = True) -> Backup:
    ended = NOW - age_days * DAY_SECONDS
    stem = stem_of(number, ended)
    manifest = Manifest.model_construct(
        database="shop", number=number, stem=stem, ended=ended, size=100, sha256="x", file=f"{stem}.dump.gz"
    )
    mark = Verified(stem=stem, sha256="x", at=ended, seconds=1, server_version="15", compared=1) if verified else None
    return Backup(manifest, mark, 100 if whole else 99)


def gone(*found: Backup, days: int = 7, least: int = 2) -> list[int]:
    return [one.manifest.number for one in expired(found, NOW, days, least)]


def test_a_week_is_kept():
    assert gone(*(backup(20 - age, age) for age in range(12, -1, -1))) == [8, 9, 10, 11, 12]


@pytest.mark.parametrize(("least", "expected"), [(1, [1, 2]), (2, [1]), (3, []), (9, [])])
def test_so_many_verified_ones_stay_however_old(least, expected):
    assert gone(*(backup(number, 100) for number in (1, 2, 3)), least=least) == expected


def test_unverified_ones_do_not_count_and_go():
    found = [backup(1, 40), backup(2, 30, verified=False), backup(3, 20, verified=False), backup(4, 0, verified=False)]
    assert gone(*found, least=1) == [2, 3]


def test_a_damaged_one_does_not_count_as_good():
    assert gone(backup(1, 40), backup(2, 30, whole=False), backup(3, 0, verified=False), least=1) == [2]


def test_a_clock_set_back_deletes_nothing():
    assert gone(*(backup(number, -1000 + number) for number in range(1, 9)), least=1) == []


def test_a_clock_set_forward_leaves_the_least():
    assert gone(*(backup(number, 5000) for number in range(1, 9)), least=3) == [1, 2, 3, 4, 5]


def test_the_newest_stays_so_that_its_number_does_not_come_again():
    assert gone(backup(1, 40), backup(2, 30, verified=False), least=1) == []


BACKUPS = st.lists(st.tuples(st.floats(-20, 40), st.booleans(), st.booleans()), max_size=12)


@given(BACKUPS, st.integers(1, 10), st.integers(1, 5))
def test_whatever_there_is_the_newest_good_ones_stay(described, days, least):
    found = [backup(number, *one) for number, one in enumerate(described, start=1)]
    dead = gone(*found, days=days, least=least)
    good = [one.manifest.number for one in found if one.good]
    assert not set(good[-least:]) & set(dead)
    assert all(NOW - found[number - 1].manifest.ended > days * DAY_SECONDS for number in dead)
    old = [one.manifest.number for one in found[:-1] if NOW - one.manifest.ended > days * DAY_SECONDS]
    assert set(old) - set(good[-least:]) == set(dead)
