"""The trigger form of a restore: what a person can enter, and what is refused before anything runs."""

import pytest
from pydantic import ValidationError

from include.backup.form import RestoreForm
from include.backup.stage import Args
from include.settings import settings


def test_nothing_has_to_be_entered_and_the_safe_way_is_the_default():
    form = RestoreForm()
    assert form.database == settings().backup_databases[0]
    assert (form.backup, form.target, form.approve, form.dry_run) == ("latest", "replace", True, False)


def test_the_databases_are_a_list_to_choose_from():
    assert RestoreForm.model_json_schema()["properties"]["database"]["enum"] == settings().backup_databases


@pytest.mark.parametrize("backup", ["latest", "12", "000012-20260101T020000Z"])
def test_backups_that_can_be_named(backup):
    assert RestoreForm(backup=backup).backup == backup


@pytest.mark.parametrize("backup", ["", "Latest", "newest", "../secrets", "12; DROP", "000012-20260101T020000Z.json"])
def test_what_is_no_name_of_a_backup_is_refused(backup):
    with pytest.raises(ValidationError, match="backup"):
        RestoreForm(backup=backup)


@pytest.mark.parametrize("target", ["", "x" * 64])
def test_what_is_no_name_of_a_database_is_refused(target):
    with pytest.raises(ValidationError, match="target"):
        RestoreForm(target=target)


def test_an_unknown_field_is_refused():
    with pytest.raises(ValidationError, match="force"):
        RestoreForm(force=True)


def test_the_step_takes_what_the_form_gives():
    given = RestoreForm().model_dump(include={"database", "backup", "target"})
    assert Args(**given).target == RestoreForm().target
