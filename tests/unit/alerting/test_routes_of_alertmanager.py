"""Routes and inhibition as Alertmanager evaluates them; its own tool is asked for hundreds of trees."""

import os
import random
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.alerting.routing import inhibitors, parse_matchers, routes

ROOT = Path(__file__).parents[3]
TREES = 120
VALUES = ("a", "b", "ab", "a,b", 'say "a"', "x.y", "")
NAMES = ("alertname", "team", "drill")


def receivers(config: dict[str, Any], labels: dict[str, str]) -> list[str]:
    return [route.receiver for route in routes(config, labels)]


def matcher(chance: random.Random) -> str:
    name, operator = chance.choice(NAMES), chance.choice(("=", "!=", "=~", "!~"))
    value = chance.choice((*VALUES, "a|b", "a.*", ".+", ".*", "x[.]y", "(a|x).?"))
    written = value.replace("\\", "\\\\").replace('"', '\\"')
    space = chance.choice(("", " "))
    bare = chance.random() < 0.3 and value and not set(value) & set('", ')
    return name + space + operator + space + (value if bare else f'"{written}"')


def tree(chance: random.Random, depth: int = 0) -> dict[str, Any]:
    """A route with conditions written in every way, and children."""
    route: dict[str, Any] = {}
    if depth == 0 or chance.random() < 0.8:
        route["receiver"] = f"r{chance.randrange(6)}"
    if depth:
        kinds = chance.random()
        if kinds < 0.6:
            lines = [matcher(chance) for _ in range(chance.randint(1, 2))]
            route["matchers"] = ["{" + ",".join(lines) + "}"] if chance.random() < 0.3 else lines
        elif kinds < 0.8:
            route["match"] = {chance.choice(NAMES): chance.choice(VALUES)}
        else:
            route["match_re"] = {chance.choice(NAMES): chance.choice(("a|b", "a.*", ".*", ".+"))}
        route["continue"] = chance.random() < 0.4
    if depth < 3:
        children = [tree(chance, depth + 1) for _ in range(chance.randint(0, 3))]
        if children:
            route["routes"] = children
    return route


@pytest.fixture(scope="module")
def amtool() -> str:
    found = shutil.which("amtool")
    if not found:
        said = "amtool is not on PATH; on Debian and Ubuntu it comes with the package prometheus-alertmanager"
        if os.environ.get("CI"):
            pytest.fail(said, pytrace=False)
        pytest.skip(said)
    return found


def test_as_amtool_says(amtool: str, tmp_path: Path) -> None:
    """Random trees, random labels."""
    chance = random.Random(5)

    def check(number: int) -> tuple[int, list[str], list[str], str]:
        own = random.Random(seeds[number])
        config = {"route": tree(own), "receivers": [{"name": f"r{n}"} for n in range(6)]}
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(config))
        labels = {name: own.choice(VALUES) for name in NAMES if own.random() < 0.8}
        pairs = [f'{name}="{value}"'.replace('say "a"', 'say \\"a\\"') for name, value in labels.items()]
        command = [amtool, "config", "routes", "test", f"--config.file={file}", *pairs]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0, ran.stdout + ran.stderr + file.read_text()
        return number, ran.stdout.strip().split(","), receivers(config, labels), f"{labels}\n{file.read_text()}"

    seeds = [chance.randrange(10**9) for _ in range(TREES)]
    with ThreadPoolExecutor(2) as pool:
        for number, theirs, ours, said in pool.map(check, range(TREES)):
            assert ours == theirs, f"tree {number}: {said}"


def test_times_are_inherited() -> None:
    config = {
        "route": {
            "receiver": "team",
            "group_wait": "1m",
            "routes": [
                {
                    "matchers": ['alertname =~ "Admin.*"'],
                    "receiver": "admin",
                    "group_interval": "1m30s",
                    "mute_time_intervals": ["night"],
                    "routes": [{"matchers": ["drill=true"], "group_wait": "0s"}],
                }
            ],
        }
    }
    (drill,) = routes(config, {"alertname": "Admin", "drill": "true"})
    assert (drill.receiver, drill.group_wait, drill.group_interval) == ("admin", 0, 90)
    assert drill.mute_time_intervals == ()  # not inherited
    (plain,) = routes(config, {"alertname": "Admin"})
    assert (plain.group_wait, plain.mute_time_intervals) == (60, ("night",))


@pytest.mark.parametrize("text", ["", "a", 'a="b', 'a="b"c', "1a=b"])
def test_what_is_no_matcher(text: str) -> None:
    if text:
        with pytest.raises(ValueError, match="not a matcher"):
            parse_matchers(text)
    else:
        assert parse_matchers(text) == []


OURS = {"alertname": "Admin", "severity": "critical", "namespace": "mlops"}
BY_WARNING = {"source_match": {"severity": "warning"}, "target_match_re": {"severity": "crit.*"}}


@pytest.mark.parametrize(
    ("rule", "other", "inhibits"),
    [
        (BY_WARNING, {"alertname": "X", "severity": "warning"}, True),
        (BY_WARNING, {"alertname": "X", "severity": "none"}, False),
        (BY_WARNING | {"equal": ["namespace"]}, {"severity": "warning", "namespace": "mlops"}, True),
        (BY_WARNING | {"equal": ["namespace"]}, {"severity": "warning", "namespace": "other"}, False),
        (BY_WARNING | {"equal": ["zone"]}, {"severity": "warning"}, True),  # neither has one
        ({"source_matchers": ["severity=critical"], "target_matchers": ["severity=critical"]}, dict(OURS), False),
        ({"source_matchers": ["severity=critical"], "target_matchers": ["namespace=mlops"]}, dict(OURS), False),
        ({"source_matchers": ["severity=critical"], "target_matchers": ["namespace=mlops"]},
         {"severity": "critical"}, True),
    ],
)  # fmt: skip
def test_inhibition(rule: dict[str, Any], other: dict[str, str], inhibits: bool) -> None:
    assert bool(inhibitors({"inhibit_rules": [rule]}, OURS, [other])) == inhibits


def test_our_own_configuration_leads_to_the_admin() -> None:
    config = yaml.safe_load((ROOT / "deploy/alertmanager/alertmanager.yaml").read_text())
    assert receivers(config, {"alertname": "AdminNotification_MaxScaleHighCPU", "drill": "true"}) == ["admin"]
