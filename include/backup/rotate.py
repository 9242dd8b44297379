"""Step: delete the backups that are old enough. `python -m include.backup.rotate --database mlflow`

Kept are those of the last MLOPS_BACKUP_DAYS days, the newest MLOPS_BACKUP_LEAST verified ones however old they are, and
the newest of all, so that numbers never come twice. One from the future stays: a clock set back deletes nothing. What
is not one of our backups, or cannot be read, is not touched.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any

from include.backup.catalogue import Backup, backups
from include.backup.manifest import MANIFEST, VERIFIED, folder_of
from include.backup.store import Store, store
from include.command import StepArgs, run
from include.settings import settings

log = logging.getLogger(__name__)

DAY_SECONDS = 24 * 3600


class Args(StepArgs):
    """Which database."""

    database: str


def main(args: Args) -> dict[str, Any]:
    """Answer: the stems of those kept and of those deleted."""
    kept = store(settings().backup_uri)
    found = backups(kept, args.database)
    old = expired(found, time.time(), settings().backup_days, settings().backup_least)
    for backup in old:
        log.info("deleting %s of %s, %s", backup.manifest.stem, args.database, backup.verdict)
        delete(kept, backup)
    return {
        "kept": [backup.manifest.stem for backup in found if backup not in old],
        "deleted": [backup.manifest.stem for backup in old],
    }


def expired(found: Sequence[Backup], now: float, days: int, least: int) -> list[Backup]:
    """Those of `found` (by number) that may go, oldest first."""
    stay = {backup.manifest.number for backup in [backup for backup in found if backup.good][-least:]}
    stay |= {backup.manifest.number for backup in found[-1:]}
    return [
        backup
        for backup in found
        if backup.manifest.number not in stay and now - backup.manifest.ended > days * DAY_SECONDS
    ]


def delete(kept: Store, backup: Backup) -> None:
    """The manifest first: from then on it is no backup, and what is left of it the next dump deletes."""
    manifest = backup.manifest
    for name in (f"{manifest.stem}{MANIFEST}", f"{manifest.stem}{VERIFIED}", manifest.file):
        kept.delete(f"{folder_of(manifest.database)}/{name}")


if __name__ == "__main__":
    run(main)
