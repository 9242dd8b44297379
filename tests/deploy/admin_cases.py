"""When the admin is paged: cases that run on the raw metrics of each platform, through its recording rules."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.deploy.rule_case import FIRING, MINUTE, PENDING, QUIET, Case, Samples, counter, gap, hold

ADMIN = "AdminNotification_MaxScaleHighCPU"
LIMIT = 0.2  # cores
HOT, COOL, QUIETLY = 0.19, 0.15, 0.02  # cores used: 95, 75, 10 %
MINUTES = 14
Cores = Sequence[float]


def on_kubernetes(used: Sequence[Cores], ready: Samples, missed: Callable[[Samples], Samples]) -> dict[str, Samples]:
    """What cAdvisor and kube-state-metrics say of some replicas, and of others who must not count."""
    series: dict[str, Samples] = {
        'kube_deployment_status_replicas_ready{namespace="mlops",deployment="model-api"}': missed(ready),
        'kube_deployment_status_replicas_ready{namespace="mlops",deployment="other"}': hold(6, MINUTES),
    }

    def pod(name: str, container: str, cores: Cores) -> None:
        labels = f'namespace="mlops",pod="{name}",container="{container}"'
        series[f'container_cpu_usage_seconds_total{{{labels},cpu="total",id="/{name}"}}'] = missed(counter(cores))
        limit = f'kube_pod_container_resource_limits{{{labels},node="n",resource='
        series[f'{limit}"cpu",unit="core"}}'] = missed(hold(LIMIT, MINUTES))
        series[f'{limit}"memory",unit="byte"}}'] = missed(hold(268435456, MINUTES))

    for number, cores in enumerate(used):
        pod(f"model-api-7d9f-{number}", "api", cores)
    pod("model-api-7d9f-0", "fetch-model", hold(1.0, MINUTES))
    pod("model-api-redis-0", "redis", hold(1.0, MINUTES))
    pod("other-5c-0", "api", hold(1.0, MINUTES))
    return series


def on_one_machine(used: Sequence[Cores], ready: Samples, missed: Callable[[Samples], Samples]) -> dict[str, Samples]:
    """What the replicas say of their processes. As many answer as are ready, the first ones."""
    series: dict[str, Samples] = {
        'process_cpu_seconds_total{job="scorer",instance="1"}': counter(hold(1.0, MINUTES)),
        'up{job="scorer",instance="1"}': hold(1, MINUTES),
    }
    for number, cores in enumerate(used):
        labels = f'{{job="model-api",instance="127.0.0.1:{8100 + number}"}}'
        series[f"process_cpu_seconds_total{labels}"] = missed(counter(cores))
        series[f"up{labels}"] = missed([1 if count is not None and number < count else 0 for count in ready])
    return series


@dataclass(frozen=True)
class Platform:
    """Where metrics come from, and the rules that read them."""

    name: str
    recording: str
    series: Callable[[Sequence[Cores], Samples, Callable[[Samples], Samples]], dict[str, Samples]]


PLATFORMS = (
    Platform("kubernetes", "recording-kubernetes.yaml", on_kubernetes),
    Platform("local", "recording-local.yaml", on_one_machine),
)


def others(count: int = 5) -> list[Cores]:
    """Replicas that do little."""
    return [hold(QUIETLY, MINUTES)] * count


def in_turns() -> list[Cores]:
    """Each of six replicas is hot for three minutes of six: every minute another one becomes the hottest."""
    return [
        [HOT if (step // MINUTE - number) % 6 in (0, 1, 2) else QUIETLY for step in range(MINUTES * MINUTE)]
        for number in range(6)
    ]


def admin_cases(platform: Platform) -> list[Case]:
    """All cases of one platform. The CPU of a steady load is known from the second sample on, at 0.25."""
    steady = hold(HOT, MINUTES)
    six = hold(6, MINUTES)

    def case(
        name: str,
        used: Sequence[Cores],
        ready: Samples,
        states: dict[float, str | None],
        missed: Callable[[Samples], Samples] = list,
    ) -> Case:
        series = platform.series(used, ready, missed)
        return Case(f"{platform.name}: {name}", ADMIN, series, states, ("alerts.yaml", platform.recording))

    return [
        case("the hottest alone is hot", [steady, *others()], six, {0: QUIET, 5: PENDING, 5.25: FIRING, 13: FIRING}),
        case("hot, but at 5", [steady, *others()], hold(5, MINUTES), {5: QUIET, 8: QUIET, 13: QUIET}),
        case("at 6, but 75 %", [hold(COOL, MINUTES)] * 6, six, {5: QUIET, 8: QUIET, 13: QUIET}),
        case("7 while a rollout replaces one of 6", [steady] * 7, hold(7, MINUTES), {5: PENDING, 5.25: FIRING}),
        case(
            "every minute another is the hottest", in_turns(), six, {2: PENDING, 5: PENDING, 5.25: FIRING, 13: FIRING}
        ),
        case(
            "cool for a minute and a half, then five minutes more",
            [[*hold(HOT, 4), *hold(QUIETLY, 1.5), *hold(HOT, MINUTES - 5.5)], *others()],
            six,
            {4: PENDING, 5: QUIET, 6: QUIET, 8: PENDING, 10.25: PENDING, 11.75: FIRING},
        ),
        case(
            "at 5 for a minute, then five minutes more",
            [steady, *others()],
            [*hold(6, 4), *hold(5, 1), *hold(6, MINUTES - 5)],
            {3.75: PENDING, 4.75: QUIET, 5.5: PENDING, 9.75: PENDING, 10.25: FIRING},
        ),
        case(
            "over when the load is over",
            [[*hold(HOT, 8), *hold(QUIETLY, MINUTES - 8)], *others()],
            six,
            {8: FIRING, 9: QUIET, 13: QUIET},
        ),
        *(
            case(
                f"{scrapes} scrapes missed in a row: nothing begins again",
                [steady, *others()],
                six,
                {3.25: PENDING, 5: PENDING, 5.25: FIRING},
                partial(gap, first=3, scrapes=scrapes),
            )
            for scrapes in (1, 2)
        ),
        case(
            "two minutes without scrapes: five minutes more",
            [steady, *others()],
            six,
            {2.75: PENDING, 4.5: QUIET, 6.25: PENDING, 9.75: PENDING, 10.75: FIRING},
            partial(gap, first=3, scrapes=8),
        ),
    ]


def local_cases() -> list[Case]:
    """What only a machine without kube-state-metrics has: `up` is what counts replicas."""
    local = PLATFORMS[1]
    load = [hold(HOT, MINUTES), *others()]

    def missing(scrapes: int, states: dict[float, str | None]) -> Case:
        ready = [5 if 3 * MINUTE <= step < 3 * MINUTE + scrapes else 6 for step in range(MINUTES * MINUTE)]
        name = f"local: one replica misses {scrapes} scrape(s)"
        return Case(name, ADMIN, local.series(load, ready, list), states, ("alerts.yaml", local.recording))

    return [
        missing(1, {3: PENDING, 5: PENDING, 5.25: FIRING}),
        missing(2, {3.25: PENDING, 5: PENDING, 5.25: FIRING}),
        missing(4, {3.75: QUIET, 4: PENDING, 8.75: PENDING, 9.25: FIRING}),
    ]
