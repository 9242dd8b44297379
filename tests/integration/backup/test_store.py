"""A file is there whole or not at all, in a folder and in a bucket alike. `fake_s3` is moto's server, not S3."""

import os

import pytest

from include.backup import store as stores
from include.backup.store import Store, store
from include.command import BadInput

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(params=["folder", "fake_s3"])
def kept(request, tmp_path) -> Store:
    return store(str(tmp_path / "deep" / "store") if request.param == "folder" else request.getfixturevalue("fake_s3"))


def test_an_empty_store(kept):
    assert kept.folders() == []
    assert kept.sizes("shop") == {}
    with pytest.raises(FileNotFoundError):
        kept.read_text("shop/none")
    kept.delete("shop/none")
    kept.delete("shop/.partial-none")


def test_what_is_written_is_read(kept):
    kept.write_text("shop/b.json", "déjà vu")
    kept.write_text("shop/a.json", "x")
    kept.write_text("a%2Fb/c.json", "")
    assert kept.read_text("shop/b.json") == "déjà vu"
    assert kept.sizes("shop") == {"a.json": 1, "b.json": 9}
    assert kept.folders() == ["a%2Fb", "shop"]
    kept.write_text("shop/a.json", "another")
    assert kept.read_text("shop/a.json") == "another"
    kept.delete("shop/a.json")
    assert kept.names("shop") == ["b.json"]


@pytest.mark.parametrize("size", [10, 40 * 2**20])
def test_it_is_not_there_before_the_block_ends(kept, size):
    with kept.write("shop/a.dump.gz") as file:
        for _ in range(size // 10 // 2**18 + 1):
            file.write(os.urandom(10 * min(2**18, size // 10)))
        assert "a.dump.gz" not in kept.names("shop")
    assert kept.sizes("shop")["a.dump.gz"] >= size
    with kept.open("shop/a.dump.gz") as file:
        assert sum(len(piece) for piece in iter(lambda: file.read(2**18), b"")) == kept.sizes("shop")["a.dump.gz"]


@pytest.mark.parametrize("size", [10, 40 * 2**20])
def test_a_block_that_raises_leaves_nothing_and_the_old_one(kept, size):
    kept.write_text("shop/a.json", "old")
    written = kept.write("shop/a.json")
    written.__enter__().write(b"x" * size)
    assert not written.__exit__(ZeroDivisionError, ZeroDivisionError(), None), "the error goes on"
    assert kept.sizes("shop") == {"a.json": 3}
    assert kept.read_text("shop/a.json") == "old"


def test_what_a_killed_writer_left_is_seen_and_deleted(kept):
    unended = kept.write("shop/a.dump.gz")
    unended.__enter__().write(b"x" * 40 * 2**20)
    other = kept.write("shop/a.dump.gz2")
    other.__enter__().write(b"x" * 40 * 2**20)
    assert kept.sizes("shop") == {".partial-a.dump.gz": 0, ".partial-a.dump.gz2": 0}
    kept.delete("shop/.partial-a.dump.gz")
    assert kept.names("shop") == [".partial-a.dump.gz2"], "and only that one"
    assert not other.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert kept.names("shop") == []


def test_files_are_for_their_owner_and_group(tmp_path):
    store(str(tmp_path / "store")).write_text("shop/a.json", "x")
    assert (tmp_path / "store" / "shop" / "a.json").stat().st_mode & 0o007 == 0
    assert (tmp_path / "store" / "shop").stat().st_mode & 0o007 == 0


def test_written_means_on_the_disk(tmp_path, monkeypatch):
    """File first, then its name, then the folder that holds the name."""
    did = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda handle: (did.append(os.readlink(f"/proc/self/fd/{handle}")), fsync(handle)))
    monkeypatch.setattr(os, "rename", lambda one, other: (did.append("rename"), rename(one, other)))
    store(str(tmp_path)).write_text("shop/a.json", "x")
    assert did[:3] == [f"{tmp_path}/shop/.partial-a.json", "rename", f"{tmp_path}/shop"]


def test_a_bucket_that_is_not_there_is_bad_input(fake_s3):
    with pytest.raises(BadInput, match="create the bucket or correct MLOPS_BACKUP_URI"):
        store("s3://no-such-bucket/x").write_text("shop/a.json", "x")


def test_a_bucket_needs_no_more_memory_for_more_data(fake_s3, monkeypatch):
    """What is held is one part."""
    monkeypatch.setattr(stores, "PART_BYTES", 5 * 2**20)
    with store(fake_s3).write("shop/a.dump.gz") as file:
        for _ in range(30):
            file.write(b"x" * 2**20)
            assert file.buffer.tell() <= 6 * 2**20
