"""Where backups are: a folder, or s3://bucket/prefix. A file appears whole or not at all.

Names are `<folder>/<file>`. What is still being written, or was left by a writer that ended too early, is listed with
the prefix `.partial-`, and deleted under that name: in a folder a file, in a bucket an upload that nobody completed.
"""

import contextlib
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from include.backup.manifest import PARTIAL
from include.command import BadInput
from include.settings import local_path

PART_BYTES = 16 * 2**20  # of an upload, which may have 10,000 of them; one is held in memory
READ_BYTES = 8 * 2**20


def store(uri: str) -> "Store":
    """The store at `uri`."""
    folder = local_path(uri)
    return Bucket(uri) if folder is None else Folder(folder)


class Store(ABC):
    """Files in folders. Methods raise OSError when the store cannot be reached or has no room; a retry may help."""

    uri: str

    @abstractmethod
    def folders(self) -> list[str]:
        """The folders there are, in order."""

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """The files of the folder with their sizes, in order of their names; empty when there is no such folder.

        The size of what is not complete is 0.
        """

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Read the file from its start. Raises FileNotFoundError."""

    @abstractmethod
    def write(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """Write the file: it is there, durable, when the block has ended, and not at all when the block raised."""

    @abstractmethod
    def delete(self, name: str) -> None:
        """Delete the file, durably; one that is not there is fine."""

    @abstractmethod
    def free(self) -> int | None:
        """Bytes that still fit; None where there is no such limit."""

    def names(self, folder: str) -> list[str]:
        """The names of the folder's files, in order."""
        return list(self.sizes(folder))

    def write_text(self, name: str, text: str) -> None:
        """Write a small file, whole or not at all."""
        with self.write(name) as file:
            file.write(text.encode())

    def read_text(self, name: str) -> str:
        """A small file. Raises FileNotFoundError, and UnicodeDecodeError when it is not text."""
        with self.open(name) as file:
            return file.read().decode()


class Folder(Store):
    """On a file system. Files are for their owner and group only: a dump holds everything."""

    def __init__(self, root: Path) -> None:
        self.uri = str(root)
        self._root = root

    def folders(self) -> list[str]:
        return sorted(path.name for path in self._root.glob("*") if path.is_dir())

    def sizes(self, folder: str) -> dict[str, int]:
        found = {}
        for path in sorted(self._root.joinpath(folder).glob("*")):
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                if path.is_file():
                    found[path.name] = 0 if path.name.startswith(PARTIAL) else path.stat().st_size
        return found

    def open(self, name: str) -> BinaryIO:
        return (self._root / name).open("rb")

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[BinaryIO]:
        path = self._root / name
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        partial = path.with_name(PARTIAL + path.name)
        try:
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640), "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _sync(path.parent)
        _sync(path.parent.parent)

    def delete(self, name: str) -> None:
        path = self._root / name
        path.unlink(missing_ok=True)
        if path.parent.exists():
            _sync(path.parent)

    def free(self) -> int:
        return shutil.disk_usage(next(path for path in (self._root, *self._root.parents) if path.exists())).free


class Bucket(Store):
    """On storage that speaks S3; the keys and the address come from the variables that boto3 reads."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        # A cached listing would hide what another process writes meanwhile.
        self._files, self._root = fsspec.core.url_to_fs(self.uri, use_listings_cache=False)

    def folders(self) -> list[str]:
        return sorted(entry["name"].rpartition("/")[2] for entry in self._list("") if entry["type"] == "directory")

    def sizes(self, folder: str) -> dict[str, int]:
        there = {
            entry["name"].rpartition("/")[2]: int(entry["size"])
            for entry in self._list(folder)
            if entry["type"] == "file"
        }
        begun = {PARTIAL + key.rpartition("/")[2]: 0 for key, _ in self._uploads(f"{folder}/")}
        return dict(sorted({**there, **begun}.items()))

    def open(self, name: str) -> BinaryIO:
        return cast(BinaryIO, self._files.open(self._path(name), "rb", block_size=READ_BYTES, cache_type="readahead"))

    @contextlib.contextmanager
    def write(self, name: str) -> Iterator[BinaryIO]:
        try:
            file = self._files.open(self._path(name), "wb", block_size=PART_BYTES, autocommit=False)
            try:
                yield cast(BinaryIO, file)
                file.close()  # sends what is left
            except BaseException:
                file.closed = True  # or its end, whenever that is, would try to send what is left
                with contextlib.suppress(Exception):  # what is left, the next dump deletes; the error is the block's
                    file.discard()
                raise
            file.commit()
        except FileNotFoundError as error:
            raise BadInput(
                f"{self.uri} cannot be written: {error}; create the bucket or correct MLOPS_BACKUP_URI"
            ) from error

    def delete(self, name: str) -> None:
        folder, _, file = name.rpartition("/")
        if file.startswith(PARTIAL):
            self._abort(f"{folder}/{file.removeprefix(PARTIAL)}")
        elif self._files.exists(self._path(name)):
            self._files.rm_file(self._path(name))

    def free(self) -> None:
        return None

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else str(self._root)

    def _list(self, folder: str) -> list[dict[str, Any]]:
        try:
            return list(self._files.ls(self._path(folder), detail=True))
        except FileNotFoundError:  # nothing of that prefix
            return []

    def _abort(self, name: str) -> None:
        bucket, _, wanted = self._path(name).partition("/")
        for key, upload in self._uploads(name):
            if key == wanted:
                self._files.call_s3("abort_multipart_upload", Bucket=bucket, Key=key, UploadId=upload)

    def _uploads(self, name: str) -> Iterator[tuple[str, str]]:
        """Key and id of each upload that has begun and not ended."""
        bucket, _, prefix = self._path(name).partition("/")
        try:
            answer = self._files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=prefix)
        except FileNotFoundError:
            return
        for upload in answer.get("Uploads", []):
            yield upload["Key"], upload["UploadId"]


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
