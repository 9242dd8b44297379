"""The running service as a rollout sees it, wherever it runs."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Rollout:
    """Who changed the version last, what was live before, and what became of it."""

    id: str = ""
    previous_version: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class State:
    """What is asked of the service, and how far it is."""

    version: str  # asked for; empty when none is
    rollout: Rollout
    settled: bool  # every replica is of that version and ready, and no other is left
    stuck: str  # why it will not settle by itself; empty while it may
    progress: str  # for people
    replicas: int
    at_most: int


@dataclass(frozen=True)
class Pod:
    """One replica."""

    name: str
    version: str
    ready: bool
    restarts: int
    url: str


class Deployment(Protocol):
    """The one thing that a rollout may change."""

    def state(self) -> State:
        """As it is now."""

    def pods(self) -> list[Pod]:
        """The replicas that are not about to stop."""

    def set_version(self, version: str, cause: str, rollout: Rollout) -> None:
        """Ask for a version; the replicas are replaced one by one by whoever runs them. Empty: for none."""

    def record(self, rollout: Rollout) -> None:
        """Write down what became of the rollout, without changing anything that runs."""

    def forbidden(self) -> list[str]:
        """What a rollout needs and these credentials may not do."""
