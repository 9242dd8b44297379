"""Which of several versions of PostgreSQL's programs is taken."""

import pytest

from include.backup import programs
from include.backup.programs import program
from include.command import BadInput


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install `pg_dump` of a version into a folder of that name; folders of PATH are named."""

    def put(*versions, path=()):
        for version in versions:
            folder = tmp_path / version
            folder.mkdir()
            (folder / "pg_dump").write_text(f"#!/bin/sh\necho 'pg_dump (PostgreSQL) {version.split('-')[0]} (test)'\n")
            (folder / "pg_dump").chmod(0o755)
        monkeypatch.setattr(programs, "FOLDERS", f"{tmp_path}/debian-*".lstrip("/"))
        monkeypatch.setenv("PATH", ":".join([*(str(tmp_path / name) for name in path), "/usr/bin", "/bin"]))
        programs.said_version.cache_clear()
        return lambda at_least: program("pg_dump", at_least).removeprefix(f"{tmp_path}/").removesuffix("/pg_dump")

    return put


def test_the_oldest_that_is_new_enough(install):
    chosen = install("14.2", "16.1", "17.0", path=("14.2", "17.0", "16.1"))
    assert [chosen(version) for version in (14, 15, 16, 17)] == ["14.2", "16.1", "16.1", "17.0"]


def test_the_first_in_path_among_equals(install):
    assert install("15.3-b", "15.3-a", path=("15.3-b", "15.3-a"))(15) == "15.3-b"


def test_debians_wrapper_is_passed_over(install, tmp_path):
    chosen = install("15.3-wrapper", "15.3-real", path=("15.3-wrapper", "15.3-real"))
    (tmp_path / "15.3-wrapper" / "pg_dump").rename(tmp_path / "15.3-wrapper" / "pg_wrapper")
    (tmp_path / "15.3-wrapper" / "pg_dump").symlink_to("pg_wrapper")
    assert chosen(15) == "15.3-real"


def test_none_that_is_new_enough_names_the_package(install):
    chosen = install("14.2", path=("14.2",))
    with pytest.raises(BadInput, match=r"14\.2/pg_dump is of version 14.*apt-get install postgresql-client-99"):
        chosen(99)
