"""A broken link, raised where it is found."""


class Broken(Exception):
    """The chain is broken here: which verdict, the cause, and the sentences that show it."""

    def __init__(self, verdict: str, cause: str, evidence: list[str]) -> None:
        super().__init__(f"{verdict} ({cause}): {evidence[0]}")
        self.verdict, self.cause, self.evidence = verdict, cause, evidence
