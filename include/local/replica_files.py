"""The files between whoever asks for a version and the supervisor that runs it.

spec.json     what is asked for: {"generation": 7, "template": {"version": "3", "change_cause": "…"}}; no file: nothing
status.json   what there is, rewritten after each change and every two seconds
targets.json  for Prometheus: the probe port of every replica that has a process; beside status.json
"""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # it becomes the name of a folder


class SpecError(Exception):
    """The spec cannot be followed; the message names the value and the rule."""


@dataclass(frozen=True)
class Spec:
    """What is asked for."""

    generation: int
    version: str
    change_cause: str = ""


def read_spec(path: Path) -> Spec | None:
    """What is asked for, or None when nothing is. Raises SpecError."""
    try:
        said = path.read_text()
    except FileNotFoundError:
        return None
    try:
        spec = json.loads(said)
        template = spec["template"]
        generation, version = int(spec["generation"]), str(template["version"])
        cause = str(template.get("change_cause") or "")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SpecError(
            f"{path} does not hold a generation and a template with a version: {type(error).__name__}: {error}"
        ) from error
    if not VERSION.fullmatch(version):
        raise SpecError(f"{path}: version {version!r} is not letters, digits, points and dashes, 64 at most")
    return Spec(generation, version, cause)


def targets_file(status: Path) -> Path:
    """Where Prometheus reads which replicas there are."""
    return status.with_name("targets.json")


def targets(pods: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The replicas of a status, in the form of Prometheus' file_sd_configs."""
    return [
        {"targets": [f"127.0.0.1:{pod['probe_port']}"], "labels": {"pod": pod["name"]}}
        for pod in pods
        if pod["probe_port"] is not None
    ]


def write_whole(path: Path, content: Mapping[str, Any] | list[dict[str, Any]]) -> None:
    """Whoever reads the file sees all of it: the old or the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = path.with_name(f".{path.name}.{os.getpid()}")
    whole.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n")
    whole.replace(path)
