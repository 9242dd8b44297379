"""How fast the fifteen inputs are computed, against plain pandas, and how time and memory grow with the data.

    python -m bench.features

1. The whole published set (Parquet files in MLOPS_REAL_DATA, or in ../shared/data beside the checkout; else simulated
   data of the same length, and the table says so): ours against pandas group by group, from a frame in memory, in one
   run. Both must agree on all fifteen inputs.
2. Ours alone over a simulated lake of 183, 549 and 1,830 days, in chunks: time per million rows and peak memory.

Each measurement is a process of its own, so that its peak memory is its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl

from bench.report import Report
from include.code_version import ROOT
from include.fraud.features import features, features_by_chunk
from include.fraud.ingest import fill
from include.fraud.lake import Lake, days_between
from include.fraud.schema import LABELS, TRANSACTIONS, conform
from include.fraud.simulator import Simulator
from include.fraud.windows import FEATURES, LABEL_DELAY_DAYS, WINDOWS_DAYS

START = date(2018, 4, 1)
DAYS = (183, 549, 1830)
RUNS, GROWTH_RUNS = 7, 3
SEED = 42

SPEED_UP = 50.0
TOLERANCE = 1e-9
GROWTH = 1.5
"""Time per row and peak memory at ten times the data may be this many times those at once the data."""


def real_data() -> Path | None:
    """The folder of the published transactions, if there is one."""
    folder = Path(os.environ.get("MLOPS_REAL_DATA", ROOT.parent / "shared" / "data"))
    return folder if any(folder.glob("*.parquet")) else None


def whole_set() -> pl.DataFrame:
    """TRANSACTIONS and tx_fraud in order of time."""
    folder = real_data()
    if folder is None:
        simulator = Simulator(SEED)
        return pl.concat(simulator.day(day) for day in days_between(START, START + timedelta(days=156))).drop(
            "tx_fraud_scenario"
        )
    given = pl.concat(pl.read_parquet(file) for file in sorted(folder.glob("*.parquet")))
    return conform(given, TRANSACTIONS | {"tx_fraud": LABELS["tx_fraud"]}, str(folder)).rechunk()


def ours(frame: pl.DataFrame) -> pl.DataFrame:
    """The inputs of every row."""
    first, last = frame["tx_datetime"].min(), frame["tx_datetime"].max()
    return features(frame, first.date(), last.date())  # type: ignore[union-attr]  # a column of datetimes


def reference(frame: pd.DataFrame) -> pd.DataFrame:
    """The inputs as the handbook's chapter 3 describes them: rolling windows over each customer, then each terminal."""
    frame = frame.copy()
    frame["tx_during_weekend"] = (frame["tx_datetime"].dt.day_of_week >= 5).astype(float)
    frame["tx_during_night"] = (frame["tx_datetime"].dt.hour <= 6).astype(float)
    frame = pd.concat([_of_customer(rows) for _, rows in frame.groupby("customer_id")])
    frame = frame.sort_values(["tx_datetime", "transaction_id"])
    frame = pd.concat([_of_terminal(rows) for _, rows in frame.groupby("terminal_id")])
    return frame.sort_values(["tx_datetime", "transaction_id"]).fillna(0.0)


