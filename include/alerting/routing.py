"""Where Alertmanager sends an alert: matchers, the tree of routes and inhibition, evaluated as it does.

Source: Prometheus Alertmanager documentation, "Configuration" (route, matcher, inhibit_rule).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from include.alerting.prometheus import seconds

Labels = Mapping[str, str]
ONE_MATCHER = re.compile(r"\s*([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(=~|!~|!=|=)\s*(.*?)\s*", re.DOTALL)
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True)
class Matcher:
    """One condition on one label; a label that is not there is empty."""

    name: str
    value: str
    regex: bool
    equal: bool

    def holds(self, labels: Labels) -> bool:
        """Whether the labels satisfy it. A regular expression must match the whole value."""
        value = labels.get(self.name, "")
        same = bool(re.fullmatch(self.value, value, re.DOTALL)) if self.regex else value == self.value
        return same == self.equal

    def __str__(self) -> str:
        """As people write it."""
        operator = ("=~" if self.regex else "=") if self.equal else ("!~" if self.regex else "!=")
        return f'{self.name}{operator}"{self.value}"'


@dataclass(frozen=True)
class Reached:
    """A route that an alert ends at, with all that it inherits."""

    receiver: str
    group_by: tuple[str, ...]
    group_wait: float
    group_interval: float
    repeat_interval: float
    mute_time_intervals: tuple[str, ...]
    active_time_intervals: tuple[str, ...]


ROOT = Reached("", (), 30, 300, 4 * 3600, (), ())


def parse_matchers(line: str) -> list[Matcher]:
    """One line of `matchers`: one condition or several with commas between, with or without braces."""
    inner = line.strip()
    if inner.startswith("{"):
        inner = inner[1:]
    if inner.endswith("}"):
        inner = inner[:-1]
    return [_parse_matcher(part) for part in _split(inner)]


def _split(line: str) -> list[str]:
    parts, current, quoted, escaped = [], "", False, False
    for character in line:
        if character == "," and not quoted:
            parts.append(current)
            current = ""
            continue
        if character == '"' and not escaped:
            quoted = not quoted
        escaped = character == "\\" and not escaped
        current += character
    return [part for part in [*parts, current] if part.strip()]


def _parse_matcher(text: str) -> Matcher:
    found = ONE_MATCHER.fullmatch(text)
    if not found:
        raise ValueError(f'not a matcher: {text!r}; it must be name = "value", or with !=, =~, !~')
    name, operator, value = found.groups()
    if value.startswith('"'):
        quoted = QUOTED.fullmatch(value)
        if not quoted:
            raise ValueError(f"not a matcher: {text!r}; its quote is not closed, or something follows it")
        value = quoted[1]
    value = re.sub(r'\\([n"\\])', lambda escape: ESCAPES[escape[1]], value)
    return Matcher(name, value, "~" in operator, not operator.startswith("!"))


def conditions(written: Mapping[str, Any], prefix: str = "") -> list[Matcher]:
    """All three ways to write them: `matchers`, `match` and `match_re`, in an inhibition with source_ or target_."""
    found = [one for line in written.get(f"{prefix}matchers") or [] for one in parse_matchers(str(line))]
    for key, regex in ((f"{prefix}match", False), (f"{prefix}match_re", True)):
        found += [Matcher(name, str(value), regex, True) for name, value in (written.get(key) or {}).items()]
    return found


def routes(config: Mapping[str, Any], labels: Labels) -> list[Reached]:
    """The routes that an alert with these labels ends at, in order."""
    return list(_walk(config["route"], labels, ROOT))


def _walk(route: Mapping[str, Any], labels: Labels, parent: Reached) -> Iterator[Reached]:
    here = _inherit(route, parent)
    found = False
    for child in route.get("routes") or []:
        if all(matcher.holds(labels) for matcher in conditions(child)):
            found = True
            yield from _walk(child, labels, here)
            if not child.get("continue", False):
                break
    if not found:
        yield here


def _inherit(route: Mapping[str, Any], parent: Reached) -> Reached:
    def time(key: str, inherited: float) -> float:
        return seconds(route[key]) if route.get(key) is not None else inherited

    return Reached(
        receiver=route.get("receiver") or parent.receiver,
        group_by=tuple(route["group_by"]) if route.get("group_by") is not None else parent.group_by,
        group_wait=time("group_wait", parent.group_wait),
        group_interval=time("group_interval", parent.group_interval),
        repeat_interval=time("repeat_interval", parent.repeat_interval),
        mute_time_intervals=tuple(route.get("mute_time_intervals") or ()),
        active_time_intervals=tuple(route.get("active_time_intervals") or ()),
    )


def inhibitors(config: Mapping[str, Any], labels: Labels, active: list[dict[str, str]]) -> list[tuple[str, str]]:
    """Which of the active alerts would inhibit one with these labels: name of each, and the rule that says so."""
    found = []
    for rule in config.get("inhibit_rules") or []:
        source, target = conditions(rule, "source_"), conditions(rule, "target_")
        if not all(matcher.holds(labels) for matcher in target):
            continue
        both = all(matcher.holds(labels) for matcher in source)  # then others that are both do not count
        for other in active:
            if not all(matcher.holds(other) for matcher in source):
                continue
            if both and all(matcher.holds(other) for matcher in target):
                continue
            if all(other.get(name, "") == labels.get(name, "") for name in rule.get("equal") or []):
                said = f"{', '.join(map(str, source))} inhibits {', '.join(map(str, target))}"
                found.append((other.get("alertname", ""), said))
    return found
