"""Backups that are old enough go, and nothing else, also when a rotation is killed at any of its steps."""

import time
from pathlib import Path

import pytest

from include.backup import dump, rotate
from include.backup.catalogue import backups
from include.backup.manifest import MANIFEST, VERIFIED, FileName, Manifest, Verified, stem_of
from include.backup.rotate import DAY_SECONDS
from include.backup.store import store
from tests.integration.backup.conftest import Room
from tests.integration.backup.kept import ended_at

pytestmark = pytest.mark.timeout(120)

FOREIGN = ("notes.txt", "000001-20200101T000000Z.sql", "1.json", "000009-20200101T000000Z.json.bak", "shop.dump.gz")


def put(uri: str, number: int, age_days: float, verified: bool = True) -> str:
    """A backup as it looks to who does not read the dump."""
    ended = time.time() - age_days * DAY_SECONDS
    stem = stem_of(number, ended)
    manifest = Manifest(
        database="shop", dbname="shop", number=number, stem=stem, codec="gzip", file=f"{stem}.dump.gz",
        server_version="15.18", server_version_num=150018, encoding="UTF8", collate="C", ctype="C", roles=[],
        extensions={}, owner="o", started=ended, ended=ended, lsn="0/0", snapshot="x", size=4, raw_size=4,
        database_size=4, sha256="x", contents=[], tools={}, seconds={"dump": 1},
    )  # fmt: skip
    kept = store(uri)
    kept.write_text(f"shop/{manifest.file}", "dump")
    kept.write_text(f"shop/{stem}{MANIFEST}", manifest.model_dump_json())
    if verified:
        mark = Verified(stem=stem, sha256="x", at=ended, seconds=1, server_version="15.18", compared=0)
        kept.write_text(f"shop/{stem}{VERIFIED}", mark.model_dump_json())
    return stem


@pytest.fixture(params=["folder", "fake_s3"])
def uri(request, tmp_path, monkeypatch) -> str:
    """An empty store."""
    found = str(tmp_path / "backups") if request.param == "folder" else request.getfixturevalue("fake_s3")
    monkeypatch.setenv("MLOPS_BACKUP_URI", found)
    rotate.settings.cache_clear()
    yield found
    rotate.settings.cache_clear()


def test_old_ones_go_and_nothing_else(uri):
    kept = store(uri)
    stems = [put(uri, number, age) for number, age in ((1, 30), (2, 9), (3, 6), (4, 1), (5, 0))]
    for name in FOREIGN:
        kept.write_text(f"shop/{name}", "not ours")
    kept.write_text("shop/000000-20200101T000000Z.json", "{unreadable")
    kept.write_text("shop/000000-20200101T000000Z.dump.gz", "of an unreadable manifest")
    kept.write_text("other/000001-20200101T000000Z.json", "of another database")
    answer = rotate.main(rotate.Args(database="shop"))
    assert answer == {"kept": stems[2:], "deleted": stems[:2]}
    names = kept.names("shop")
    assert set(FOREIGN) < set(names)
    assert {"000000-20200101T000000Z.json", "000000-20200101T000000Z.dump.gz"} < set(names)
    assert kept.names("other") == ["000001-20200101T000000Z.json"]
    assert not [name for name in names if name.startswith((stems[0], stems[1]))]
    assert rotate.main(rotate.Args(database="shop")) == {"kept": stems[2:], "deleted": []}, "again: nothing more"


def test_the_settings_are_obeyed(uri, monkeypatch):
    stems = [put(uri, number, 60 - number) for number in range(1, 6)]
    monkeypatch.setenv("MLOPS_BACKUP_LEAST", "2")
    rotate.settings.cache_clear()
    assert rotate.main(rotate.Args(database="shop"))["kept"] == stems[3:]
    monkeypatch.setenv("MLOPS_BACKUP_LEAST", "1")
    rotate.settings.cache_clear()
    assert rotate.main(rotate.Args(database="shop"))["kept"] == stems[4:]


def test_the_last_verified_one_stays_however_many_failed_after_it(uri):
    good = put(uri, 1, 300)
    bad = [put(uri, number, 100 - number, verified=False) for number in range(2, 6)]
    answer = rotate.main(rotate.Args(database="shop"))
    assert answer == {"kept": [good, bad[-1]], "deleted": bad[:-1]}


@pytest.mark.parametrize("uri", ["folder"], indirect=True)
def test_a_mark_or_manifest_of_another_backup_counts_for_nothing(uri, caplog):
    good, other = put(uri, 1, 300), put(uri, 2, 200, verified=False)
    put(uri, 3, 100, verified=False)
    folder = Path(uri) / "shop"
    (folder / f"{other}{VERIFIED}").write_text((folder / f"{good}{VERIFIED}").read_text())
    (folder / f"000004-20260101T000000Z{MANIFEST}").write_text((folder / f"{good}{MANIFEST}").read_text())
    assert rotate.main(rotate.Args(database="shop"))["deleted"] == [other]
    assert "marks another backup" in caplog.text
    assert "is the manifest of" in caplog.text
    assert (folder / f"000004-20260101T000000Z{MANIFEST}").exists(), "left alone"


@pytest.mark.parametrize("uri", ["folder"], indirect=True)
def test_a_power_cut_at_every_step_of_a_rotation(uri):
    """Whenever it ends: what still looks like a backup is whole, the good ones are there, and the next one ends it."""
    killed = 0
    while True:
        for name in store(uri).names("shop"):
            store(uri).delete(f"shop/{name}")
        old = [put(uri, number, 100 - number) for number in (1, 2)]
        new = [put(uri, number, 100 - number) for number in (3, 4, 5)]
        if not ended_at(killed + 1, lambda: rotate.main(rotate.Args(database="shop"))):
            break
        killed += 1
        left = backups(store(uri), "shop")
        assert all(backup.whole for backup in left), f"killed at step {killed}"
        assert [backup.manifest.stem for backup in left if backup.good][-3:] == new
        assert {backup.manifest.stem for backup in left} <= {*old, *new}
        rotate.main(rotate.Args(database="shop"))
        assert dump.clean(store(uri), "shop") == 6
        ours = {parsed.stem for name in store(uri).names("shop") if (parsed := FileName.parse(name))}
        assert ours == set(new), "what was left of those half deleted is gone"
        assert len(store(uri).names("shop")) == 9
    assert killed >= 12, "two backups of three files each, a deletion and an fsync for each"


def test_as_a_step(room: Room):
    stems = [put(room.uri, number, 60 - number) for number in range(1, 6)]
    done = room.step("rotate", "--database", "shop")
    assert done.code == 0
    assert done.answer == {"kept": stems[2:], "deleted": stems[:2]}
    assert room.step("rotate", "--database", "").code == 2
    listed = room.step("list")
    assert [backup["stem"] for backup in listed.answer["databases"]["shop"]] == stems[:1:-1]
    assert stems[4] in listed.log
    assert "verified" in listed.log
