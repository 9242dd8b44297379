"""How far a partition is done: up to the first message that has no outcome yet."""

from collections import deque

UNKNOWN = -1


class Progress:
    """The messages of one partition, from its assignment to this scorer until it is given to another.

    Outcomes come in any order; what may be committed is the offset below which every message has its own.
    """

    def __init__(self, topic: str, partition: int, begin: int = UNKNOWN) -> None:
        self.topic, self.partition = topic, partition
        self.position = begin  # what may be committed: the offset of the next message without an outcome
        self.committed = begin
        self.owned = True  # False: another scorer's now, nothing of it may be committed or need be done any more
        self._expected = begin
        self._open: deque[int] = deque()
        self._finished: set[int] = set()

    def read(self, offset: int) -> int:
        """A message was read. Returns how many offsets before it were never seen."""
        skipped = offset - self._expected if self._expected != UNKNOWN else 0
        if not self._open and (self.position == UNKNOWN or skipped):
            self.position = offset
        self._expected = offset + 1
        self._open.append(offset)
        return max(skipped, 0)

    def finish(self, offset: int) -> None:
        """Its outcome is in Kafka."""
        self._finished.add(offset)
        while self._open and self._open[0] in self._finished:
            done = self._open.popleft()
            self._finished.remove(done)
            self.position = self._open[0] if self._open else done + 1

    @property
    def to_commit(self) -> bool:
        """Whether more is done than is committed."""
        return self.position != UNKNOWN and self.position > self.committed
