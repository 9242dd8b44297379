"""The local service: replica processes whose supervisor reads `spec.json` and writes `status.json`."""

import json
import os
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from include.serving.rollout.deployment import Pod, Rollout, State

MOST_REPLICAS = 6
FRESH_SECONDS = 10.0


class LocalDeployment:
    """See `deployment.Deployment`. Raises ConnectionError when nobody looks after the replicas."""

    def __init__(self, folder: str) -> None:
        self._spec, self._status = Path(folder) / "spec.json", Path(folder) / "status.json"

    def state(self) -> State:
        """As spec and status say."""
        spec, status = _read(self._spec), self._fresh_status()
        seen = status["observed_generation"] >= spec.get("generation", 0)
        settled = seen and not status["rolling"]
        return State(
            version=spec.get("template", {}).get("version", ""),
            rollout=Rollout(**spec.get("rollout", {})),
            settled=settled and status["ready"] >= status["desired"],
            stuck=status["message"] if seen and status["progress_deadline_exceeded"] else "",
            progress=status["message"] if seen else "the supervisor has not seen the change yet",
            replicas=status["replicas"],
            at_most=MOST_REPLICAS,
        )

    def pods(self) -> list[Pod]:
        """The replicas, each on its own port."""
        return [
            Pod(pod["name"], pod["version"], pod["ready"], pod["restarts"], f"http://127.0.0.1:{pod['probe_port']}")
            for pod in self._fresh_status()["pods"]
            if pod["probe_port"] and not pod["stopping"]
        ]

    def set_version(self, version: str, cause: str, rollout: Rollout) -> None:
        """Ask for a version; empty: for none."""
        seen = self._fresh_status()["observed_generation"]
        generation = max(seen, _read(self._spec).get("generation", 0)) + 1
        if not version:
            self._spec.unlink(missing_ok=True)
            return
        template = {"version": version, "change_cause": cause}
        _write(self._spec, {"generation": generation, "template": template, "rollout": asdict(rollout)})

    def record(self, rollout: Rollout) -> None:
        """The generation stays, so the supervisor has nothing to do."""
        _write(self._spec, {**_read(self._spec), "rollout": asdict(rollout)})

    def forbidden(self) -> list[str]:
        """On one's own machine there is only the file's permission."""
        folder = self._spec.parent
        return [] if os.access(folder, os.W_OK) else [f"write to {folder}"]

    def _fresh_status(self) -> dict[str, Any]:
        status = _read(self._status)
        if not status or time.time() - self._status.stat().st_mtime > FRESH_SECONDS:
            raise ConnectionError(
                f"nobody looks after the replicas ({self._status} is missing or old); start the local stack: make up"
            )
        return status


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return content


def _write(path: Path, content: dict[str, Any]) -> None:
    """Whoever reads it sees all of it or nothing."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".spec-")
    with os.fdopen(handle, "w") as file:
        json.dump(content, file, indent=2)
    Path(temporary).replace(path)
