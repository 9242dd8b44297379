"""The series that the report draws, as Prometheus has them."""

from include.alerting.evidence import Line
from include.alerting.plan import ALERT, CPU, REPLICAS, Drill
from include.alerting.prometheus import Prometheus, Series

MOST_POINTS = 120  # of each; see watch.MOST_LOOKS
POD_CPU = 'container_cpu_usage_seconds_total{container="api", pod=~"model-api-.+"}'
POD_LIMIT = 'kube_pod_container_resource_limits{container="api", pod=~"model-api-.+", resource="cpu"}'
PROCESS_LIMIT = 0.2  # cores; as deploy/rules/recording-local.yaml


def chart_lines(prometheus: Prometheus, plan: Drill, until: float) -> list[Line]:
    """All series from a little before the drill until `until`. Raises Away when Prometheus cannot answer."""
    step = max(plan.timing.scrape, (until - plan.started) / MOST_POINTS)
    window = f"{max(plan.timing.window, 2 * plan.timing.scrape):.0f}s"
    run = f'{{run="{plan.drill}"}}'
    asked = {
        "replicas": f"max({REPLICAS})",
        "cpu": f"max({CPU})",
        "pending": f'max(ALERTS{{alertname="{ALERT}", alertstate="pending"}})',
        "firing": f'max(ALERTS{{alertname="{ALERT}", alertstate="firing"}})',
        "rate": f"max(attack_target_rate{run})",
        "acked": f"max(attack_acked_total{run})",
        "predicted": f"max(attack_predicted_total{run})",
        "lag": "sum(kafka_consumer_lag)",
        "errors": f'sum(rate(http_requests_total{{path="/predict", status=~"5.."}}[{window}]))',
    }
    lines = []
    for name, expression in asked.items():
        lines += [_line(name, one, plan) for one in prometheus.query_range(expression, plan.started, until, step)]
    of_pods = f"max by (pod) (rate({POD_CPU}[{window}])) / on (pod) max by (pod) ({POD_LIMIT})"
    of_processes = f'rate(process_cpu_seconds_total{{job="{plan.job}"}}[{window}]) / {PROCESS_LIMIT}'
    each = prometheus.query_range(of_pods, plan.started, until, step)
    each = each or prometheus.query_range(of_processes, plan.started, until, step)
    for series in each:
        replica = series.labels.get("pod") or series.labels.get("instance", "")
        lines.append(_line(f"cpu of {replica}", series, plan))
    return lines


def _line(name: str, series: Series, plan: Drill) -> Line:
    points = [(round(at - plan.started, 2), float(f"{value:.4g}")) for at, value in series.points]
    return Line(name=name, points=[point for point in points if point[1] == point[1]])  # NaN is no JSON
