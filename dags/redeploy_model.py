"""Roll the promoted model out, replica by replica, and take it back when it is bad.

Runs when `retrain_model` has promoted a version (asset `fraud_model`), and from the UI with any version that was
promoted once. Nobody who calls the service notices: a replica stops only after a new one is ready, and it finishes what
it has begun. The new version then answers golden requests as training did (`smoke`), and is watched under real traffic
(`bake`: errors, p95, restarts). Whatever goes wrong after the change, `undo` brings the version before back and makes
sure that it is back. A version that is live already is left alone; a run that was killed goes on where it was.

**When it fails**

- `preflight`, *bad input*: the version does not exist or was never packed for serving, or the service account lacks a
  permission; the message names it. Nothing was changed. *Failed after retries*: the service is at its maximum of
  replicas (run it again when the peak is over, or set *force*), another rollout is under way, or MLflow is away.
- `roll`, *refused*: the new replicas did not become ready; their log says why (most often: the model cannot be loaded).
- `smoke`, *refused*: the service gives other probabilities than training; do not roll this version out again.
- `bake`, *refused*: errors, slowness, a dead replica; or *inconclusive*: too little traffic to judge by.
- `undo` *succeeded* in a failed run: the version before is live, nothing burns; docs/runbooks/rollout-undone.md
- `undo` *failed*: look at once; the runbook has the commands.
"""

from airflow.sdk import DAG, TriggerRule, task

from include import assets
from include.pipeline.form import form
from include.pipeline.house import HOUSE
from include.pipeline.step import step
from include.pipeline.tags import Tag, Tier
from include.serving.form import RedeployForm


@task.short_circuit
def anything_to_do(plan: dict) -> bool:
    """Go on unless the version is live already."""
    return plan["action"] == "roll"


with DAG(
    "redeploy_model",
    schedule=[assets.fraud_model],
    params=form(RedeployForm),
    doc_md=__doc__,
    tags=[Tag.SERVING, Tier.ONE],
    **HOUSE,
):
    plan = step(
        "preflight",
        "include.serving.rollout.preflight",
        {"rollout": "{{ run_id }}", "version": "{{ params.version or '' }}", "force": "{{ params.force }}"},
        grant="rollout",
    ).output
    roll = step(
        "roll",
        "include.serving.rollout.roll",
        {"plan": plan, "deadline": "{{ params.deadline_seconds }}"},
        profile="rollout",
        grant="rollout",
    )
    smoke = step("smoke", "include.serving.rollout.smoke", {"plan": plan}, grant="rollout")
    bake = step(
        "bake",
        "include.serving.rollout.bake",
        {"plan": plan, "seconds": "{{ params.bake_seconds }}"},
        profile="rollout",
        grant="rollout",
    )
    report = step(
        "report",
        "include.serving.rollout.report",
        {"plan": plan, "rolled": roll.output, "smoke": smoke.output, "bake": bake.output},
        grant="rollout",
    )
    undo = step(
        "undo",
        "include.serving.rollout.undo",
        {
            "rollout": "{{ run_id }}",
            "begun": "{{ ti.xcom_pull('anything_to_do') or False }}",
            "deadline": "{{ params.deadline_seconds }}",
        },
        profile="rollout",
        grant="rollout",
        trigger_rule=TriggerRule.ONE_FAILED,
    )
    anything_to_do(plan) >> roll >> smoke >> bake >> report
    [roll, smoke, bake] >> undo
