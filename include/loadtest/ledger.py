"""What became of each message, in memory that the sender and the observer share.

Message n of a run has the id `first_id + n`; entry n of each column is about it. Every entry is written by one process
only, so no lock is needed. The memory is an anonymous mapping, inherited by fork: it has no name that a killed process
could leave behind, and pages that no message reached are never taken.
"""

import mmap
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


class Said(IntEnum):
    """The places of the few numbers that the two processes tell each other."""

    SENT = 0  # the sender's
    ACKED = 1
    FAILED = 2
    QUEUE_FULL = 3
    STAGE_KIND = 4  # 0 stage, 1 surge
    STAGE_RATE = 5  # thousandths of a message a second
    STAGE_END_RATE = 6
    STOPPED = 7  # 1: no message is sent any more
    FINISH = 8  # 1: the observer says the last word and ends
    ENOUGH = 9  # the observer's; 1 while the surge need not be raised
    OVER = 10  # 1: the load may stop
    ANSWERED_AT = 11  # when Prometheus last answered, ns since 1970
    BEAT_AT = 12  # when the observer last lived, ns since 1970


class Ledger:
    """Columns of `room` messages, and the numbers of `Said`."""

    def __init__(self, first_id: int, room: int) -> None:
        self.first_id, self.room = first_id, room
        self.said: Times = self._column(np.int64, len(Said))
        self.due: Times = self._column(np.int64, room)  # ns since 1970
        self.sent: Times = self._column(np.int64, room)  # ns since 1970; 0 was not sent
        self.ended: Times = self._column(np.int64, room)  # ns since 1970; the negative of it when failed; 0 is open
        self.answered: Times = self._column(np.int64, room)  # ms since 1970; the negative of it when dead-lettered
        self.again: NDArray[np.uint8] = self._column(np.uint8, room)  # how often it was answered once more

    def unaccounted(self, until: int) -> int:
        """How many of the first `until` messages are acked and have no answer."""
        return int(np.count_nonzero((self.ended[:until] > 0) & (self.answered[:until] == 0)))

    @staticmethod
    def _column(kind: type, length: int) -> NDArray:
        memory = mmap.mmap(-1, max(length, 1) * np.dtype(kind).itemsize)
        return np.frombuffer(memory, dtype=kind)
