"""`step()`: one command of the repository as one Airflow task, in a pod or as a child process.

Nothing else in the repository asks where a step runs.
"""

from typing import Any

from airflow.sdk import Asset, BaseOperator, TriggerRule, XComArg

from include.pipeline.grants import GRANTS, NOTHING
from include.pipeline.profiles import PROFILES
from include.settings import settings


def step(
    task_id: str,
    module: str,
    flags: dict[str, Any],
    *,
    profile: str = "small",
    grant: str = NOTHING,
    outlets: list[Asset] | None = None,
    trigger_rule: TriggerRule = TriggerRule.ALL_SUCCESS,
    once: bool = False,
    label: str | None = None,
) -> BaseOperator:
    """One task that runs ``python -m module`` with `flags`.

    A flag's value may be a template or another task's output. The step's answer becomes the task's XCom and the
    extra of the events of its `outlets`. `once`: it is not tried again, because a second time would be another event.
    `label`: inside a mapped task group, the flag by whose value the instances are told apart in the UI.
    """
    operator, more = _runtime(profile, grant)
    if once:
        more["retries"] = 0
    if label:
        more["map_index_template"] = "{{ task.flags['" + label + "'] }}"
    return operator(
        task_id=task_id, module=module, flags=flags, outlets=outlets or [], trigger_rule=trigger_rule, **more
    )


def mapped_step(
    task_id: str, module: str, flags: dict[str, Any], *, each: str, over: XComArg, profile: str = "small"
) -> Any:
    """One task instance for each element of `over`, a list known when the run gets there, given as the flag `each`."""
    operator, more = _runtime(profile, NOTHING)
    return operator.partial(
        task_id=task_id, module=module, flags=flags, map_index_template="{{ task.each['" + each + "'] }}", **more
    ).expand(each=over.map(lambda value: {each: value}))


def _runtime(profile: str, grant: str) -> tuple[Any, dict[str, Any]]:
    for kind, name, known in (("profile", profile, PROFILES), ("grant", grant, GRANTS)):
        if name not in known:
            raise ValueError(f"{kind} {name!r} is not one of {', '.join(known)}; add it to include/pipeline/{kind}s.py")
    if settings().runtime == "kubernetes":
        from include.pipeline.pod_step import PodStep  # costs seconds to import

        return PodStep, {"profile": profile, "grant": grant}
    from include.pipeline.local_step import LocalStep

    return LocalStep, {"grant": grant}
