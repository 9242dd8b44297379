"""Shorter times for a drill that somebody waits for: MLOPS_TIME_COMPRESSION divides the times of rules and routing.

Texts are changed, not data read and written anew, so the comments stay and a factor of 1 changes no byte. What a rule
counts in seconds itself (the 26 hours of a backup) is left alone.
"""

import re
from collections.abc import Callable
from fractions import Fraction

from include.local.state import StackError

SETTING = "MLOPS_TIME_COMPRESSION"
SCRAPE_SECONDS = 15  # between two scrapes, and between two evaluations of the rules
SHORTEST_SCRAPE = 1
RESEND_SECONDS = 60  # after which Prometheus sends an alert again that still fires
UNITS = {"ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600), "d": Fraction(86400)}
DURATION = r"(\d+)(ms|[smhd])\b"
FOR = re.compile(rf"(\bfor: ){DURATION}")
WINDOW = re.compile(rf"(\[){DURATION}(?=\])")
ROUTE_TIME = re.compile(rf"(\b(?:group_wait|group_interval|repeat_interval): ){DURATION}")


def factor_of(said: str) -> Fraction:
    """The factor that a setting asks for. Raises StackError."""
    try:
        factor = Fraction(said)
    except (ValueError, ZeroDivisionError):
        factor = Fraction(0)
    if not 1 <= factor <= 60:
        raise StackError(f"{SETTING} is {said!r}; it divides the times of the alerts and is a number from 1 to 60")
    return factor


def rules(text: str, factor: Fraction) -> str:
    """A file of Prometheus' rules with shorter `for` and windows.

    A window must go on holding the same number of scrapes, which cannot be more often than one a second.
    """
    shorter = FOR.sub(_divided_by(factor), text)
    return WINDOW.sub(_divided_by(min(factor, Fraction(SCRAPE_SECONDS, SHORTEST_SCRAPE))), shorter)


def routing(text: str, factor: Fraction) -> str:
    """Alertmanager's configuration with shorter waits and intervals."""
    return ROUTE_TIME.sub(_divided_by(factor), text)


def scrape_seconds(factor: Fraction) -> Fraction:
    """How often Prometheus asks its targets and evaluates its rules."""
    return max(SCRAPE_SECONDS / factor, Fraction(SHORTEST_SCRAPE))


def resend_delay(factor: Fraction) -> str:
    """After how long Prometheus tells Alertmanager again that an alert fires."""
    return duration(RESEND_SECONDS / factor)


def duration(seconds: Fraction) -> str:
    """As Prometheus writes it: whole seconds where it can, else milliseconds."""
    return f"{seconds}s" if seconds.denominator == 1 else f"{round(seconds * 1000)}ms"


def _divided_by(factor: Fraction) -> Callable[[re.Match[str]], str]:
    def shorter(found: re.Match[str]) -> str:
        return found[0] if factor == 1 else found[1] + duration(int(found[2]) * UNITS[found[3]] / factor)

    return shorter
