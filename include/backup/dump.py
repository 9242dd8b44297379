"""Step: write a backup of one consistent snapshot. `python -m include.backup.dump --database mlflow`

The server's snapshot is exported once; pg_dump writes what it shows, and we count rows and digests of the same snapshot
by SQL, so that the manifest says what the database held and not what pg_dump wrote. The role needs `pg_read_all_data`
(and BYPASSRLS where row security is used); it is no superuser.

It counts when its manifest is there, which is written last. What an earlier one left that was killed, is deleted first.
"""

import contextlib
import errno
import hashlib
import logging
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from typing import IO, Any, BinaryIO

import psycopg2  # type: ignore[import-untyped]

from include.backup.catalogue import backups
from include.backup.codec import BLOCK_BYTES, blocks_of, compressed
from include.backup.connection import Connection, connect, conninfo, rows
from include.backup.contents import contents, hold
from include.backup.lock import only_backup
from include.backup.manifest import MANIFEST, PROBE, SUFFIXES, Codec, FileName, Manifest, folder_of, stem_of
from include.backup.preflight import check_role
from include.backup.programs import program, said_version
from include.backup.store import Store, store
from include.code_version import code_version
from include.command import StepArgs, run
from include.progress import track
from include.settings import settings

log = logging.getLogger(__name__)

LOCK_WAIT = "10min"  # for a table that somebody alters; without it a forgotten transaction holds the backup for ever
PIPE_BYTES = 2**20
LAST_WORDS = 2_000
BEGINS = b"PGDMP"


class DumpFailed(Exception):
    """There is no backup, and nothing of it was left; says why, and what to do."""


class Args(StepArgs):
    """Which database."""

    database: str


class Written:
    """What went into the file."""

    def __init__(self) -> None:
        self.size = self.raw_size = 0
        self.begins = b""
        self.sha256 = hashlib.sha256()


def main(args: Args) -> dict[str, Any]:
    """Answer: the backup's stem, its sizes, seconds by phase, rows and tables."""
    kept = store(settings().backup_uri)
    with closing(connect(args.database)) as connection, only_backup(connection, args.database):
        check_role(connection, args.database)
        number = clean(kept, args.database)
        try:
            manifest = back_up(kept, connection, args.database, number)
        except psycopg2.Error as error:
            raise DumpFailed(f"the server gave up while {args.database!r} was backed up: {str(error).strip()}; "
                             "look into its log, then retry") from error  # fmt: skip
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise DumpFailed(
                f"no space left in {kept.uri} for the backup of {args.database!r}; enlarge the volume, lower "
                "MLOPS_BACKUP_DAYS and run include.backup.rotate, or set MLOPS_BACKUP_URI to another place"
            ) from error
    tables = [content for content in manifest.contents if content.kind == "table"]
    answer = manifest.model_dump(include={"database", "stem", "size", "raw_size", "seconds"})
    return answer | {"rows": sum(content.rows for content in tables), "tables": len(tables)}


def clean(kept: Store, database: str) -> int:
    """Delete what a dump or rotation that was killed has left. Returns the number of the next backup."""
    folder = folder_of(database)
    names = kept.names(folder)
    files = [parsed for name in names if (parsed := FileName.parse(name))]
    counted = {file.stem for file in files if file.suffix == MANIFEST and not file.partial}
    left = [file.name for file in files if file.partial or file.stem not in counted]
    for name in [*left, *(name for name in names if name == PROBE)]:
        log.warning("deleting %s/%s/%s, left by a run that was ended", kept.uri, folder, name)
        kept.delete(f"{folder}/{name}")
    return max((file.number for file in files), default=0) + 1


