"""What a person may choose when a rollout is started by hand."""

from pydantic import BaseModel, ConfigDict, Field

from include.settings import settings


class RedeployForm(BaseModel):
    """Fields of `redeploy_model`."""

    model_config = ConfigDict(extra="forbid")

    version: str | None = Field(
        None, pattern=r"^[1-9]\d*$", title="Version", description="version to roll out; empty: the champion"
    )
    bake_seconds: int = Field(
        settings().bake_seconds,
        ge=10,
        le=3600,
        title="Bake, seconds",
        description="how long the new version is watched under real traffic",
    )
    deadline_seconds: int = Field(
        900, ge=60, le=3600, title="Deadline, seconds", description="within which every replica must be replaced"
    )
    force: bool = Field(
        False, title="Force", description="roll out even while the service runs at its maximum of replicas"
    )
