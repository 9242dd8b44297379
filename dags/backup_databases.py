"""Back every database up, and prove each backup by restoring it.

At 02:00 UTC, one instance of the tasks for each database of MLOPS_BACKUP_DATABASES: `preflight` looks at versions,
rights and free space; `dump` writes one consistent snapshot, compressed on the fly, with a manifest of what every table
held; `verify` restores the file on a server of its own that is thrown away, and compares; `report` tells Prometheus;
`rotate` deletes what is older than a week, but never the newest verified backup; `forget` drops the databases that a
restore replaced a week ago. A backup counts only when it was verified.

**When it fails**

- `preflight`, *bad input*: a right is missing, or the tools are older than the server; the message has the command that
  mends it. *Refused*: too little space. Nothing was written.
- `dump` *failed after retries*: the server or the disk gave up, the log has its last words; what was begun does not
  count and is cleaned up by the next run. The backup of the day before is untouched.
- `verify`, *refused*: **the file cannot be restored, or holds something else than the database did.** It stays beside
  the good ones, unverified, for a look. Start the run again; if it happens twice, suspect the disk, then the server.
- `report`, `rotate` or `forget` failed: the backup is there and good. Old ones stay longer.
- Nothing ran at all: the alert BackupMissingOrStale says so; docs/runbooks/backup-missing-or-stale.md
"""

from airflow.sdk import DAG, TriggerRule, task_group

from include.pipeline.house import HOUSE, clock
from include.pipeline.step import step
from include.pipeline.tags import Tag, Tier
from include.settings import settings

WRITTEN = "{{ ti.xcom_pull('backup.dump', map_indexes=ti.map_index)['stem'] }}"  # by this instance's own dump


@task_group
def backup(database: str) -> None:
    """One database."""
    this = {"database": database}
    look = step("preflight", "include.backup.preflight", this, profile="backup", grant="backup", label="database")
    dump = step("dump", "include.backup.dump", this, profile="backup", grant="backup", label="database")
    written = this | {"backup": WRITTEN}
    verify = step("verify", "include.backup.verify", written, profile="backup", grant="backup", label="database")
    report = step(
        "report",
        "include.backup.report",
        written,
        profile="backup",
        grant="backup",
        label="database",
        trigger_rule=TriggerRule.ALL_DONE_MIN_ONE_SUCCESS,  # that a backup is not verified is told, too
    )
    rotate = step("rotate", "include.backup.rotate", this, grant="backup", label="database")
    forget = step("forget", "include.backup.forget", this, grant="restore", label="database")
    look >> dump >> verify >> rotate >> forget
    [dump, verify] >> report


with DAG(
    "backup_databases",
    schedule=clock("0 2 * * *"),
    doc_md=__doc__,
    tags=[Tag.BACKUP, Tier.ONE],
    **HOUSE,
):
    backup.expand(database=settings().backup_databases)
