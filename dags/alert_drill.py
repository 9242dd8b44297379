"""Attack the service with real load until the admin is paged, and prove that the page arrives.

`preflight` looks at every link while it is quiet, and sends a canary through Alertmanager. Then `attack` raises the
load on `transactions-input` stage by stage, and in a surge beyond, while `watch` follows the chain: load, six replicas,
CPU above 80 % for as long as the rule asks, rule pending, rule firing, Alertmanager, the mail and the webhook in the
inbox of the admin's copies; and after the load: resolved, and back to four replicas. Everything of the attack carries
reserved ids and a header; the page says DRILL. The first stages must not page. `stop` ends the load in any case.

**When it fails**

- `preflight`, *refused*: the chain is broken without any load, or the alert fires already (then there is work to do
  that is no drill). Nothing was sent.
- `verdict`, *refused*: it names the first broken link. docs/runbooks/alert-drill-failed.md says for each what to do;
  the page of `report` shows the whole course. **Until it is mended, assume that a real overload would page nobody.**
- `attack` failed: its message says which kill switch ended it; the verdict is then ABORTED, or MESSAGES_LOST.
- `stop` *failed*: load may still run. Look at the metric `attack_running`, and end the process or pod of `attack`.
"""

from airflow.sdk import DAG, TriggerRule

from include.loadtest.form import AttackForm
from include.pipeline.form import form
from include.pipeline.house import HOUSE, clock
from include.pipeline.step import step
from include.pipeline.tags import Tag, Tier
from include.settings import settings

NAME = "{{ run_id }}"


def planned(name: str) -> str:
    """One figure of the attack as `preflight` planned it."""
    return "{{ ti.xcom_pull('preflight')['attack']['" + name + "'] }}"


def answer_of(task_id: str) -> str:
    """What a task said, be it an answer or an error; nothing when it never came to say anything."""
    return "{{ (ti.xcom_pull('" + task_id + "') or {}) | tojson }}"


with DAG(
    "alert_drill",
    schedule=clock("0 9 * * 2"),  # Tuesday morning: who is woken by a broken drill is at work
    params=form(AttackForm),
    doc_md=__doc__,
    tags=[Tag.ALERTS, Tier.ONE],
    **HOUSE,
):
    preflight = step(
        "preflight",
        "include.alerting.preflight",
        {
            "drill": NAME,
            "stages": "{{ params.stages }}",
            "quiet_rate": "{{ params.quiet_rate }}",
            "surge_factor": "{{ params.surge_factor }}",
            "surge_hold": "{{ params.surge_hold }}",
            "surge_cap": "{{ params.surge_cap }}",
            "max_minutes": "{{ params.max_minutes }}",
            "for_seconds": settings().alert_for_seconds,
        },
        grant="drill",
    )
    attack = step(
        "attack",
        "include.loadtest.attack",
        {
            "run": NAME,
            **{
                name: planned(name)
                for name in ("stages", "surge_factor", "surge_hold", "surge_cap", "deadline_seconds")
            },
            "raise_until": planned("raise_until"),
            "stop_when": planned("stop_when"),
            "max_messages": "{{ params.max_messages }}",
            "max_failed": "{{ params.max_failed }}",
        },
        profile="drill",
        grant="drill",
        once=True,
    )
    watch = step(
        "watch", "include.alerting.watch", {"plan": preflight.output}, profile="drill", grant="drill", once=True
    )
    facts = {name: answer_of(name) for name in ("preflight", "attack", "watch")}
    judge = step("judge", "include.alerting.judge", facts, trigger_rule=TriggerRule.ALL_DONE)
    report = step("report", "include.alerting.report", {**facts, "judged": judge.output}, grant="drill")
    verdict = step("verdict", "include.alerting.verdict", {"judged": judge.output}, trigger_rule=TriggerRule.ALL_DONE)
    stop = step("stop", "include.alerting.stop", {"drill": NAME}, grant="drill")
    preflight >> [attack, watch] >> judge >> report >> verdict
    [attack, watch] >> stop.as_teardown(setups=preflight, on_failure_fail_dagrun=True)
