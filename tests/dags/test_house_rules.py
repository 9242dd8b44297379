"""What every DAG of the repository must have, and must not do."""

import os
import subprocess
import sys

import pytest
from airflow.sdk.exceptions import AirflowException

from include.code_version import ROOT
from include.pipeline.tags import Tag, Tier

# A second attack would be another attack, with other evidence.
ONCE = {"alert_drill.attack", "alert_drill.watch"}
DAG_FILES = sorted((ROOT / "dags").glob("*.py"))
HEAVY = {"mlflow", "polars", "sklearn", "pandas", "numpy", "scipy", "matplotlib", "onnx", "onnxruntime", "s3fs"}


@pytest.mark.parametrize("runtime", ["local", "kubernetes"])
def test_all_dags_import(airflow, runtime):
    done = airflow("dags", "list-import-errors", "--local", MLOPS_RUNTIME=runtime)
    assert done.returncode == 0, done.stdout


def test_a_broken_dag_would_be_noticed(airflow, tmp_path):
    (tmp_path / "broken.py").write_text(
        "from airflow.sdk import DAG\nfrom include.pipeline.step import no_such_thing\n"
    )
    done = airflow("dags", "list-import-errors", "--local", AIRFLOW__CORE__DAGS_FOLDER=str(tmp_path))
    assert done.returncode == 1
    assert "no_such_thing" in done.stdout


def test_every_file_says_what_a_failure_means(dags):
    for dag in dags.values():
        assert dag.doc_md, dag.dag_id
        assert "**When it fails**" in dag.doc_md, dag.dag_id


def test_tags_come_from_the_enum_with_one_tier(dags):
    for dag in dags.values():
        tags = set(dag.tags)
        assert tags <= {*Tag, *Tier}, dag.dag_id
        assert len(tags & set(Tier)) == 1, dag.dag_id
        assert tags & set(Tag), dag.dag_id


def test_owner_retries_and_one_run_at_a_time(dags):
    for dag in dags.values():
        assert not dag.catchup
        assert dag.max_active_runs == 1
        assert bool(dag.schedule) == (dag.dag_id != "restore_database"), f"{dag.dag_id} runs on a schedule"
        for task in dag.tasks:
            assert task.owner == "mlops", task
            assert (task.retries == 0) == (f"{dag.dag_id}.{task.task_id}" in ONCE), task


def test_the_team_is_told_of_every_failed_run(dags):
    from include.pipeline.notify import tell_failure, tell_success

    for dag in dags.values():
        assert (dag.on_failure_callback, dag.on_success_callback) == (tell_failure, tell_success), dag.dag_id


def test_no_teardown_hides_a_failure(dags):
    """Of the tasks that end a run only the last counts: a teardown that may fail the run, after a task that failed."""
    for dag in dags.values():
        for task in dag.tasks:
            followers = [dag.get_task(follower) for follower in task.downstream_task_ids]
            hidden = followers and all(follower.is_teardown for follower in followers)
            assert not (hidden and any(follower.on_failure_fail_dagrun for follower in followers)), task


def test_bad_input_and_refusals_are_not_tried_again(dags):
    from include.pipeline.outcome import StepBadInput, StepFailed, StepRefused, settle

    decisions = {}
    for code in (1, 2, 3, 137):
        with pytest.raises(AirflowException) as raised:
            settle("include.fraud.plan", code, {"error": "because"})
        assert "because" in str(raised.value)
        for dag in dags.values():
            for task in dag.tasks:
                policy = task.partial_kwargs["retry_policy"] if task.is_mapped else task.retry_policy
                decision = policy.evaluate(raised.value, try_number=1, max_tries=3)
                decisions.setdefault(type(raised.value), set()).add(decision.action.value)
    assert decisions == {StepFailed: {"default"}, StepBadInput: {"fail"}, StepRefused: {"fail"}}


@pytest.mark.parametrize("runtime", ["local", "kubernetes"])
def test_parsing_imports_nothing_heavy(runtime):
    """The parse budget, without a clock: what parsing loads beyond Airflow itself is small and ours."""
    base = "import airflow.sdk, airflow.dag_processing.dagbag, airflow.providers.standard.hooks.subprocess\n"
    base += "import airflow.providers.standard.operators.hitl\n"
    if runtime == "kubernetes":
        base += "import airflow.providers.cncf.kubernetes.operators.pod\n"
    parse = "from airflow.dag_processing.dagbag import DagBag\nbag = DagBag('dags')\nassert bag.dags\n"
    tell = "import sys\nprint('|'.join(sorted({name.split('.')[0] for name in sys.modules})))\n"

    def loaded(code: str) -> set[str]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "MLOPS_RUNTIME": runtime}
        done = subprocess.run(
            [sys.executable, "-c", code + tell], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
        )
        return set(done.stdout.splitlines()[-1].split("|"))

    before, after = loaded(base), loaded(base + parse)
    ours = {name for name in after - before if not name.startswith("unusual_prefix_")}  # Airflow's name for a DAG file
    assert not HEAVY & ours
    known = {"include", "pydantic_settings", "dotenv"}
    assert ours <= known | set(sys.stdlib_module_names), ours


@pytest.mark.parametrize("path", DAG_FILES, ids=lambda path: path.stem)
def test_a_dag_file_stays_short(path):
    assert len(path.read_text().splitlines()) <= 120


def test_the_docs_page_is_current():
    done = subprocess.run(
        [sys.executable, "-m", "include.pipeline.docs", "--check"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
