"""Step: a drill that did not end in a receipt has failed.

`python -m include.alerting.verdict --judged "$(cat judged.json)"`
"""

import logging

from include.alerting.judge import RECEIVED, Judged
from include.command import Refused, StepArgs, run

log = logging.getLogger(__name__)


class Args(StepArgs):
    """What the judge found."""

    judged: Judged


def main(args: Args) -> dict[str, str]:
    """Answer: the verdict. Raises Refused for any but ALERT_RECEIVED."""
    judged = args.judged
    answer = {"verdict": judged.verdict, "cause": judged.cause, "said": judged.said}
    if judged.verdict != RECEIVED:
        raise Refused(judged.said, answer)
    log.info("%s", judged.said)
    return answer


if __name__ == "__main__":
    run(main)
