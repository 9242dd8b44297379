"""The controller: reads what is asked for, does what the plan says, tells what there is."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from include.local.autoscaler import Autoscaler, Usage, as_percent
from include.local.replica import Means, Replica
from include.local.replica_files import Spec, SpecError, read_spec, targets, targets_file, write_whole
from include.local.replica_plan import Seen, Start, next_action
from include.local.replica_progress import Counts, Progress
from include.local.replica_usage import Meter

TICK_SECONDS = 0.2
STATUS_SECONDS = 2.0


class Deployment:
    """All replicas. While `run` runs, they become what the file `spec` asks for, and the file `status` tells it."""

    def __init__(
        self, means: Means, spec: Path, status: Path, autoscaler: Autoscaler, progress_deadline: float
    ) -> None:
        self._means = means
        self._spec_file, self._status_file = spec, status
        self._autoscaler = autoscaler
        self._replicas: list[Replica] = []  # in the order of start
        self._spec: Spec | None = None
        self._complaint = ""
        self._wanted = autoscaler.targets.least
        self._progress = Progress(progress_deadline)
        self._meter = Meter()
        self._usages: list[Usage] = []
        self._measured_at = time.monotonic()
        self._count = 0
        self._restarts_of_gone = 0
        self._told: dict[str, Any] = {}
        self._told_targets: list[dict[str, Any]] | None = None
        self._told_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Keep the replicas as asked for until `stop` is set; then end all of them."""
        limits = httpx.Limits(max_keepalive_connections=0)  # a probe that reuses a connection would not test accepting
        async with httpx.AsyncClient(trust_env=False, limits=limits, timeout=None) as client:  # noqa: S113 - in Replica
            try:
                while not stop.is_set():
                    self._tick(client)
                    with suppress(TimeoutError):
                        await asyncio.wait_for(stop.wait(), TICK_SECONDS)
            finally:
                for replica in self._replicas:
                    replica.stop()
                await asyncio.gather(*(replica.wait_gone() for replica in self._replicas))
                self._replicas.clear()
                self._told.clear()  # so that it is told in any case
                self._tell()

    def _tick(self, client: httpx.AsyncClient) -> None:
        self._look()
        self._read_spec()
        self._autoscale()
        while action := next_action(self._desired(), self._version(), self._seen()):
            if isinstance(action, Start):
                self._start(action.version, client)
            else:
                next(replica for replica in self._replicas if replica.name == action.name).stop()
        was_rolling = self._progress.rolling
        self._progress.observe(time.monotonic(), self._counts())
        if was_rolling and not self._progress.rolling:
            self._means.models.prune({replica.version for replica in self._replicas})
        self._tell()

    def _look(self) -> None:
        gone = [replica for replica in self._replicas if replica.gone()]
        self._restarts_of_gone += sum(replica.restarts for replica in gone)
        self._replicas = [replica for replica in self._replicas if replica not in gone]

    def _read_spec(self) -> None:
        try:
            spec = read_spec(self._spec_file)
        except SpecError as error:
            self._complaint = str(error)  # and what was asked for before goes on
            return
        self._complaint = ""
        before, self._spec = self._version(), spec
        if self._version() != before:
            self._progress.begin(time.monotonic())
            cause = f": {spec.change_cause}" if spec and spec.change_cause else ""
            print(f"version {self._version() or 'none'} is asked for{cause}", flush=True)

    def _autoscale(self) -> None:
        now = time.monotonic()
        if now - self._measured_at < self._means.timing.autoscale:
            return
        self._measured_at = now
        staying = [replica for replica in self._replicas if not replica.stopping]
        pids = {replica.pid: replica.ready_since for replica in staying if replica.pid is not None}
        self._usages = self._meter.measure(pids, pidless=len(staying) - len(pids))
        if self._spec is None:
            return
        before, self._wanted = self._wanted, self._autoscaler.desired(now, self._wanted, self._usages)
        if self._wanted != before:
            print(f"autoscaler: {before} to {self._wanted} replicas; {self._utilisation()} %", flush=True)

    def _start(self, version: str, client: httpx.AsyncClient) -> None:
        self._count += 1
        self._replicas.append(Replica(f"model-api-{version}-{self._count}", version, self._means, client))

    def _desired(self) -> int:
        return self._wanted if self._spec else 0

    def _version(self) -> str:
        return self._spec.version if self._spec else ""

    def _seen(self) -> list[Seen]:
        return [Seen(each.name, each.version, each.ready, each.stopping) for each in self._replicas]

    def _counts(self) -> Counts:
        updated = [each for each in self._replicas if each.version == self._version() and not each.stopping]
        outdated = sum(each.version != self._version() for each in self._replicas)
        return Counts(self._desired(), len(updated), sum(each.ready for each in updated), outdated)

    def _tell(self) -> None:
        status, now = self._status(), time.monotonic()
        if status == self._told and now - self._told_at < STATUS_SECONDS:
            return
        self._told, self._told_at = status, now
        if (found := targets(status["pods"])) != self._told_targets:
            write_whole(targets_file(self._status_file), found)
            self._told_targets = found
        write_whole(self._status_file, status)

    def _status(self) -> dict[str, Any]:
        staying = [replica for replica in self._replicas if not replica.stopping]
        counts = self._counts()
        return {
            "observed_generation": self._spec.generation if self._spec else 0,
            "version": self._version() or None,
            "replicas": len(staying),
            "updated": counts.updated,
            "ready": sum(replica.ready for replica in staying),
            "desired": counts.desired,
            "rolling": self._progress.rolling,
            "progress_deadline_exceeded": self._progress.exceeded(time.monotonic()),
            "restarts": self._restarts_of_gone + sum(replica.restarts for replica in self._replicas),
            "message": self._message(counts),
            "utilisation": self._utilisation(),
            "pods": [_pod(replica) for replica in self._replicas],
        }

    def _message(self, counts: Counts) -> str:
        state = f"{counts.updated_ready} of {counts.desired} replicas are ready with version {self._version()}"
        if counts.outdated:
            state += f", {counts.outdated} of another version live"
        if self._progress.exceeded(time.monotonic()):
            state += f"; no progress for more than {self._progress.deadline:.0f} s"
        troubles = [f"{each.name}: {each.message}" for each in self._replicas if each.message and not each.stopping]
        said = state if self._spec else "no version is asked for"
        return "; ".join([said, *troubles, *([self._complaint] if self._complaint else [])])

    def _utilisation(self) -> Mapping[str, int | None]:
        return as_percent(self._usages, self._autoscaler.requests)


def _pod(replica: Replica) -> dict[str, Any]:
    started = replica.started_at
    return {
        "name": replica.name,
        "pid": replica.pid,
        "version": replica.version,
        "ready": replica.ready,
        "stopping": replica.stopping,
        "probe_port": replica.probe_port,
        "restarts": replica.restarts,
        "started_at": datetime.fromtimestamp(started, UTC).isoformat(timespec="seconds") if started else None,
    }
