"""What a database's folder and a backup's files are called."""

from pathlib import PurePosixPath
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.backup.manifest import FileName, folder_of, stem_of
from include.command import BadInput

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.sampled_from([".", "..", "../x", "a/b", "~"])


@given(NAMES)
def test_a_folder_is_one_component_below_the_store(name):
    folder = folder_of(name)
    assert PurePosixPath("/store", folder).parent == PurePosixPath("/store")
    assert folder not in {".", ".."}
    assert "/" not in folder
    assert "\\" not in folder
    assert unquote(folder) == name, "so no two databases share a folder"


def test_an_empty_name_is_refused():
    with pytest.raises(BadInput, match="PGSERVICEFILE"):
        folder_of("")


@given(st.integers(1, 10**9), st.floats(0, 4e9), st.sampled_from([".dump.gz", ".dump.zst", ".json", ".verified.json"]))
def test_our_names_are_known_again(number, now, suffix):
    stem = stem_of(number, now)
    for prefix in ("", ".partial-"):
        found = FileName.parse(f"{prefix}{stem}{suffix}")
        assert found is not None
        assert (found.stem, found.number, found.suffix, found.partial) == (stem, number, suffix, bool(prefix))


@pytest.mark.parametrize(
    "name",
    ["000001-20261121T020000Z.sql", "1-20261121T020000Z.json", "000001-20261121T020000Z.json~", "notes.txt", ".probe",
     "x000001-20261121T020000Z.json", ".partial-notes", "000001-20261121T020000Z", "000001-20261121T020000Z.json\n"],
)  # fmt: skip
def test_other_names_are_not_ours(name):
    assert FileName.parse(name) is None
