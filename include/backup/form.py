"""What a person may choose when a restore is started by hand: the trigger form of `restore_database`."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from include.settings import settings


def _choices(schema: dict[str, Any]) -> None:
    """A list to choose from, as long as anything is backed up at all."""
    if settings().backup_databases:
        schema["enum"] = settings().backup_databases


class RestoreForm(BaseModel):
    """Fields of `restore_database`."""

    model_config = ConfigDict(extra="forbid")

    database: str = Field(
        next(iter(settings().backup_databases), ""),
        title="Database",
        description="which database to restore",
        json_schema_extra=_choices,
    )
    backup: str = Field(
        "latest",
        pattern=r"^(latest|\d{1,18}|\d{6,18}-\d{8}T\d{6}Z)$",
        title="Backup",
        description="`latest` is the newest verified one; or the name of a backup, or its number",
    )
    target: str = Field(
        "replace",
        min_length=1,
        max_length=63,
        title="Target",
        description="`replace`: the live database, which is kept under another name for some days; or a new name",
    )
    approve: bool = Field(True, title="Ask before the swap", description="a person sees what would change, and decides")
    dry_run: bool = Field(False, title="Dry run", description="restore, compare and report; replace nothing")
