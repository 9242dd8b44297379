"""The outcome of a comparison, as `evaluate` writes it and `promote` reads it, and the rule that decides it."""

from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict

from include.fraud.form import Rule

Decision = Literal["promote", "keep", "unchanged"]


class Difference(BaseModel):
    """Average precision of the challenger minus that of the champion, on the same rows, with a 95 % interval."""

    estimate: float
    low: float
    high: float

    def __str__(self) -> str:
        """As a sentence says it."""
        return f"by {self.estimate:+.4f} (95 % interval {self.low:+.4f} to {self.high:+.4f})"


class Evaluation(BaseModel):
    """Who won, by how much, and what follows from it."""

    model_config = ConfigDict(frozen=True)

    as_of: date
    winner: str
    run_id: str
    decision: Decision
    verdict: str
    test: dict[str, float]
    over_chance: Difference
    champion_version: str | None
    champion_test: dict[str, float] | None
    difference: Difference | None
    dry_run: bool
    version: str | None


def decide(
    winner: str,
    average_precision: float,
    floor: float,
    over_chance: Difference,
    champion: str | None,
    difference: Difference | None,
    rule: Rule,
    margin: float,
) -> tuple[Decision, str]:
    """The decision and the one plain sentence that says why.

    `over_chance` compares the winner with a score that is the same for every row, whose average precision is the
    fraud rate: the floor that no form can lower. `difference` compares it with the champion, when there is one.
    """
    has = f"{winner} (average precision {average_precision:.4f})"
    if over_chance.low <= 0:
        return "keep", f"{has} is not promoted: it is not surely better than the fraud rate, {over_chance}."
    if average_precision < floor:
        return "keep", f"{has} is not promoted: it is below the floor of {floor:g}."
    if difference is None:
        return "promote", f"{has} is the first champion: better than the fraud rate {over_chance}."
    needed, asks = (0.0, "better") if rule == "better" else (-margin, f"not worse than by {margin:g}")
    if difference.low > needed:
        return "promote", f"{has} replaces {champion}: {asks}, {difference}."
    return "keep", f"{has} does not replace {champion}: it is not surely {asks}, {difference}."
