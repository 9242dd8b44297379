"""The rollout's decisions, on a local deployment whose supervisor the test plays."""

import json
import math
from dataclasses import replace

import pytest

from include.command import Refused
from include.serving.rollout import bake, preflight, roll, undo
from include.serving.rollout.bake import Args as BakeArgs
from include.serving.rollout.bake import Counted, Seen, count, figures, judge, quantile
from include.serving.rollout.deployment import Pod, Rollout, State
from include.serving.rollout.on_this_machine import LocalDeployment
from include.serving.rollout.preflight import Planned
from include.settings import settings

QUIET = State("3", Rollout("before"), True, "", "4 of 4", 4, 6)
PLAN = Planned(rollout="ours", name="fraud", version="4", previous_version="3", action="roll", said="")


class PlayedSupervisor:
    """Writes the status that a real supervisor would write in the end."""

    def __init__(self, folder):
        self.folder = folder
        self.status(0, "")

    def status(self, generation, version, *, rolling=False, exceeded=False, ready=4, message="fine"):
        content = {
            "observed_generation": generation, "version": version, "replicas": 4, "updated": 4, "ready": ready,
            "desired": 4, "rolling": rolling, "progress_deadline_exceeded": exceeded, "message": message, "pods": [],
        }  # fmt: skip
        (self.folder / "status.json").write_text(json.dumps(content))

    def spec(self):
        return json.loads((self.folder / "spec.json").read_text())


