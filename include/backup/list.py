"""Step: which backups there are. `python -m include.backup.list [--database mlflow]`

The table for people goes to stderr, the answer is JSON.
"""

from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

from pydantic import Field
from rich.console import Console
from rich.table import Table

from include.backup.catalogue import Backup, backups
from include.backup.store import store
from include.command import StepArgs, run
from include.settings import settings

WIDTH = 132  # a log has no width of its own


class Args(StepArgs):
    """Which database."""

    database: str | None = Field(None, description="default: each that has a backup")


def main(args: Args) -> dict[str, Any]:
    """Answer: by database, its backups, newest first."""
    kept = store(settings().backup_uri)
    names = [args.database] if args.database else [unquote(folder) for folder in kept.folders()]
    found = {name: backups(kept, name)[::-1] for name in names}
    console = Console(stderr=True)
    console.width = max(console.width, WIDTH)
    console.print(table(kept.uri, found))
    return {
        "store": kept.uri,
        "databases": {name: [_short(backup) for backup in of_it] for name, of_it in found.items()},
    }


def table(uri: str, found: dict[str, list[Backup]]) -> Table:
    """For people."""
    shown = Table("database", title=f"backups in {uri}")
    shown.add_column("backup", no_wrap=True)
    shown.add_column("ended", no_wrap=True)
    for column in ("MB", "of MB", "rows", "dumped in s", "verified in s"):
        shown.add_column(column, justify="right")
    shown.add_column("verdict")
    for name, of_it in found.items():
        for backup in of_it:
            manifest, short = backup.manifest, _short(backup)
            shown.add_row(
                *(name, manifest.stem, f"{datetime.fromtimestamp(manifest.ended, UTC):%Y-%m-%d %H:%M} UTC"),
                *(f"{manifest.size / 1e6:,.1f}", f"{manifest.database_size / 1e6:,.1f}", f"{short['rows']:,}"),
                f"{sum(manifest.seconds.values()):,.1f}",
                f"{backup.verified.seconds:,.1f}" if backup.verified else "",
                f"[{'green' if backup.good else 'red'}]{backup.verdict}[/]",
            )
    return shown


def _short(backup: Backup) -> dict[str, Any]:
    known = backup.manifest.model_dump(include={"stem", "number", "ended", "size", "raw_size", "database_size"})
    rows = sum(content.rows for content in backup.manifest.contents if content.kind == "table")
    return known | {"rows": rows, "verified": backup.verified is not None, "verdict": backup.verdict}


if __name__ == "__main__":
    run(main)
