"""The tags that a DAG may carry; a test refuses any other."""

from enum import StrEnum


class Tag(StrEnum):
    """What a pipeline is about."""

    DATA = "data"
    MODEL = "model"
    SERVING = "serving"
    ALERTS = "alerts"
    BACKUP = "backup"


class Tier(StrEnum):
    """How soon somebody must look when it fails."""

    ONE = "tier-1: the same day"
    TWO = "tier-2: this week"
