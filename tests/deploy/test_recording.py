"""What the dashboard shows of each replica: the same figures, under the same label, on both platforms."""

from pathlib import Path

import pytest

from tests.deploy.admin_cases import HOT, LIMIT, MINUTES, PLATFORMS, QUIETLY, Platform
from tests.deploy.rule_case import hold, unit_test
from tests.deploy.test_rules import judge

EACH = "model_api:cpu_utilisation"
REPLICAS = {"kubernetes": "model-api-7d9f-{}", "local": "127.0.0.1:810{}"}


@pytest.mark.parametrize("platform", PLATFORMS, ids=lambda platform: platform.name)
def test_cpu_of_each_replica(platform: Platform, promtool: str, tmp_path: Path) -> None:
    """One series for each, and no label but `replica` and `namespace`; other pods and processes do not count."""
    used = [hold(HOT, MINUTES), hold(QUIETLY, MINUTES)]
    series = platform.series(used, hold(2, MINUTES), list)
    namespace = 'namespace="mlops",' if platform.name == "kubernetes" else ""
    document = unit_test(("alerts.yaml", platform.recording), series)
    document["tests"][0]["promql_expr_test"] = [
        {
            "expr": f"round({EACH}, 0.001)",
            "eval_time": "5m",
            "exp_samples": [
                {
                    "labels": f'{{{namespace}replica="{REPLICAS[platform.name].format(number)}"}}',
                    "value": round(cores[0] / LIMIT, 3),
                }
                for number, cores in enumerate(used)
            ],
        },
        {
            "expr": f"round(max({EACH}), 0.001) == round(max({EACH}:max), 0.001)",
            "eval_time": "5m",
            "exp_samples": [{"value": round(HOT / LIMIT, 3)}],
        },
    ]
    judge(promtool, document, tmp_path)
    document["tests"][0]["promql_expr_test"][0]["exp_samples"].pop()
    with pytest.raises(AssertionError):
        judge(promtool, document, tmp_path)
