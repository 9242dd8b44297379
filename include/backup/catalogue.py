"""The backups that a store holds of a database."""

import logging
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from include.backup.manifest import MANIFEST, VERIFIED, FileName, Manifest, Verified, folder_of
from include.backup.store import Store
from include.command import BadInput

log = logging.getLogger(__name__)

Kept = TypeVar("Kept", bound=BaseModel)
LATEST, NEWEST = "latest", "newest"


@dataclass(frozen=True)
class Backup:
    """One backup: its manifest, its mark if it was verified, and the size that its file has now (None: no file)."""

    manifest: Manifest
    verified: Verified | None
    file_size: int | None

    @property
    def whole(self) -> bool:
        """The file is there, as long as it was written. What it holds is not read."""
        return self.file_size == self.manifest.size

    @property
    def good(self) -> bool:
        """Verified, and still whole."""
        return self.verified is not None and self.whole

    @property
    def verdict(self) -> str:
        """For people."""
        if self.file_size is None:
            return "its file is missing"
        if not self.whole:
            return f"damaged: {self.file_size:,} bytes, not {self.manifest.size:,}"
        return "verified" if self.verified else "not verified"


def backups(store: Store, database: str) -> list[Backup]:
    """The database's backups, oldest number first. A manifest that cannot be read, or is another's, is logged."""
    folder = folder_of(database)
    sizes = store.sizes(folder)
    found = []
    for file in (parsed for name in sizes if (parsed := FileName.parse(name))):
        if file.suffix != MANIFEST or file.partial:
            continue
        manifest = _read(store, f"{folder}/{file.name}", Manifest)
        if manifest is None:
            continue
        if (manifest.stem, manifest.number, manifest.database) != (file.stem, file.number, database):
            log.error(
                "%s/%s/%s is the manifest of %s of %r: it counts for nothing; put the right one in its place",
                *(store.uri, folder, file.name, manifest.stem, manifest.database),
            )
            continue
        mark = f"{file.stem}{VERIFIED}"
        verified = _read(store, f"{folder}/{mark}", Verified) if mark in sizes else None
        if verified and (verified.stem, verified.sha256) != (manifest.stem, manifest.sha256):
            log.error("%s/%s/%s marks another backup: %s is not verified", store.uri, folder, mark, manifest.stem)
            verified = None
        found.append(Backup(manifest, verified, sizes.get(manifest.file)))
    return sorted(found, key=lambda backup: backup.manifest.number)


def choose(store: Store, database: str, name: str) -> Backup:
    """The backup of that name: `latest` (the newest that is verified and whole), `newest`, a stem, or a number.

    Raises BadInput, with what there is, when there is none of that name.
    """
    found = backups(store, database)
    if name == LATEST:
        fits = [backup for backup in found if backup.good]
    elif name == NEWEST:
        fits = found
    else:
        fits = [
            backup
            for backup in found
            if name == backup.manifest.stem or name.lstrip("0") == str(backup.manifest.number)
        ]
    if not fits:
        raise BadInput(f"{store.uri} has no backup {name!r} of {database!r}; {_there_is(store, database, found)}")
    if name == LATEST and fits[-1] is not found[-1]:
        log.warning("%s is not the newest of %r: %s is %s", fits[-1].manifest.stem, database,
                    found[-1].manifest.stem, found[-1].verdict)  # fmt: skip
    return fits[-1]


def _there_is(store: Store, database: str, found: list[Backup]) -> str:
    if not found:
        folders = ", ".join(store.folders()) or "nothing"
        return f"it has none of it at all (it has {folders}); make one with: python -m include.backup.dump"
    names = ", ".join(f"{backup.manifest.stem} ({backup.verdict})" for backup in reversed(found))
    return f"choose one of: {names}; `latest` is the newest verified one"


def _read(store: Store, name: str, kind: type[Kept]) -> Kept | None:
    try:
        return kind.model_validate_json(store.read_text(name))
    except FileNotFoundError:  # deleted meanwhile
        return None
    except (ValidationError, UnicodeDecodeError) as error:
        why = str(error).splitlines()[0]
        log.error("%s/%s cannot be read (%s): it counts for nothing and is left alone", store.uri, name, why)
        return None
