"""What to do next so that the replicas become what is asked for: a Deployment with maxUnavailable 0 and maxSurge 1.

Pure: it is told who runs and answers with one action. Asked again after each action until there is nothing to do, it
gives a rolling update, an undo and a change of the number of replicas alike, whatever state it starts from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SURGE = 1


@dataclass(frozen=True)
class Seen:
    """One replica as the plan sees it, in the order in which they were started."""

    name: str
    version: str
    ready: bool
    stopping: bool = False


@dataclass(frozen=True)
class Start:
    """Start one more replica of this version."""

    version: str


@dataclass(frozen=True)
class Stop:
    """End this replica."""

    name: str


def next_action(desired: int, version: str, replicas: Sequence[Seen]) -> Start | Stop | None:
    """The next thing to do, or None while there is nothing to do but wait.

    Never more than `desired` + 1 replicas live, those that are ending included; never is a ready one ended while
    fewer than `desired` others are ready.
    """
    staying = [replica for replica in replicas if not replica.stopping]
    updated = [replica for replica in staying if replica.version == version]
    outdated = [replica for replica in staying if replica.version != version]
    if leaving := _dispensable(desired, updated, outdated):
        return Stop(leaving.name)
    if len(updated) > desired:
        return Stop(_least_missed(updated).name)
    surge = SURGE if outdated or len(replicas) > len(staying) else 0
    if len(updated) < desired and len(replicas) < desired + surge:
        return Start(version)
    return None


def _least_missed(updated: Sequence[Seen]) -> Seen:
    """One that does not serve if there is one, else the youngest."""
    return next((replica for replica in updated if not replica.ready), updated[-1])


def _dispensable(desired: int, updated: Sequence[Seen], outdated: Sequence[Seen]) -> Seen | None:
    """An outdated replica that nobody needs: one that does not serve first, else the oldest."""
    coming = sum(not replica.ready for replica in updated)
    for replica in outdated:
        if not replica.ready and len(updated) + len(outdated) - coming > desired:
            return replica
    serving = [replica for replica in outdated if replica.ready]
    spare = sum(replica.ready for replica in updated) + len(serving) - desired
    return serving[0] if serving and spare > 0 else None
