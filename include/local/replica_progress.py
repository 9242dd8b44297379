"""Whether a rollout is under way, and whether it has stood still for too long. Pure; seconds of any forward clock."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Counts:
    """The replicas at one moment."""

    desired: int
    updated: int  # of the version asked for
    updated_ready: int
    outdated: int  # of another version, those that are ending included


@dataclass
class Progress:
    """One rollout after another.

    Progress is one more updated replica ready than ever before in this rollout, or one outdated replica fewer: a
    replica that comes and goes makes none. Once a rollout is done it stays done, whatever dies later. As in
    Kubernetes, an exceeded deadline stops nothing: it is reported, and taken back should the rollout go on after all.
    """

    deadline: float
    rolling: bool = False
    _last: float = 0.0
    _most_ready: int = 0
    _fewest_outdated: int | None = None

    def begin(self, now: float) -> None:
        """Another version is asked for."""
        self.rolling = True
        self._last, self._most_ready, self._fewest_outdated = now, 0, None

    def observe(self, now: float, counts: Counts) -> None:
        """What there is now."""
        if not self.rolling:
            return
        if self._fewest_outdated is None:
            self._fewest_outdated = counts.outdated
        if counts.updated_ready > self._most_ready or counts.outdated < self._fewest_outdated:
            self._last = now
            self._most_ready = max(self._most_ready, counts.updated_ready)
            self._fewest_outdated = min(self._fewest_outdated, counts.outdated)
        self.rolling = not (counts.updated == counts.updated_ready == counts.desired and counts.outdated == 0)

    def exceeded(self, now: float) -> bool:
        """Whether the rollout has made no progress within the deadline."""
        return self.rolling and now - self._last > self.deadline