@pytest.fixture
def supervisor(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_LOCAL_DEPLOYMENT", str(tmp_path))
    monkeypatch.setattr(roll, "LOOK_SECONDS", 0.0)
    settings.cache_clear()
    yield PlayedSupervisor(tmp_path)
    settings.cache_clear()


def deploy(supervisor, version, rollout):
    deployment = LocalDeployment(str(supervisor.folder))
    deployment.set_version(version, "test", rollout)
    supervisor.status(supervisor.spec()["generation"], version)
    return deployment


def test_another_rollout_and_the_end_of_a_peak_are_waited_for():
    preflight.refuse_bad_moment(QUIET, "ours", "4", force=False)
    with pytest.raises(ConnectionError, match="another rollout is under way"):
        preflight.refuse_bad_moment(replace(QUIET, settled=False), "ours", "4", force=False)
    preflight.refuse_bad_moment(replace(QUIET, settled=False), "before", "4", force=False)  # it is ours
    with pytest.raises(ConnectionError, match="maximum of 6 replicas"):
        preflight.refuse_bad_moment(replace(QUIET, replicas=6), "ours", "4", force=False)
    preflight.refuse_bad_moment(replace(QUIET, replicas=6), "ours", "4", force=True)
    # One that got stuck must be replaced by something, or nothing ever will be again.
    preflight.refuse_bad_moment(replace(QUIET, settled=False, stuck="no progress"), "ours", "4", force=False)


def test_a_rollout_that_has_begun_is_watched_not_begun_again(supervisor):
    deploy(supervisor, "4", Rollout("ours", "3"))
    before = supervisor.spec()
    assert roll.main(roll.Args(plan=PLAN, deadline=5))["version"] == "4"
    assert supervisor.spec() == before


def test_somebody_faster_is_not_overwritten(supervisor):
    deploy(supervisor, "9", Rollout("theirs", "3"))
    with pytest.raises(Refused, match="somebody else was faster"):
        roll.main(roll.Args(plan=PLAN, deadline=5))
    assert supervisor.spec()["template"]["version"] == "9"


def test_what_will_not_settle_is_refused(supervisor):
    deployment = deploy(supervisor, "4", Rollout("ours", "3"))
    generation = supervisor.spec()["generation"]
    supervisor.status(generation, "4", rolling=True, exceeded=True, message="exit code 2")
    with pytest.raises(Refused, match=r"stuck: .*exit code 2"):
        roll.watch(deployment, "4", 5)
    supervisor.status(generation, "4", rolling=True)
    with pytest.raises(Refused, match="not everywhere within 0 s"):
        roll.watch(deployment, "4", 0.01)
    with pytest.raises(Refused, match="version 4 is asked for by now, not 5"):
        roll.watch(deployment, "5", 5)


def test_undo_brings_back_what_was_live_and_only_once(supervisor, monkeypatch):
    deploy(supervisor, "4", Rollout("ours", "3"))

    def settle(deployment, version, deadline):
        supervisor.status(supervisor.spec()["generation"], version)
        return deployment.state()

    monkeypatch.setattr(undo, "watch", settle)
    assert undo.main(undo.Args(rollout="ours"))["undone"]
    done = supervisor.spec()
    assert done["template"]["version"] == "3"
    assert "version 4 was undone" in done["rollout"]["verdict"]
    again = undo.main(undo.Args(rollout="ours"))  # killed while it waited, and tried again
    assert (again["undone"], again["version"]) == (True, "3")
    assert supervisor.spec() == done


def test_undo_leaves_alone_what_others_did(supervisor):
    deploy(supervisor, "9", Rollout("theirs", "4"))
    assert not undo.main(undo.Args(rollout="ours"))["undone"]
    assert supervisor.spec()["template"]["version"] == "9"


def test_undo_of_what_never_began_asks_nobody(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_LOCAL_DEPLOYMENT", str(tmp_path / "nothing is here"))
    settings.cache_clear()
    assert not undo.main(undo.Args(rollout="ours", begun=False))["undone"]
    settings.cache_clear()


def test_nobody_at_work_is_said(tmp_path):
    with pytest.raises(ConnectionError, match="make up"):
        LocalDeployment(str(tmp_path)).state()


METRICS = """# TYPE http_requests_total counter
http_requests_total{method="POST",path="/predict",status="200"} 90.0
http_requests_total{method="POST",path="/predict",status="503"} 7.0
http_requests_total{method="POST",path="/predict",status="422"} 3.0
http_requests_total{method="GET",path="/ready",status="503"} 50.0
# TYPE http_request_duration_seconds histogram
http_request_duration_seconds_bucket{le="0.1",path="/predict"} 80.0
http_request_duration_seconds_bucket{le="0.2",path="/predict"} 100.0
http_request_duration_seconds_bucket{le="+Inf",path="/predict"} 100.0
# TYPE process_start_time_seconds gauge
process_start_time_seconds 12.5
"""


def test_metrics_are_counted_for_predictions_alone():
    counted = count(METRICS)
    assert (counted.requests, counted.errors, counted.started) == (97, 7, 12.5), "422 is the client's fault"
    assert counted.buckets == {0.1: 80, 0.2: 100, math.inf: 100}


def test_quantiles_as_prometheus_computes_them():
    assert quantile(0.95, {0.1: 80, 0.2: 100, math.inf: 100}) == pytest.approx(0.175)
    assert quantile(0.5, {0.1: 100, math.inf: 100}) == pytest.approx(0.05)
    assert quantile(0.95, {0.1: 10, math.inf: 100}) == 0.1  # beyond the last bound nothing is known
    assert quantile(0.95, {}) is None
    assert quantile(0.95, {0.1: 0, math.inf: 0}) is None


def seen(requests=1000.0, errors=0.0, slow=0.0, restarts=0, started=1.0) -> Seen:
    first = Counted(500, 5, {0.1: 500, 1.0: 500, math.inf: 500}, 1.0)
    fast = requests - slow
    last = Counted(
        500 + requests, 5 + errors, {0.1: 500 + fast, 1.0: 500 + requests, math.inf: 500 + requests}, started
    )
    return Seen(first, last, 0, restarts)


@pytest.mark.parametrize(
    ("replicas", "verdict"),
    [
        ([seen()], ""),
        ([seen(errors=9)], ""),
        ([seen(errors=11)], "failed: 1.10% errors"),
        ([seen(slow=400)], "failed: p95"),
        ([seen(restarts=1)], "failed: 1 replicas died"),
        ([seen(started=2.0)], "failed: 1 replicas died"),
        ([seen(requests=99)], "inconclusive: 99 requests"),
        ([seen(requests=60), seen(requests=60)], ""),
        ([], "inconclusive: 0 requests"),
    ],
)
def test_verdicts(replicas, verdict):
    found = figures({str(number): one for number, one in enumerate(replicas)})
    assert judge(found, BakeArgs(plan=PLAN)).startswith(verdict)
    assert bool(judge(found, BakeArgs(plan=PLAN))) is bool(verdict)


def test_replicas_of_another_version_do_not_count(monkeypatch):
    class Two:
        def pods(self):
            return [Pod("old", "3", True, 0, ""), Pod("new", "4", True, 0, "")]

    monkeypatch.setattr(bake, "scrape", lambda pod: Counted(1))
    found: dict[str, Seen] = {}
    bake.look(Two(), "4", found)
    assert set(found) == {"new"}
