"""The file that says what is asked for."""

import pytest

from include.local.replica_files import Spec, SpecError, read_spec, write_whole


def test_no_file_asks_for_nothing(tmp_path):
    assert read_spec(tmp_path / "spec.json") is None


def test_what_was_written_is_read(tmp_path):
    file = tmp_path / "new folder" / "spec.json"
    write_whole(file, {"generation": 7, "template": {"version": "3", "change_cause": "promoted"}})
    assert read_spec(file) == Spec(7, "3", "promoted")
    write_whole(file, {"generation": 8, "template": {"version": 4}})
    assert read_spec(file) == Spec(8, "4", "")
    assert [each.name for each in file.parent.iterdir()] == ["spec.json"]


@pytest.mark.parametrize("version", ["", "../2", "/etc", ".", "..", "a b", "x" * 65])
def test_version_must_be_a_folder_name(tmp_path, version):
    write_whole(tmp_path / "spec.json", {"generation": 1, "template": {"version": version}})
    with pytest.raises(SpecError, match="version"):
        read_spec(tmp_path / "spec.json")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "3", "{}", '{"generation": 1}', '{"generation": "x", "template": {"version": "1"}}']
)
def test_anything_else_is_refused(tmp_path, content):
    (tmp_path / "spec.json").write_text(content)
    with pytest.raises(SpecError, match=r"spec\.json"):
        read_spec(tmp_path / "spec.json")
