"""What a drill is going to do, and how long each link of the chain may take with the settings in force."""

import math
import re

from pydantic import BaseModel, ConfigDict, Field

from include.command import BadInput

ALERT = "AdminNotification_MaxScaleHighCPU"
RECEIVER = "admin"
CPU, REPLICAS = "model_api:cpu_utilisation:max", "model_api:replicas_ready"
EACH_CPU = "model_api:cpu_utilisation"  # a series for each replica
THRESHOLD = 0.8
STAGE = re.compile(r"(?:(\d+(?:\.\d+)?)-)?(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)")


class Part(BaseModel):
    """Parts of a plan do not change."""

    model_config = ConfigDict(frozen=True)


class Stage(Part):
    """Messages a second, and for how many seconds. A ramp begins at another rate."""

    rate: float
    hold: float
    began_at: float | None = None

    @property
    def fastest(self) -> float:
        """The highest rate of it."""
        return max(self.rate, self.began_at or 0)

    def __str__(self) -> str:
        """As the attack's flag has it."""
        return f"{'' if self.began_at is None else f'{self.began_at:g}-'}{self.rate:g}x{self.hold:g}"


class PlannedChannel(Part):
    """One way by which the admin is told."""

    kind: str
    to: str
    send_resolved: bool
    smarthost: str = ""
    sender: str = ""


class PlannedAlert(Part):
    """The alert as it will be."""

    name: str
    receiver: str
    labels: dict[str, str] = Field(description="as Alertmanager will see them")
    query: str
    channels: list[PlannedChannel]

    def proved(self) -> list[str]:
        """The kinds of channels that end in the inbox, each once."""
        return sorted({one.kind for one in self.channels if one.kind in ("mail", "webhook")})

    def proved_resolved(self) -> list[str]:
        """Those of them that also tell the end."""
        return sorted({one.kind for one in self.channels if one.kind in self.proved() and one.send_resolved})


class Timing(Part):
    """The settings in force, in seconds."""

    window: float = Field(description="over which the recording rules look back")
    scrape: float
    evaluation: float
    hold: float = Field(description="the rule's `for`")
    group_wait: float
    group_interval: float
    group: str = Field(description="new, open, or perhaps open: whether the admin's group waits for its next interval")
    delivery_allowance: float = 15

    @property
    def hold_in_evaluations(self) -> float:
        """A rule fires at an evaluation: `for`, rounded up to evaluations."""
        return math.ceil(round(self.hold / self.evaluation, 6)) * self.evaluation

    @property
    def wait(self) -> float:
        """The longest that Alertmanager keeps a new alert before it notifies."""
        return self.group_wait if self.group == "new" else max(self.group_wait, self.group_interval)

    def terms(self) -> list[tuple[str, float, float]]:
        """From the moment when the service is at its limit to the receipt: what is waited for, at least and at most."""
        return [
            ("window of the recording rule", 0, self.window),
            ("scrape", 0, self.scrape),
            ("evaluation of the recording rule", 0, self.evaluation),
            ("evaluation of the alert", 0, self.evaluation),
            ("`for`, rounded up to evaluations", self.hold, self.hold_in_evaluations),
            (
                "group_wait" if self.group == "new" else f"group_interval, as the group is {self.group}",
                self.group_wait if self.group == "new" else 0,
                self.wait,
            ),
        ]

    @property
    def resolve(self) -> float:
        """At most from the end of the alert, as the rule has it, to the notification that it is over."""
        return self.evaluation + self.group_interval


class Expected(Part):
    """Seconds at least and at most, and the sum that they are."""

    min: float
    max: float
    formula: str
    terms: list[tuple[str, float, float]]


class PlannedAttack(Part):
    """The flags of the attack."""

    stages: str
    surge_factor: float
    surge_hold: float
    surge_cap: float
    raise_until: str
    stop_when: str
    deadline_seconds: float


class Drill(Part):
    """The plan: what preflight hands to all that follow."""

    drill: str
    started: float
    deadline: float
    recovery_seconds: float
    alert: PlannedAlert
    timing: Timing
    expected_seconds: Expected
    attack: PlannedAttack
    quiet_rate: float
    least_replicas: int
    most_replicas: int
    replicas_before: float
    job: str
    time_compression: float
    notes: list[str] = Field(default_factory=list)
    canary: dict[str, float] = Field(default_factory=dict, description="seconds until it arrived, by channel")
    said: str


def expect(timing: Timing) -> Expected:
    """The sum of all terms."""
    terms = timing.terms()
    least, most = sum(low for _, low, _ in terms), sum(high for _, _, high in terms)
    formula = " + ".join(f"{high:g} ({name})" for name, _, high in terms) + f" = {most:g} s"
    return Expected(min=least, max=most, formula=formula, terms=terms)


def parse_stages(text: str) -> list[Stage]:
    """`50x10,50-200x20`: 50 a second for 10 s, then ever more up to 200 a second for 20 s."""
    stages = []
    for part in text.split(","):
        found = STAGE.fullmatch(part.strip())
        if not found or float(found[2]) <= 0 or float(found[3]) <= 0:
            raise BadInput(f"--stages {text!r}: {part.strip()!r} is not RATExSECONDS; write for example 50x10,200x20")
        began_at = None if found[1] is None else float(found[1])
        stages.append(Stage(rate=float(found[2]), hold=float(found[3]), began_at=began_at))
    return stages


def quiet_hold(timing: Timing) -> float:
    """How long a stage must be held so that it would have paged if its load could page."""
    return math.ceil(timing.hold_in_evaluations + timing.window + timing.scrape + 2 * timing.evaluation) + 1


def with_quiet_stage(stages: list[Stage], quiet_rate: float, timing: Timing) -> list[Stage]:
    """The same stages, the last one that must not page held so long that it would; without one, it is put first."""
    quiet = [number for number, stage in enumerate(stages) if stage.fastest <= quiet_rate]
    hold = quiet_hold(timing)
    if not quiet:
        return [Stage(rate=quiet_rate, hold=hold), *stages]
    last = quiet[-1]
    held = stages[last].model_copy(update={"hold": max(stages[last].hold, hold)})
    return [*stages[:last], held, *stages[last + 1 :]]
