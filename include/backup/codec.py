"""Compression on all cores, into what any machine reads: `gunzip -c FILE | pg_restore …`, `gzip -t FILE`.

Each block becomes a member (gzip) or frame (zstd) of its own; both formats allow many in one file. libdeflate at level
4 takes a fifth of the processor time of `gzip` for 3 % more (bench/backup.py); igzip half of that, for 10 % more.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO, Protocol

import deflate
import zstandard

from include.backup.manifest import Codec

BLOCK_BYTES = 2**20
GZIP_LEVEL, ZSTD_LEVEL = 4, 3
MOST_THREADS = 8  # pg_dump does not read faster than so many compress
READ_BYTES = 2**18


class Damaged(Exception):
    """A file is not what was written: it cannot be decompressed, or ends too early."""


class _Stream(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def compressed(blocks: Iterable[bytes], codec: Codec) -> Iterator[bytes]:
    """The blocks compressed, in their order. No more of them are in memory than there are threads, and a few."""
    compress = _COMPRESS[codec]
    threads = min(len(os.sched_getaffinity(0)), MOST_THREADS)
    with ThreadPoolExecutor(threads, thread_name_prefix="compress") as pool:
        under_way: deque[Future[bytes]] = deque()
        for block in blocks:
            under_way.append(pool.submit(compress, block))
            if len(under_way) > threads + 1:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def decompressed(file: BinaryIO, codec: Codec) -> Iterator[bytes]:
    """What was compressed, piece by piece. Raises Damaged."""
    stream, begun = _DECOMPRESS[codec](), False
    while data := file.read(READ_BYTES):
        while data:
            try:
                piece = stream.decompress(data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise Damaged(f"it cannot be decompressed: {error}") from error
            if piece:
                yield piece
            begun, data = not stream.eof, b""
            if stream.eof:
                data, stream = stream.unused_data, _DECOMPRESS[codec]()
    if begun:
        raise Damaged("it ends in the middle of a block")


def blocks_of(file: BinaryIO) -> Iterator[bytes]:
    """The content of `file` in blocks of the size that is compressed at once."""
    while block := file.read(BLOCK_BYTES):
        yield block


def _gzip(block: bytes) -> bytes:
    return bytes(deflate.gzip_compress(block, GZIP_LEVEL))


def _zstd(block: bytes) -> bytes:
    return zstandard.ZstdCompressor(ZSTD_LEVEL, write_checksum=True).compress(block)


_COMPRESS: dict[Codec, Callable[[bytes], bytes]] = {"gzip": _gzip, "zstd": _zstd}
_DECOMPRESS: dict[Codec, Callable[[], _Stream]] = {
    "gzip": lambda: zlib.decompressobj(31),  # with gzip's header and checksum
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj(),
}
