"""Step: restore a backup into a throw-away server, and compare every table with what its manifest says.

`python -m include.backup.verify --database mlflow --backup newest`

The backup is then marked as verified; only such a one is ever `latest`. A backup that is not what its manifest says is
kept without the mark, and loses the mark that it may have had. TMPDIR needs room for the whole database.
"""

import contextlib
import hashlib
import logging
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any, BinaryIO

from psycopg2 import sql  # type: ignore[import-untyped]
from psycopg2.errors import Error  # type: ignore[import-untyped]
from psycopg2.extensions import connection as Connection  # type: ignore[import-untyped]
from pydantic import Field

from include.backup.catalogue import Backup, choose
from include.backup.codec import Damaged, decompressed
from include.backup.connection import one, rows
from include.backup.contents import contents, differences, notes, told
from include.backup.manifest import VERIFIED, Manifest, Verified, folder_of
from include.backup.programs import program
from include.backup.scratch_server import Scratch, scratch_server
from include.backup.store import Store, store
from include.command import BadInput, Refused, StepArgs, run
from include.progress import track
from include.settings import settings

log = logging.getLogger(__name__)

CHUNK = 1_048_576
RESTORED = "restored"
# Of the server or the machine, not of the backup.
PASSING = ("No space left on device", "server closed the connection", "terminating connection", "could not connect")


class Args(StepArgs):
    """Which backup to verify."""

    database: str = Field(min_length=1, description="the database: a section of the file that PGSERVICEFILE names")
    backup: str = Field("newest", description="newest, latest, or a name or number that `list` shows")


def main(args: Args) -> dict[str, Any]:
    """Answer: what was compared, in how many seconds. Raises Refused when the backup is not what its manifest says."""
    kept = store(settings().backup_uri)
    backup = choose(kept, args.database, args.backup)
    mark = f"{folder_of(args.database)}/{backup.manifest.stem}{VERIFIED}"
    try:
        verified, said = _prove(kept, backup)
    except Refused as refusal:
        kept.delete(mark)
        raise Refused(
            f"{backup.manifest.stem} of {args.database!r} is not verified: {refusal}; "
            f"make another: python -m include.backup.dump --database {args.database}",
            {"database": args.database, "stem": backup.manifest.stem},
        ) from refusal
    kept.write_text(mark, verified.model_dump_json(indent=2))
    log.info("%s of %s: %d compared, all equal", verified.stem, args.database, verified.compared)
    return {"database": args.database, **verified.model_dump(), "notes": said}