def _of_customer(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.set_index("tx_datetime")
    for days in WINDOWS_DAYS:
        window = rows["tx_amount"].rolling(f"{days}D")
        count = window.count()
        rows[f"customer_nb_tx_{days}d"] = count
        rows[f"customer_avg_amount_{days}d"] = window.sum() / count
    return rows.reset_index()


def _of_terminal(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.set_index("tx_datetime")
    delay = rows["tx_fraud"].rolling(f"{LABEL_DELAY_DAYS}D")
    delay_count, delay_frauds = delay.count(), delay.sum()
    for days in WINDOWS_DAYS:
        window = rows["tx_fraud"].rolling(f"{LABEL_DELAY_DAYS + days}D")
        count = window.count() - delay_count
        rows[f"terminal_nb_tx_{days}d"] = count
        rows[f"terminal_risk_{days}d"] = (window.sum() - delay_frauds) / count
    return rows.reset_index()


def measure_ours(saved: str) -> dict[str, Any]:
    """One run that warms up, counts memory and saves the inputs; then time RUNS more."""
    frame = whole_set()
    before = _peak_mib()
    found = ours(frame)
    peak = _peak_mib()
    found.select("transaction_id", *FEATURES).write_parquet(saved)
    del found
    seconds, cpu = zip(*(_timed(lambda: ours(frame)) for _ in range(RUNS)), strict=True)
    return {"seconds": seconds, "cpu": cpu, "peak_mib": peak, "input_mib": before, "rows": frame.height}


def measure_reference(saved: str) -> dict[str, Any]:
    """Time one run; save the inputs."""
    polars_frame = whole_set()
    frame = polars_frame.with_columns(pl.col("tx_datetime").dt.replace_time_zone(None)).to_pandas()
    del polars_frame
    before = _peak_mib()
    found: list[pd.DataFrame] = []
    seconds, cpu = _timed(lambda: found.append(reference(frame)))
    peak = _peak_mib()
    pl.from_pandas(found[0][["transaction_id", *FEATURES]]).write_parquet(saved)
    return {"seconds": [seconds], "cpu": [cpu], "peak_mib": peak, "input_mib": before, "rows": len(frame)}


def measure_difference(one: str, other: str) -> dict[str, Any]:
    """The largest difference in any input of any row; infinite when the rows are not the same."""
    left, right = pl.read_parquet(one), pl.read_parquet(other)
    if not left["transaction_id"].equals(right["transaction_id"]):
        return {"apart": float("inf")}
    apart = left.select((pl.col(name) - right[name]).abs().max() for name in FEATURES)
    return {"apart": max(apart.row(0))}


def measure_lake(uri: str) -> dict[str, Any]:
    """Simulate the days of the longest walk."""
    return fill(Lake(uri), Simulator(SEED), START, START + timedelta(days=DAYS[-1] - 1))


def measure_growth(uri: str, days: str) -> dict[str, Any]:
    """Walk the first `days` days of the lake."""
    last = START + timedelta(days=int(days) - 1)
    rows = 0

    def walk() -> None:
        nonlocal rows
        rows = sum(chunk.height for chunk in features_by_chunk(Lake(uri), START, last, as_of=last))

    seconds, cpu = _timed(walk)
    return {"seconds": seconds, "cpu": cpu, "peak_mib": _peak_mib(), "rows": rows}


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the wall clock, and of processor time over all threads, which a busy machine spoils less."""
    started, cpu_started = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - started, time.process_time() - cpu_started


def _peak_mib() -> float:
    """Most memory this program ever held. Not ru_maxrss: that one starts at the parent's, whatever the child does."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": measure_ours,
    "reference": measure_reference,
    "difference": measure_difference,
    "lake": measure_lake,
    "growth": measure_growth,
}


def in_own_process(measure: str, *arguments: str) -> dict[str, Any]:
    """Run one of MEASURES in a fresh process."""
    argv = [sys.executable, "-m", "bench.features", measure, *arguments]
    done = subprocess.run(argv, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def compare(report: Report, folder: Path) -> None:
    """Part 1: ours against pandas."""
    files = {who: str(folder / f"{who}.parquet") for who in ("reference", "ours")}
    found = {who: in_own_process(who, file) for who, file in files.items()}
    data = f"{found['ours']['rows']:,} {'published' if real_data() else 'SIMULATED'} rows"
    medians = {}
    for who, name in (("reference", "pandas"), ("ours", "ours")):
        medians[who] = report.row(name, f"15 inputs of {data}", "s", found[who]["seconds"])
        report.row(name, "processor time", "s", found[who]["cpu"])
        report.row(name, "peak memory", "MiB", [found[who]["peak_mib"]])
        report.row(name, "peak memory until the input was loaded", "MiB", [found[who]["input_mib"]])
    speed_up = report.ratio("time, pandas / ours", medians["reference"] / medians["ours"])
    report.ratio("peak memory, pandas / ours", found["reference"]["peak_mib"] / found["ours"]["peak_mib"])
    report.goal("times as fast as pandas", SPEED_UP, speed_up, met=speed_up >= SPEED_UP)
    apart = in_own_process("difference", *files.values())["apart"]
    report.goal("largest difference in any input", f"{TOLERANCE:g}", f"{apart:g}", met=apart <= TOLERANCE)


def grow(report: Report, folder: Path) -> None:
    """Part 2: once, three times and ten times the data, read from the lake in chunks."""
    lake = str(folder / "lake")
    in_own_process("lake", lake)
    rounds = [[in_own_process("growth", lake, str(days)) for days in DAYS] for _ in range(GROWTH_RUNS)]
    figures: dict[str, list[float]] = {"time per row": [], "peak memory": []}
    for runs in zip(*rounds, strict=True):
        days = f"{DAYS[len(figures['peak memory'])]:,} days ({runs[0]['rows']:,} rows)"
        per_million = [run["seconds"] / run["rows"] * 1e6 for run in runs]
        figures["time per row"].append(report.row("chunks", f"time per million rows of {days}", "s", per_million))
        cpu = [run["cpu"] / run["rows"] * 1e6 for run in runs]
        report.row("chunks", f"processor time per million rows of {days}", "s", cpu)
        peaks = [run["peak_mib"] for run in runs]
        figures["peak memory"].append(report.row("chunks", f"peak memory of {days}", "MiB", peaks))
    for what, reached in figures.items():
        growth = report.ratio(f"{what}, 10x the data / 1x", reached[-1] / reached[0])
        report.goal(f"growth of {what} at 10x the data", GROWTH, growth, met=growth <= GROWTH)


def main() -> int:
    """Measure, report, and return the exit code."""
    report = Report("features")
    with tempfile.TemporaryDirectory(prefix="bench-features-") as folder:
        compare(report, Path(folder))
        grow(report, Path(folder))
    return report.finish()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(MEASURES[sys.argv[1]](*sys.argv[2:])))
        sys.exit()
    sys.exit(main())
