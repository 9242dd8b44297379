"""Which backup a name means."""

import pytest

from include.backup.catalogue import backups, choose
from include.backup.manifest import Manifest, Verified, stem_of
from include.backup.store import store
from include.command import BadInput


@pytest.fixture
def kept(tmp_path):
    """Backups 1 (verified), 2 (verified, but truncated since) and 3 (not verified), each of four bytes."""
    found = store(str(tmp_path))
    for number, size, verified in ((1, 4, True), (2, 3, True), (3, 4, False)):
        stem = stem_of(number, number * 1e6)
        manifest = Manifest(
            database="shop", dbname="shop", number=number, stem=stem, codec="gzip", file=f"{stem}.dump.gz",
            server_version="15.18", server_version_num=150018, encoding="UTF8", collate="C", ctype="C", roles=[],
            extensions={}, owner="o", started=1, ended=1, lsn="0/0", snapshot="x", size=4, raw_size=4,
            database_size=4, sha256="x", contents=[], tools={}, seconds={"dump": 1},
        )  # fmt: skip
        found.write_text(f"shop/{manifest.file}", "dump"[:size])
        found.write_text(f"shop/{stem}.json", manifest.model_dump_json())
        if verified:
            mark = Verified(stem=stem, sha256="x", at=1, seconds=1, server_version="15.18", compared=0)
            found.write_text(f"shop/{stem}.verified.json", mark.model_dump_json())
    return found


@pytest.mark.parametrize(
    ("name", "number"),
    [("latest", 1), ("newest", 3), ("2", 2), ("000002", 2), (stem_of(3, 3e6), 3), (stem_of(2, 2e6), 2)],
)
def test_names(kept, name, number):
    assert choose(kept, "shop", name).manifest.number == number


def test_latest_says_why_it_is_not_the_newest(kept, caplog):
    choose(kept, "shop", "latest")
    assert f"{stem_of(1, 1e6)} is not the newest of 'shop': {stem_of(3, 3e6)} is not verified" in caplog.text


def test_verdicts(kept):
    kept.delete(f"shop/{stem_of(3, 3e6)}.dump.gz")
    verdicts = [backup.verdict for backup in backups(kept, "shop")]
    assert verdicts == ["verified", "damaged: 3 bytes, not 4", "its file is missing"]


@pytest.mark.parametrize("name", ["4", "", "last", "../1", stem_of(1, 2e6), "²", "0" * 5000])
def test_another_name_is_told_what_there_is(kept, name):
    with pytest.raises(BadInput) as refused:
        choose(kept, "shop", name)
    assert all(f"{stem_of(number, number * 1e6)} (" in str(refused.value) for number in (1, 2, 3))


def test_another_database_is_told_which_there_are(kept):
    with pytest.raises(BadInput, match=r"has none of it at all \(it has shop\); make one with: python -m include"):
        choose(kept, "store", "latest")
