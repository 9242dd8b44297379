"""Does the attack keep its schedule? `python -m bench.attack`

One broker, one run, four contenders at 50, 200, 500 and 1500 messages a second, 20 s each:
  ours           the step `include.loadtest.attack` as it is, with its observer
  nothing        the same sender and schedule without Kafka: the floor of this machine and of Python
  Performance    Kafka's own ProducerPerformance --throughput; it tells no lateness, only from send to acknowledgement
  send and wait  kafka-python, `send(...).get()` for each message
Then ours and nothing twice more at 1500 in pairs, one right after the other, since the machine's load changes; and
the most that one process sends: ours, ProducerPerformance -1, and kafka-python. Lateness: send call minus due time.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from bench.broker import broker
from bench.report import Report
from include.code_version import ROOT
from include.local.kafka_server import jars

RATES, SECONDS = (50, 200, 500, 1500), 20
TOP = RATES[-1]
PAIRS, CEILINGS = 3, 3
CEILING_STAGES = "100000x2"  # more a second than it can: what it does is the ceiling
CEILING_COUNT = 200_000
KAFKA_PYTHON_STAGES = "10000x2"
RECORD_BYTES = 200
MOST_RATE_ERROR, MOST_P50_MS, MOST_ABOVE_FLOOR_MS = 0.005, 2.0, 5.0
TO_CODE = "from bench.attack_peers import main; main()"
_SAID = re.compile(
    r"(\d+) records sent, ([\d.]+) records/sec .*?([\d.]+) ms max latency, (\d+) ms 50th, \d+ ms 95th, (\d+) ms 99th"
)

Figures = dict[str, Any]


def main() -> int:
    """Measure, compare, tell."""
    with tempfile.TemporaryDirectory(prefix="bench-attack-") as name, broker(Path(name)) as kafka:
        stages = ",".join(f"{rate}x{SECONDS}" for rate in RATES)
        nothing = [_peer("nothing", kafka.address, stages)["stages"]]
        ours = [_attack(kafka.address, stages, Path(name))]
        performance = [_performance(kafka.address, rate * SECONDS, rate) for rate in RATES]
        waiting = _peer("send_and_wait", kafka.address, stages)["stages"]
        pairs = [(ours[0]["stages"][-1], nothing[0][-1])]
        for _ in range(PAIRS - 1):
            ours.append(_attack(kafka.address, f"{TOP}x{SECONDS}", Path(name)))
            floor = _peer("nothing", kafka.address, f"{TOP}x{SECONDS}")["stages"]
            pairs.append((ours[-1]["stages"][-1], floor[-1]))
        ceilings: dict[str, list[float]] = {"ours": [], "Performance": [], "kafka-python": []}
        for _ in range(CEILINGS):
            ceilings["ours"].append(_peer("ceiling", kafka.address, CEILING_STAGES)["rate"])
            ceilings["Performance"].append(_performance(kafka.address, CEILING_COUNT, -1)["rate"])
            ceilings["kafka-python"].append(_peer("kafka_python", kafka.address, KAFKA_PYTHON_STAGES)["rate"])
    report = Report("attack")
    _tell_stages(report, {"ours": ours[0]["stages"], "nothing": nothing[0], "send and wait": waiting})
    _tell_performance(report, performance)
    _tell_pairs(report, pairs)
    _tell_ceilings(report, ceilings)
    lost = sum(one["totals"]["sent"] - one["totals"]["acked"] for one in ours)
    report.goal("ours: sent and not acknowledged", 0, lost, lost == 0)
    return report.finish()


def _tell_stages(report: Report, all_stages: dict[str, list[Figures]]) -> None:
    for who, stages in all_stages.items():
        for rate, stage in zip(RATES, stages, strict=True):
            report.row(f"{who} at {rate}/s", "rate error", "%", [stage["rate_error"] * 100])
            for figure in ("p50", "p99", "max"):
                report.row(f"{who} at {rate}/s", f"lateness {figure}", "ms", [stage["lateness_ms"][figure]])
    worst = max(abs(stage["rate_error"]) for stage in all_stages["ours"])
    report.goal("ours: rate error of every stage, at most", MOST_RATE_ERROR, round(worst, 5), worst <= MOST_RATE_ERROR)
    latest = max(stage["lateness_ms"]["p50"] for stage in all_stages["ours"])
    report.goal("ours: p50 of every stage, ms at most", MOST_P50_MS, round(latest, 2), latest <= MOST_P50_MS)


def _tell_performance(report: Report, all_stages: list[Figures]) -> None:
    for rate, stage in zip(RATES, all_stages, strict=True):
        who = f"Performance at {rate}/s"
        report.row(who, "rate error", "%", [(stage["rate"] / rate - 1) * 100])
        for figure in ("p50", "p99", "max"):
            report.row(who, f"send to ack {figure}", "ms", [stage[figure]])


def _tell_pairs(report: Report, pairs: list[tuple[Figures, Figures]]) -> None:
    ours, floor = ([stage["lateness_ms"]["p99"] for stage in side] for side in zip(*pairs, strict=True))
    report.row(f"ours at {TOP}/s, all pairs", "lateness p99", "ms", ours)
    report.row(f"nothing at {TOP}/s, all pairs", "lateness p99", "ms", floor)
    above = median(one - other for one, other in zip(ours, floor, strict=True))
    what = f"ours - nothing at {TOP}/s, p99, median of {len(pairs)} pairs, ms at most"
    report.goal(what, MOST_ABOVE_FLOOR_MS, round(above, 2), above <= MOST_ABOVE_FLOOR_MS)


def _tell_ceilings(report: Report, ceilings: dict[str, list[float]]) -> None:
    rates = {who: report.row(f"{who}, one process", "most", "messages/s", runs) for who, runs in ceilings.items()}
    for who in ("Performance", "kafka-python"):
        report.ratio(f"most of ours / {who}", rates["ours"] / rates[who])


def _attack(address: str, stages: str, folder: Path) -> Figures:
    """The step itself. Nobody scores here, so it refuses in the end; its answer is what counts."""
    result = folder / "attack.json"
    result.unlink(missing_ok=True)
    command = [
        *(sys.executable, "-m", "include.loadtest.attack", "--run", "bench", "--stages", stages),
        *("--settle-seconds", "0", "--result", str(result)),
    ]
    _run(command, MLOPS_KAFKA_BOOTSTRAP=address, MLOPS_ATTACK_BROKERS=address)
    found: Figures = json.loads(result.read_text())
    if "stages" not in found:
        raise SystemExit(f"the attack failed: {found['error']}")
    print(f"ours: {stages}: {found['totals']}", flush=True)
    return found


def _peer(who: str, address: str, stages: str) -> Figures:
    found: Figures = json.loads(_run([sys.executable, "-c", TO_CODE, who, address, stages]))
    print(f"{who}: {stages}: done", flush=True)
    return found


def _performance(address: str, count: int, rate: int) -> Figures:
    """Its last line: 400000 records sent, 67000.0 records/sec (..), .. ms max latency, 8 ms 50th, .. ms 99th, ..."""
    said = _run(
        [
            *("java", "-Xmx512m", "-cp", f"{jars()}/*", "org.apache.kafka.tools.ProducerPerformance"),
            *("--topic", "transactions-input", "--num-records", str(count), "--record-size", str(RECORD_BYTES)),
            *("--throughput", str(rate), "--bootstrap-server", address, "--command-property"),
            *("acks=all", "enable.idempotence=true", "linger.ms=2"),
        ]
    )
    last = _SAID.findall(said)[-1]
    if int(last[0]) != count:
        raise SystemExit(f"ProducerPerformance sent {last[0]} of {count}:\n{said}")
    print(f"Performance: {count} at {rate}/s: done", flush=True)
    return {"rate": float(last[1]), "max": float(last[2]), "p50": float(last[3]), "p99": float(last[4])}


def _run(command: list[str], **environment: str) -> str:
    """What it printed; its errors are shown."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=environment, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
