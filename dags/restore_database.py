"""Bring a database back from a backup, beside the live one first, and swap only when a person has said yes.

`stage` takes the backup (`latest`: the newest verified one), restores it into a new database beside the live one,
compares it with the backup's manifest and says what would change. `approve` waits in the UI for a person, for a day at
the most: a no, or nobody, ends the run and changes nothing. `swap` then takes the live database's connections away and
exchanges the two names in one transaction; what was live stays under a dated name for a week. `discard` drops what was
staged and not swapped, whatever happened; `restored` is green only when `swap` succeeded.

**When it fails**

- `stage`, *bad input*: no such backup, or the server lacks a role or an extension that the backup needs; the message
  lists them. *Refused*: the backup is damaged; choose an earlier one. The live database was not touched.
- `swap` *failed before the exchange*: the live database serves as before; start the run again.
- `swap` *refused after the exchange*: the migration or the smoke test failed; the message has the one command that goes
  back. Decide which of the two databases is the better one.
- Airflow's own database cannot be replaced while Airflow runs on it: docs/runbooks/restore-without-airflow.md
"""

from airflow.sdk import DAG, TriggerRule, task

from include.backup.form import RestoreForm
from include.pipeline.approval import approval
from include.pipeline.end import end
from include.pipeline.form import form
from include.pipeline.house import HOUSE
from include.pipeline.step import step
from include.pipeline.tags import Tag, Tier


@task.branch
def what_next(params: dict) -> str | None:
    """A dry run ends here; else somebody is asked, unless the form says not to."""
    if params["dry_run"]:
        return None
    return "approve" if params["approve"] else "swap"


with DAG(
    "restore_database",
    schedule=None,
    params=form(RestoreForm),
    doc_md=__doc__,
    tags=[Tag.BACKUP, Tier.ONE],
    **HOUSE,
):
    stage = step(
        "stage",
        "include.backup.stage",
        {
            "database": "{{ params.database }}",
            "backup": "{{ params.backup }}",
            "target": "{{ params.target }}",
            "restore_id": "{{ run_id }}",
            "by_airflow": True,
        },
        profile="backup",
        grant="restore",
    )
    approve = approval(
        "approve",
        subject="Replace {{ params.database }} by its backup {{ ti.xcom_pull('stage')['stem'] }}?",
        body="{{ ti.xcom_pull('stage')['summary'] }}",
    )
    swap = step(
        "swap",
        "include.backup.swap",
        {"plan": stage.output},
        profile="backup",
        grant="restore",
        trigger_rule=TriggerRule.NONE_FAILED_MIN_ONE_SUCCESS,
    )
    discard = step(
        "discard",
        "include.backup.discard",
        {"database": "{{ params.database }}", "restore_id": "{{ run_id }}"},
        grant="restore",
    )
    stage >> what_next() >> [approve, swap]
    approve >> swap
    swap >> end("restored")
    [approve, swap] >> discard.as_teardown(on_failure_fail_dagrun=True)
