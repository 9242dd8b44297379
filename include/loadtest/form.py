"""What a person may choose when an attack is started by hand. The trigger form of the drill is made from this."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from include.loadtest.schedule import parse_stages


class AttackForm(BaseModel):
    """Fields of the drill that shape its load."""

    model_config = ConfigDict(extra="forbid")

    stages: str = Field(
        "50x60,200x60,500x60,1500x120",
        title="Stages",
        description="messages a second x seconds, separated by commas",
    )
    quiet_rate: int = Field(
        200,
        ge=1,
        title="Quiet rate",
        description="stages up to this rate must not page; the last of them is held long enough to show it",
    )
    surge_factor: float = Field(
        1.5, gt=1, le=4, title="Surge, factor", description="by which the rate is raised after the stages"
    )
    surge_hold: int = Field(
        30, ge=2, le=600, title="Surge, seconds a step", description="how long each raised rate is held at least"
    )
    surge_cap: int = Field(
        12_000,
        ge=1,
        le=100_000,
        title="Surge, cap",
        description="messages a second that are never passed; reaching it is reported as the capacity found",
    )
    max_minutes: int = Field(
        40, ge=1, le=120, title="Minutes at most", description="the load ends after that, whatever happens"
    )
    max_messages: int = Field(
        10_000_000, ge=1, le=50_000_000, title="Messages at most", description="the attack stops after that many"
    )
    max_failed: float = Field(
        0.01, gt=0, le=1, title="Error budget", description="share of messages that may fail within ten seconds"
    )

    @field_validator("stages")
    @classmethod
    def _stages_can_be_read(cls, text: str) -> str:
        parse_stages(text)
        return text
