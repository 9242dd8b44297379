"""What is compressed comes back, and what is damaged is found."""

import gzip
import io
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.backup import codec
from include.backup.codec import Damaged, compressed, decompressed

CODECS = ("gzip", "zstd")
BLOCKS = [b"a" * 2**20, bytes(range(256)) * 4096, b"the end"]


@given(st.lists(st.binary(min_size=1), max_size=30), st.sampled_from(CODECS))
def test_round_trip(blocks, name):
    there = b"".join(compressed(blocks, name))
    assert b"".join(decompressed(io.BytesIO(there), name)) == b"".join(blocks)


@pytest.mark.parametrize(("name", "program"), [("gzip", "gzip"), ("zstd", "zstd")])
def test_the_usual_program_reads_it(name, program):
    there = b"".join(compressed(BLOCKS, name))
    assert subprocess.run([program, "-dc"], input=there, check=True, capture_output=True).stdout == b"".join(BLOCKS)


@pytest.mark.parametrize("name", CODECS)
def test_a_file_that_ends_too_early_is_damaged(name):
    pieces = list(compressed(BLOCKS, name))
    whole = b"".join(pieces)
    for length in (1, len(pieces[0]) - 1, len(pieces[0]) + 5, len(whole) - 1):
        with pytest.raises(Damaged, match="ends in the middle"):
            list(decompressed(io.BytesIO(whole[:length]), name))


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("where", [0, 0.5, 1])
def test_a_flipped_bit_is_damage(name, where):
    whole = bytearray(b"".join(compressed(BLOCKS, name)))
    whole[int(where * (len(whole) - 1))] ^= 1
    with pytest.raises(Damaged):
        list(decompressed(io.BytesIO(bytes(whole)), name))


def test_blocks_wait_for_their_turn(monkeypatch):
    """However fast they come and slowly they go, only a few are in memory."""
    monkeypatch.setattr(codec.os, "sched_getaffinity", lambda _: {0, 1})
    taken = 0

    def blocks():
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b"x" * 1000

    for given_back, _ in enumerate(compressed(blocks(), "gzip"), start=1):
        assert taken - given_back <= 3
    assert given_back == 100


def test_nothing_is_compressed_to_nothing():
    assert list(compressed([], "gzip")) == []
    assert gzip.decompress(b"".join(compressed([b"x"], "gzip"))) == b"x"