def back_up(kept: Store, connection: Connection, database: str, number: int) -> Manifest:
    """Write the files of the backup."""
    started = time.time()
    codec = settings().backup_codec
    stem = stem_of(number, started)
    file, folder = f"{stem}{SUFFIXES[codec]}", folder_of(database)
    facts = about(connection)
    pg_dump = program("pg_dump", at_least=facts["server_version_num"] // 10_000)
    connection.rollback()
    connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
    snapshot, lsn = rows(connection, _SNAPSHOT)[0]
    before = hold(connection)
    began = time.monotonic()
    with _whole_or_nothing(kept, [f"{folder}/{stem}{MANIFEST}", f"{folder}/{file}"]):
        written = _write(kept, f"{folder}/{file}", codec, pg_dump, database, snapshot)
        dumped = time.monotonic()
        found = contents(connection, before)
        manifest = Manifest(
            database=database, number=number, stem=stem, codec=codec, file=file, started=started, ended=time.time(),
            lsn=lsn, snapshot=snapshot, size=written.size, raw_size=written.raw_size,
            sha256=written.sha256.hexdigest(), contents=found, **facts,
            tools={"pg_dump": said_version(pg_dump), "code": code_version()},
            seconds={"dump": dumped - began, "digest": time.monotonic() - dumped},
        )  # fmt: skip
        if file not in kept.names(folder):
            raise DumpFailed(f"{kept.uri}/{folder}/{file} was deleted while the rows were counted; retry")
        kept.write_text(f"{folder}/{stem}{MANIFEST}", manifest.model_dump_json(indent=1))
    return manifest


@contextlib.contextmanager
def _whole_or_nothing(kept: Store, names: list[str]) -> Iterator[None]:
    """Delete these when the block raises; what cannot be deleted now, the next dump deletes."""
    try:
        yield
    except BaseException:
        for name in names:
            with contextlib.suppress(Exception):
                kept.delete(name)
        raise


def _write(kept: Store, name: str, codec: Codec, pg_dump: str, database: str, snapshot: str) -> Written:
    """Write the dump into the file of that name."""
    earlier = backups(kept, database)
    expected = earlier[-1].manifest.raw_size // BLOCK_BYTES + 1 if earlier else None
    written = Written()
    with kept.write(name) as target:
        with _pg_dump(pg_dump, database, snapshot) as stream:
            blocks = track(_counted(stream, written), f"{database}, MiB", total=expected)
            for piece in compressed(blocks, codec):
                target.write(piece)
                written.size += len(piece)
                written.sha256.update(piece)
        _refuse_nothing(pg_dump, written)
    return written


def about(connection: Connection) -> dict[str, Any]:
    """What a restore must know about the database: see the fields of Manifest."""
    names = ("dbname", "server_version", "server_version_num", "encoding", "collate", "ctype", "owner", "database_size")
    facts: dict[str, Any] = dict(zip(names, rows(connection, _ABOUT)[0], strict=True))
    facts["extensions"] = dict(rows(connection, "SELECT extname, extversion FROM pg_extension ORDER BY 1"))
    facts["roles"] = [role for (role,) in rows(connection, _ROLES)]
    return facts


@contextlib.contextmanager
def _pg_dump(path: str, database: str, snapshot: str) -> Iterator[BinaryIO]:
    """What pg_dump writes. Raises DumpFailed, with its last words, when it does not end well."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [path, "--format=custom", "--compress=0", f"--snapshot={snapshot}", "--no-password",
             f"--lock-wait-timeout={LOCK_WAIT}", f"--dbname={conninfo(database)}"],
            stdout=subprocess.PIPE, stderr=said, stdin=subprocess.DEVNULL, pipesize=PIPE_BYTES,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            yield process.stdout  # type: ignore[misc]
            code = process.wait()
        finally:
            process.kill()
            process.stdout.close()
            process.wait()
        if code:
            ended = f"with exit code {code}" if code > 0 else f"by signal {-code}"
            raise DumpFailed(f"{path} of {database!r} ended {ended}: {_last_words(said) or 'it said nothing'}; "
                             "nothing of it counts, the earlier backups are untouched: retry")  # fmt: skip
        if words := _last_words(said):
            log.warning("pg_dump says: %s", words)


def _last_words(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, 2) - LAST_WORDS))
    return said.read().decode(errors="replace").strip()


def _counted(stream: BinaryIO, written: Written) -> Iterator[bytes]:
    for block in blocks_of(stream):
        if not written.raw_size:
            written.begins = block[: len(BEGINS)]
        written.raw_size += len(block)
        yield block


def _refuse_nothing(path: str, written: Written) -> None:
    """That pg_dump ended well proves nothing. What is inside is compared when the backup is verified."""
    if written.begins != BEGINS:
        raise DumpFailed(
            f"{path} ended with exit code 0 and wrote {written.raw_size} bytes that are no dump: is it the real "
            f"pg_dump ({said_version(path) or 'it does not say its version'})? The one in PATH goes first; put it right"
        )


_SNAPSHOT = """SELECT pg_export_snapshot(),
    (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text"""

_ABOUT = """SELECT datname, current_setting('server_version'), current_setting('server_version_num')::int,
    pg_encoding_to_char(encoding), datcollate, datctype, pg_get_userbyid(datdba), pg_database_size(oid)
    FROM pg_database WHERE datname = current_database()"""

# Who owns something in this database or was granted something. Of the role that initdb made the server keeps no such
# notes, so it is looked for. What an extension brings is its own; the roles pg_… are on every server.
_ROLES = """
    WITH of_first_role AS (
        SELECT 'pg_class'::regclass AS classid, oid FROM pg_class WHERE relowner = 10
        UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc WHERE proowner = 10
        UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typowner = 10
        UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace WHERE nspowner = 10
        UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication WHERE pubowner = 10
        UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server WHERE srvowner = 10
        UNION ALL SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger WHERE evtowner = 10
        UNION ALL SELECT 'pg_largeobject'::regclass, oid FROM pg_largeobject_metadata WHERE lomowner = 10
    ), roles AS (
        SELECT refobjid AS role FROM pg_shdepend
        WHERE refclassid = 'pg_authid'::regclass
        AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
        UNION SELECT datdba FROM pg_database WHERE datname = current_database()
        UNION SELECT 10 FROM of_first_role o
        WHERE o.oid >= 16384 AND NOT EXISTS (
            SELECT FROM pg_depend d WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype IN ('e', 'i')
        )
    )
    SELECT rolname FROM pg_roles JOIN roles ON pg_roles.oid = role WHERE rolname !~ '^pg_' ORDER BY 1
"""

if __name__ == "__main__":
    run(main)
