"""What the watch saw: facts with their times, and no opinion. Times are unix seconds."""

from pydantic import BaseModel, Field

from include.alerting.message import MAIL, Message, unix
from include.alerting.plan import ALERT, THRESHOLD, Drill

SAME_MOMENT = 0.002  # a mail tells milliseconds, Alertmanager more


class Look(BaseModel):
    """What Prometheus said at one moment; None: it has no sample of it."""

    at: float
    replicas: float | None = None
    cpu: float | None = Field(None, description="of the hottest replica, share of its limit")
    mean_cpu: float | None = Field(None, description="of all replicas, share of the limit; autoscalers act on it")
    targets: float | None = None
    rate: float | None = None

    @property
    def blind(self) -> bool:
        """Whether nobody could know of the load."""
        return self.cpu is None or self.replicas is None or not self.targets

    def kind(self) -> tuple[bool, bool, float | None, float | None]:
        """What a verdict can depend on."""
        return self.blind, (self.cpu or 0) > THRESHOLD, self.replicas, self.targets


class RuleState(BaseModel):
    """The rule from here on: inactive, pending, firing, missing, unhealthy, changed or reads nothing."""

    at: float
    state: str
    active_at: float | None = None
    error: str = ""


class AlertState(BaseModel):
    """The alert in Alertmanager from here on: active, suppressed or gone."""

    at: float
    state: str
    silenced_by: list[str] = Field(default_factory=list)
    inhibited_by: list[str] = Field(default_factory=list)
    receivers: list[str] = Field(default_factory=list)


class Receipt(BaseModel):
    """An alert of this name that arrived, be it ours or another."""

    channel: str
    received_at: float
    status: str
    fingerprint: str
    starts_at: float
    drill: bool


class ChannelState(BaseModel):
    """Why a channel is missing."""

    cause: str
    evidence: list[str]


class Away(BaseModel):
    """A server did not answer. `until` is None while it is away at the end."""

    server: str
    since: float
    until: float | None = None
    said: str = ""


class Line(BaseModel):
    """A series for the chart; the times are seconds since the start of the drill."""

    name: str
    points: list[tuple[float, float]]


class Watched(BaseModel):
    """The answer of the watch."""

    began: float
    ended: float
    over_at: float | None = Field(description="when the load was told to stop")
    hopeless: str = Field(description="why nothing more was waited for; empty: all arrived")
    attack_began: float | None = None
    attack_ended: float | None = None
    attack_silent: bool = Field(False, description="the attack stopped reporting without saying that it ended")
    fingerprint: str = ""
    starts_at: float | None = Field(None, description="when the rule began to fire, as Alertmanager has it")
    back_at: float | None = Field(None, description="when the replicas were back at the minimum, after the load")
    looks: list[Look] = Field(default_factory=list)
    rule: list[RuleState] = Field(default_factory=list)
    alert: list[AlertState] = Field(default_factory=list)
    receipts: list[Receipt] = Field(default_factory=list)
    missing: dict[str, ChannelState] = Field(default_factory=dict)
    away: list[Away] = Field(default_factory=list)
    lines: list[Line] = Field(default_factory=list)

    def firing_at(self) -> float | None:
        """When the rule began to fire; the moment of Alertmanager is exact, that of the looks is what is left."""
        first = next((one.at for one in self.rule if one.state == "firing"), None)
        return self.starts_at or first

    def received(self, plan: Drill, status: str) -> dict[str, float]:
        """When our alert arrived with that status, by channel."""
        arrived: dict[str, float] = {}
        for one in self.receipts:
            if one.status == status and self.ours(one, plan):
                arrived.setdefault(one.channel, one.received_at)
        return arrived

    def must_tell_the_end(self, plan: Drill) -> list[str]:
        """Channels by which the end must arrive. A mail of several alerts does not say which of them is over."""
        arrived = self.received(plan, "firing")
        together = [one.channel for one in self.receipts if not self.ours(one, plan) and self._with_ours(one, arrived)]
        return [kind for kind in plan.alert.proved_resolved() if not (kind == MAIL and kind in together)]

    def _with_ours(self, other: Receipt, arrived: dict[str, float]) -> bool:
        return arrived.get(other.channel) == other.received_at

    def ours(self, receipt: Receipt, plan: Drill) -> bool:
        """Whether it is the alert of this drill, and not that of another day."""
        if receipt.starts_at < plan.started:
            return False
        if self.fingerprint and self.starts_at:
            same = abs(receipt.starts_at - self.starts_at) <= SAME_MOMENT
            return same and receipt.fingerprint == self.fingerprint
        return receipt.drill  # Alertmanager was never seen with it


def receipts_of(message: Message) -> list[Receipt]:
    """The admin's alerts of a notification."""
    if message.alertname != ALERT:
        return []
    return [
        Receipt(
            channel=message.channel,
            received_at=message.received_at,
            status=one.status,
            fingerprint=one.fingerprint,
            starts_at=unix(one.starts_at),
            drill=message.drill,
        )
        for one in message.alerts
    ]
