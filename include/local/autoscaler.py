"""How many replicas there should be: the formula of Kubernetes' HorizontalPodAutoscaler, without a clock or a process.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", sections "Algorithm details", "Support for resource
metrics" and "Stabilization window"; where it is silent or differs, the controller itself
(pkg/controller/podautoscaler/replica_calculator.go and horizontal.go), since that is what runs in a cluster:

- ratio = utilisation / target, where utilisation is the sum of usage over the sum of requests, in whole percent;
  desired = ceil(ratio * measured replicas), unless the ratio is within 0.1 of 1, which changes nothing.
- CPU of a replica that is not ready yet is set aside: starting is work, but not load. It counts as 0 when the others
  ask for more.
- A replica without a figure counts as 0 when the others ask for more, and as its whole request when they ask for fewer.
  (The documentation says 100 % of the target there; the controller takes 100 % of the request, which is more careful.)
- A ratio that such assumptions turn round changes nothing.
- Of several metrics the highest result wins; while one of them has no figure at all, nothing is taken away.
- Fewer replicas only when nothing within the stabilisation window asked for more. More replicas at once.

Left out, because they cannot matter between 4 and 6: the scaling policies (at most four more, or double, in 15 s).
"""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

TOLERANCE = 0.1
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Usage:
    """What one replica uses: cores and bytes. None: there is no figure (yet)."""

    cpu: float | None
    memory: float | None
    ready: bool = True  # and was so for the whole time that `cpu` is measured over


@dataclass(frozen=True)
class Requests:
    """What one replica asks for, as in the chart's `resources.requests`: cores and bytes."""

    cpu: float = 0.1
    memory: float = 128 * MEBIBYTE


@dataclass(frozen=True)
class Targets:
    """The autoscaler's settings: percent of the request, numbers of replicas, seconds."""

    cpu: int = 80
    memory: int = 70
    least: int = 4
    most: int = 6
    scale_down_window: float = 300.0


@dataclass
class Autoscaler:
    """The recommendations so far, and the next one."""

    requests: Requests = field(default_factory=Requests)
    targets: Targets = field(default_factory=Targets)
    _recommended: deque[tuple[float, int]] = field(default_factory=deque)

    def desired(self, now: float, current: int, usages: Sequence[Usage]) -> int:
        """How many replicas there should be now.

        :param now: seconds of any clock that only goes forward
        :param current: how many are asked for at present
        """
        if not self._recommended:
            self._recommended.append((now, current))  # a new controller must not take away what the one before gave
        self._recommended.append((now, self._proposed(current, usages)))
        while self._recommended[0][0] < now - self.targets.scale_down_window:
            self._recommended.popleft()
        newest = self._recommended[-1][1]
        highest = max(count for _, count in self._recommended)
        stable = newest if newest >= current else min(current, highest)
        return min(max(stable, self.targets.least), self.targets.most)

    def _proposed(self, current: int, usages: Sequence[Usage]) -> int:
        proposals = (
            proposed(current, cpu_figures(usages), self.requests.cpu, self.targets.cpu),
            proposed(current, memory_figures(usages), self.requests.memory, self.targets.memory),
        )
        known = [proposal for proposal in proposals if proposal is not None]
        if len(known) < len(proposals):
            known.append(current)  # half blind, it may add but not take away
        return max(known)


@dataclass(frozen=True)
class Figures:
    """One metric of all replicas: who was measured, how many have no figure, how many are not ready yet."""

    measured: tuple[float, ...]
    missing: int = 0
    unready: int = 0


def cpu_figures(usages: Sequence[Usage]) -> Figures:
    """CPU, with what is not ready yet set aside."""
    ready = [usage for usage in usages if usage.ready]
    measured = tuple(usage.cpu for usage in ready if usage.cpu is not None)
    return Figures(measured, missing=len(ready) - len(measured), unready=len(usages) - len(ready))


def memory_figures(usages: Sequence[Usage]) -> Figures:
    """Memory, which is used as soon as the replica lives."""
    measured = tuple(usage.memory for usage in usages if usage.memory is not None)
    return Figures(measured, missing=len(usages) - len(measured))


def proposed(current: int, figures: Figures, request: float, target: int) -> int | None:
    """How many replicas this one metric asks for; None when nobody was measured.

    :param request: what one replica asks for, in the unit of the figures
    :param target: the utilisation to hold, in percent of the request
    """
    if not figures.measured:
        return None
    first = _ratio(figures.measured, request, target)
    assumed = [
        *_of_missing(first, figures.missing, request, target),
        *([0.0] * figures.unready if first > 1 else []),
    ]
    if not assumed:
        return current if _within_tolerance(first) else math.ceil(first * len(figures.measured))
    considered = [*figures.measured, *assumed]
    second = _ratio(considered, request, target)
    if _within_tolerance(second) or (first < 1) != (second < 1):
        return current
    wanted = math.ceil(second * len(considered))
    turned_round = wanted > current if second < 1 else wanted < current
    return current if turned_round else wanted


def _of_missing(ratio: float, missing: int, request: float, target: int) -> list[float]:
    if ratio == 1:
        return []
    return [max(100, target) / 100 * request if ratio < 1 else 0.0] * missing


def _ratio(usages: Sequence[float], request: float, target: int) -> float:
    utilisation = int(sum(usages) * 100 / (request * len(usages)) + 1e-9)  # whole percent, as the controller counts
    return utilisation / target


def _within_tolerance(ratio: float) -> bool:
    return abs(1 - ratio) <= TOLERANCE + 1e-9


def as_percent(usages: Sequence[Usage], requests: Requests) -> Mapping[str, int | None]:
    """The utilisation of both metrics, for people."""
    pairs = {
        "cpu": (cpu_figures(usages).measured, requests.cpu),
        "memory": (memory_figures(usages).measured, requests.memory),
    }
    return {
        name: round(100 * sum(measured) / (request * len(measured))) if measured else None
        for name, (measured, request) in pairs.items()
    }
