"""What is written beside a backup, and what its files are called.

    <database>/<stem>.dump.gz          the dump (`.dump.zst` with the other codec)
    <database>/<stem>.json             its manifest: a backup exists if and only if this file does
    <database>/<stem>.verified.json    it was restored and compared, and was equal

A stem is `<number>-<time>`. The number only grows, whatever the clock does; the time is for people.
"""

import re
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict

from include.command import BadInput

Kind = Literal["table", "materialised view", "sequence", "large objects"]
Codec = Literal["gzip", "zstd"]

SUFFIXES: dict[Codec, str] = {"gzip": ".dump.gz", "zstd": ".dump.zst"}
MANIFEST, VERIFIED = ".json", ".verified.json"
PARTIAL = ".partial-"  # what is still being written
PROBE = ".probe"  # what the preflight writes and deletes

_STEM = r"(?P<stem>(?P<number>\d{6,18})-\d{8}T\d{6}Z)"
_FILE = re.compile(
    rf"(?P<partial>{re.escape(PARTIAL)})?{_STEM}"
    rf"(?P<suffix>{'|'.join(re.escape(suffix) for suffix in (*SUFFIXES.values(), VERIFIED, MANIFEST))})"
)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TableContent(_Kept):
    """What one table held: how many rows, and a digest of them that does not depend on their order."""

    schema_name: str
    name: str
    kind: Kind
    rows: int
    digest: str


class Manifest(_Kept):
    """A backup. Times are seconds since 1970, sizes bytes."""

    format: Literal[1] = 1
    database: str
    dbname: str
    number: int
    stem: str
    codec: Codec
    file: str
    server_version: str
    server_version_num: int
    encoding: str
    collate: str
    ctype: str
    roles: list[str]
    extensions: dict[str, str]
    owner: str
    started: float
    ended: float
    lsn: str
    snapshot: str
    size: int
    raw_size: int
    database_size: int
    sha256: str
    contents: list[TableContent]
    tools: dict[str, str]
    seconds: dict[str, float]


class Verified(_Kept):
    """The backup with this checksum was restored, and held what its manifest says."""

    stem: str
    sha256: str
    at: float
    seconds: float
    server_version: str
    compared: int


def folder_of(database: str) -> str:
    """The name of the database's folder: one path component, whatever the name holds. Raises BadInput when empty."""
    if not database:
        raise BadInput("the database's name is empty; give the name of a section of the file that PGSERVICEFILE names")
    return quote(database, safe="").replace(".", "%2E")


def stem_of(number: int, now: float) -> str:
    """The stem of the backup of that number, begun at that time."""
    return f"{number:06d}-{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"


class FileName:
    """A name in a database's folder that is one of ours."""

    def __init__(self, name: str, stem: str, number: int, suffix: str, partial: bool) -> None:
        self.name, self.stem, self.number, self.suffix, self.partial = name, stem, number, suffix, partial

    @classmethod
    def parse(cls, name: str) -> "FileName | None":
        """None when the name is not one of ours."""
        found = _FILE.fullmatch(name)
        if found is None:
            return None
        return cls(name, found["stem"], int(found["number"]), found["suffix"], bool(found["partial"]))