def check_file(kept: Store, backup: Backup) -> None:
    """Raises Refused when the file is not the one that the manifest describes."""
    manifest = backup.manifest
    if backup.file_size is None:
        raise Refused(f"its file {manifest.file} is missing")
    if not backup.whole:
        cut = "cut off" if backup.file_size < manifest.size else "too long"
        raise Refused(
            f"{manifest.file} has {backup.file_size:,} bytes, its manifest says {manifest.size:,}: it is {cut}"
        )
    checksum = hashlib.sha256()
    with _open(kept, manifest) as file:
        chunks = iter(lambda: file.read(CHUNK), b"")
        for chunk in track(chunks, f"check {manifest.file}, MiB", total=-(-manifest.size // CHUNK)):
            checksum.update(chunk)
    if checksum.hexdigest() != manifest.sha256:
        raise Refused(
            f"{manifest.file} has the checksum {checksum.hexdigest()}, its manifest says {manifest.sha256}: "
            "the file was damaged or belongs to another manifest"
        )


def check_extensions(connection: Connection, manifest: Manifest, where: str) -> None:
    """Raises BadInput with the extensions that the backup needs and the server does not offer."""
    offered = {name for (name,) in rows(connection, "SELECT name FROM pg_available_extensions")}
    if missing := sorted(set(manifest.extensions) - offered):
        version = int(one(connection, "SHOW server_version_num")) // 10_000
        raise BadInput(
            f"{manifest.stem} needs the extensions {', '.join(missing)}, which {where} does not offer; install their "
            f"packages for PostgreSQL {version} (Debian: apt-cache search postgresql-{version})"
        )


def create_database(connection: Connection, name: str, manifest: Manifest, more: sql.Composable) -> None:
    """An empty database in the encoding and locale of the backup. Raises BadInput when the server lacks the locale."""
    form = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {} ").format(
        sql.Identifier(name), *map(sql.Literal, (manifest.encoding, manifest.collate, manifest.ctype))
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(form + more)
    except Error as error:
        if "locale name" not in str(error):
            raise
        wanted = " ".join(sorted({manifest.collate, manifest.ctype}))
        raise BadInput(
            f"{manifest.stem} was made with the locale {wanted}, which the server that is to hold it does not have "
            f"({str(error).strip()}); install it there (Debian: apt-get install locales-all) and restart that server"
        ) from error


def restore_dump(kept: Store, manifest: Manifest, conninfo: str, *flags: str) -> None:
    """Feed the backup to pg_restore. Raises Refused when it cannot be restored, OSError when that may pass."""
    needed = max(manifest.server_version_num // 10_000, _major(manifest.tools.get("pg_dump", "")))
    command = [program("pg_restore", needed), "--exit-on-error", "--no-password", f"--dbname={conninfo}", *flags]
    with tempfile.TemporaryFile() as said, _open(kept, manifest) as file:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said)
        try:
            code = _feed(process, file, manifest)
        except Damaged as error:
            raise Refused(f"{manifest.file}: {error}") from error
        said.seek(0)
        words = said.read().decode(errors="replace").strip()[-1500:]
    if code < 0 or any(passing in words for passing in PASSING):
        raise OSError(f"pg_restore ended with {code}: {words or 'killed'}")
    if code:
        raise Refused(f"{manifest.file} cannot be restored: {words}")


def compare(connection: Connection, manifest: Manifest) -> list[str]:
    """Notes for people. Raises Refused with the first tables that are not as the manifest says."""
    found = contents(connection)
    if different := differences(manifest.contents, found):
        raise Refused(
            f"what was restored differs from what was backed up in {len(different)} places: {told(different)}"
        )
    return notes(manifest.contents, found)


def _prove(kept: Store, backup: Backup) -> tuple[Verified, list[str]]:
    manifest = backup.manifest
    started = time.monotonic()
    check_file(kept, backup)
    with scratch_server(manifest.server_version_num // 10_000, room=manifest.database_size) as scratch:
        version = _furnish(scratch, manifest)
        restore_dump(kept, manifest, scratch.conninfo(RESTORED), "--no-tablespaces")
        with closing(scratch.connect(RESTORED)) as connection:
            said = compare(connection, manifest)
    return Verified(
        stem=manifest.stem,
        sha256=manifest.sha256,
        at=time.time(),
        seconds=round(time.monotonic() - started, 3),
        server_version=version,
        compared=len(manifest.contents),
    ), said


def _furnish(scratch: Scratch, manifest: Manifest) -> str:
    """The roles and the empty database. Returns the server's version."""
    with closing(scratch.connect()) as connection:
        connection.autocommit = True
        check_extensions(connection, manifest, "the PostgreSQL of this machine")
        there = {name for (name,) in rows(connection, "SELECT rolname FROM pg_roles")}
        with connection.cursor() as cursor:
            for role in sorted({*manifest.roles, manifest.owner} - there):
                cursor.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))
        owner = sql.SQL("OWNER {}").format(sql.Identifier(manifest.owner))
        create_database(connection, RESTORED, manifest, owner)
        return str(one(connection, "SHOW server_version"))


def _open(kept: Store, manifest: Manifest) -> BinaryIO:
    return kept.open(f"{folder_of(manifest.database)}/{manifest.file}")


def _feed(process: "subprocess.Popen[bytes]", file: BinaryIO, manifest: Manifest) -> int:
    """The exit code of the process, which may end before it has been given everything."""
    assert process.stdin is not None
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            chunks = _chunked(decompressed(file, manifest.codec))
            for chunk in track(chunks, f"restore {manifest.database}, MiB", total=-(-manifest.raw_size // CHUNK)):
                pipe.write(chunk)
        return process.wait()
    except BaseException:
        process.kill()
        process.wait()
        raise


def _chunked(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces, of which the progress counts one a MiB."""
    gathered = bytearray()
    for piece in pieces:
        gathered += piece
        while len(gathered) >= CHUNK:
            yield bytes(gathered[:CHUNK])
            del gathered[:CHUNK]
    yield bytes(gathered)


def _major(said: str) -> int:
    """Of what a program said of its version; 0 when that cannot be read."""
    found = re.search(r"\) (\d+)|^(\d+)", said)
    return int(found[1] or found[2]) if found else 0


if __name__ == "__main__":
    run(main)
