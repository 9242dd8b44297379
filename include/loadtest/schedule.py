"""When each message is due: stages with a rate of their own, then a surge that raises the rate step by step."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

NANOSECONDS = 1_000_000_000
MOST_STAGES, MOST_RATE, MOST_SECONDS = 50, 100_000.0, 86_400.0
_STAGE = re.compile(r"(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?x(\d+(?:\.\d+)?)")

Kind = Literal["stage", "surge"]


@dataclass
class Leg:
    """A stretch of the schedule: its rate is constant, or goes evenly from one to another."""

    kind: Kind
    rate: float  # messages a second at its begin
    end_rate: float
    seconds: float
    began: int = 0  # ns since 1970
    first: int = 0  # number of its first message in the whole run

    @property
    def name(self) -> str:
        """As people call it."""
        return stage_name(self.rate, self.end_rate)

    @property
    def mean_rate(self) -> float:
        """Messages a second over the whole leg."""
        return (self.rate + self.end_rate) / 2

    @property
    def ends(self) -> int:
        """When the next leg begins, in ns since 1970."""
        return self.began + round(self.seconds * NANOSECONDS)

    @property
    def count(self) -> int:
        """How many messages are due within it."""
        return math.ceil(round(self.mean_rate * self.seconds, 6))

    def due(self, nth: int) -> int:
        """When its `nth` message is due (from 0), in ns since 1970.

        Until time t of a leg, rate * t + (end_rate - rate) / seconds * t^2 / 2 messages are due; this is the t at which
        that is `nth`, in the form that also holds for a constant rate.
        """
        grows = (self.end_rate - self.rate) / self.seconds
        root = math.sqrt(max(self.rate * self.rate + 2 * grows * nth, 0.0))
        return self.began + round(2 * nth / (self.rate + root) * NANOSECONDS)


def stage_name(rate: float, end_rate: float) -> str:
    """As people call it: `200/s`, or `50-200/s` for a ramp."""
    return f"{rate:g}/s" if rate == end_rate else f"{rate:g}-{end_rate:g}/s"


def parse_stages(text: str) -> list[Leg]:
    """The legs of `50x60,200x60` (messages a second x seconds; `50-200x30` is a ramp). Raises ValueError."""
    stages = []
    for part in text.split(","):
        found = _STAGE.fullmatch(part.strip())
        if not found:
            raise ValueError(
                f"stage {part.strip()!r} is not rate x seconds; write for example 50x60,200x60, or 50-200x30 for a ramp"
            )
        rate, end_rate, seconds = float(found[1]), float(found[2] or found[1]), float(found[3])
        if not (min(rate, end_rate) > 0 and max(rate, end_rate) <= MOST_RATE and 0 < seconds <= MOST_SECONDS):
            raise ValueError(
                f"stage {part.strip()!r}: a rate is above 0 and at most {MOST_RATE:,.0f} a second, a stage lasts above "
                f"0 and at most {MOST_SECONDS:,.0f} s"
            )
        stages.append(Leg("stage", rate, end_rate, seconds))
    if len(stages) > MOST_STAGES:
        raise ValueError(f"{len(stages)} stages; at most {MOST_STAGES} are taken")
    return stages


@dataclass(frozen=True)
class Surge:
    """After the stages the rate is multiplied by `factor` every `hold` seconds, up to `cap`, until `enough` says so.

    While it is enough, and at the cap, the rate is held. When it is no longer enough, the rate is raised again.
    """

    factor: float
    hold: float
    cap: float
    enough: Callable[[], bool]


class Schedule:
    """The legs of one run, one after the other without a gap. `legs` grows as the run goes on."""

    def __init__(self, stages: Sequence[Leg], surge: Surge | None = None) -> None:
        self.legs: list[Leg] = []
        self._stages, self._surge = stages, surge

    def run(self, begin: int) -> Iterator[Leg]:
        """Each leg in turn, from `begin` (ns since 1970) on.

        A leg of the surge is given again, longer, when its rate is to be held: its messages are counted on.
        """
        for stage in self._stages:
            yield self._follow(begin, stage.kind, stage.rate, stage.end_rate, stage.seconds)
        while self._surge:
            last = self.legs[-1]
            rate = last.end_rate
            if not self._surge.enough():
                rate = max(rate, min(rate * self._surge.factor, self._surge.cap))
            if last.kind == "surge" and rate == last.end_rate:
                last.seconds += self._surge.hold
                yield last
            else:
                yield self._follow(begin, "surge", rate, rate, self._surge.hold)

    def _follow(self, begin: int, kind: Kind, rate: float, end_rate: float, seconds: float) -> Leg:
        last = self.legs[-1] if self.legs else None
        self.legs.append(
            Leg(
                kind, rate, end_rate, seconds,
                began=last.ends if last else begin,
                first=last.first + last.count if last else 0,
            )
        )  # fmt: skip
        return self.legs[-1]
