"""A backup beside `pg_dump | gzip` and `pg_dump | gzip -1`, of one generated database: `python -m bench.backup`.

The database is about 1 GB (MLOPS_BENCH_BACKUP_MB: another size) of transactions, predictions, run records as JSON and
notes of words as frequent as they are in this repository's documents. Every round runs all three, one after the other;
throughput is of the plain dump's bytes, the same for all. Ours includes the checksum and the fsync; what the others do
not do, the digest of every table and the verification, is reported apart. Memory is that of the step and of pg_dump
together, sampled, for a tenth of the data and for all.
"""

import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
from psycopg2.extensions import parse_dsn

from bench.report import Report
from include.backup.connection import conninfo
from include.backup.programs import program
from include.backup.scratch_server import Scratch, scratch_server
from include.code_version import ROOT

MEGABYTES = int(os.environ.get("MLOPS_BENCH_BACKUP_MB", "1000"))
RUNS = 3
PG_MAJOR = 15
GOAL_RATIO, GOAL_SIZE, GOAL_MEMORY, MOST_MIB = 3.0, 1.1, 1.15, 512.0
SAMPLE_SECONDS = 0.02
ROWS_PER_MB = 900  # of notes and of runs; eight and four times as many transactions and predictions
PEERS = {"pg_dump | gzip": ["gzip"], "pg_dump | gzip -1": ["gzip", "-1"]}

TABLES = """
CREATE TABLE transactions AS
  SELECT n AS transaction_id, '2026-01-01'::timestamp + n * interval '1.7 seconds' AS tx_datetime,
         (power(random(), 2) * 5000)::int AS customer_id, (random() * 10000)::int AS terminal_id,
         round(exp(random() * 5)::numeric, 2) AS tx_amount, random() < 0.009 AS tx_fraud
  FROM generate_series(1, 8 * %(rows)s) n;
CREATE TABLE predictions AS
  SELECT n AS transaction_id, random() AS fraud_probability, 7 + n / 400000 AS model_version,
         '2026-01-01'::timestamptz + n * interval '1.7 seconds' + random() * interval '90 ms' AS at
  FROM generate_series(1, 4 * %(rows)s) n;
CREATE TABLE runs AS
  SELECT gen_random_uuid() AS run, jsonb_build_object(
           'status', (ARRAY['FINISHED', 'FAILED', 'RUNNING'])[1 + n %% 3],
           'params', jsonb_build_object('learning_rate', round(random()::numeric, 3), 'max_depth', 3 + n %% 12),
           'metrics', jsonb_build_object('auc', round(random()::numeric, 4), 'loss', random(), 'step', n)) AS facts
  FROM generate_series(1, %(rows)s) n;
CREATE TABLE notes (id bigint PRIMARY KEY, author int, written timestamptz, body text);
"""


class Rows:
    """A file of lines that are made when they are read."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines, self._left = iter(lines), b""

    def read(self, size: int) -> bytes:
        """At most so many bytes; none at the end."""
        while len(self._left) < size and (line := next(self._lines, "")):
            self._left += line.encode()
        piece, self._left = self._left[:size], self._left[size:]
        return piece


def notes(rows: int) -> Iterator[str]:
    """Lines for COPY."""
    chosen = random.Random(42)
    text = " ".join(path.read_text() for path in sorted(ROOT.rglob("docs/**/*.md")))
    words, counts = zip(*Counter(re.findall(r"[A-Za-z][a-z']*[.,]?", text)).most_common(), strict=True)
    for number in range(rows):
        body = " ".join(chosen.choices(words, counts, k=15 + number % 25))
        day = f"2026-{1 + number % 12:02d}-{1 + number % 28:02d} 1{number % 10}:00+00"
        yield f"{number}\t{chosen.randrange(500)}\t{day}\t{body}\n"


def fill(server: Scratch, dbname: str, megabytes: float) -> float:
    """A database of that name with about so much in it. Returns its size in MB."""
    rows = math.ceil(megabytes * ROWS_PER_MB)
    with closing(server.connect()) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(f"CREATE DATABASE {dbname}")
    with closing(server.connect(dbname)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT setseed(0.42)")
        cursor.execute(TABLES, {"rows": rows})
        cursor.copy_expert("COPY notes FROM STDIN", Rows(notes(rows)))
        cursor.execute("SELECT pg_database_size(current_database())")
        size = float(cursor.fetchone()[0])
        connection.commit()
    return size / 1e6


def main() -> int:
    """Measure, report, and return the exit code."""
    report = Report("backup")
    with tempfile.TemporaryDirectory(prefix="bench-backup-") as name, scratch_server(PG_MAJOR) as server:
        folder = Path(name)
        sizes = {
            dbname: fill(server, dbname, part) for dbname, part in (("tenth", MEGABYTES / 10), ("whole", MEGABYTES))
        }
        print(f"databases of {sizes['tenth']:,.0f} and {sizes['whole']:,.0f} MB", flush=True)
        sections = [_section(server, dbname) for dbname in sizes]
        os.environ["PGSERVICEFILE"] = str(folder / "pg_service.conf")
        (folder / "pg_service.conf").write_text("\n".join(sections))
        os.environ["MLOPS_BACKUP_URI"] = str(folder / "backups")
        compare(report, folder, sizes["whole"])
        remember(report, sizes)
    return report.finish()


def compare(report: Report, folder: Path, megabytes: float) -> None:
    """Throughput and size, all in turn; then the verification."""
    raw = _pipe(folder, ["cat"])[1]
    report.row("database", "size", "MB", [megabytes])
    report.row("database", "plain dump", "MB", [raw / 1e6])
    seconds: dict[str, list[float]] = {who: [] for who in (*PEERS, "ours")}
    sizes: dict[str, float] = {}
    digests, wholes = [], []
    for _ in range(RUNS):
        for who, command in PEERS.items():
            took, sizes[who] = _pipe(folder, command)
            seconds[who].append(took)
        began = time.perf_counter()
        done = _step("dump", "whole")
        wholes.append(time.perf_counter() - began)
        seconds["ours"].append(done["seconds"]["dump"])
        digests.append(done["seconds"]["digest"])
        sizes["ours"] = done["size"]
        print(", ".join(f"{who} {times[-1]:.1f} s" for who, times in seconds.items()), flush=True)
    rates = {who: report.row(who, "throughput", "MB/s", [raw / 1e6 / took for took in seconds[who]]) for who in seconds}
    for who, size in sizes.items():
        report.row(who, "size", "MB", [size / 1e6])
    report.row("ours", "digest of every table", "s", digests)
    report.row("ours", "the whole step, digest and start included", "s", wholes)
    report.row("ours", "verification", "s", [_step("verify", "whole", "--backup", "newest")["seconds"]])
    for peer in PEERS:
        report.ratio(f"throughput, ours / {peer}", rates["ours"] / rates[peer])
        report.ratio(f"size, ours / {peer}", sizes["ours"] / sizes[peer])
    gzip = "pg_dump | gzip"
    faster, larger = rates["ours"] / rates[gzip], sizes["ours"] / sizes[gzip]
    report.goal(f"throughput, times {gzip}", GOAL_RATIO, round(faster, 2), faster >= GOAL_RATIO)
    report.goal(f"size, times {gzip}, at most", GOAL_SIZE, round(larger, 3), larger <= GOAL_SIZE)


def remember(report: Report, sizes: dict[str, float]) -> None:
    """Peak memory of a dump, pg_dump included, for the small and the large database."""
    peaks = {}
    for dbname, megabytes in sizes.items():
        runs = [_peak_mib("dump", dbname) for _ in range(RUNS)]
        peaks[dbname] = report.row("ours", f"peak memory, database of {megabytes:,.0f} MB", "MiB", runs)
    growth = report.ratio("peak memory, ten times the data / a tenth", peaks["whole"] / peaks["tenth"])
    report.goal("growth of memory at ten times the data, at most", GOAL_MEMORY, round(growth, 3), growth <= GOAL_MEMORY)
    report.goal("peak memory, MiB, below", MOST_MIB, round(peaks["whole"], 1), peaks["whole"] < MOST_MIB)


def _section(server: Scratch, dbname: str) -> str:
    return "\n".join(
        [f"[{dbname}]", *(f"{key}={value}" for key, value in parse_dsn(server.conninfo(dbname)).items()), ""]
    )


def _pipe(folder: Path, command: list[str]) -> tuple[float, int]:
    """Seconds and bytes of `pg_dump whole | COMMAND > file`."""
    target = folder / "piped"
    began = time.perf_counter()
    with target.open("wb") as file:
        dump = subprocess.Popen([program("pg_dump", PG_MAJOR), f"--dbname={conninfo('whole')}"], stdout=subprocess.PIPE)
        done = subprocess.run(command, stdin=dump.stdout, stdout=file, check=True)
        assert dump.wait() == done.returncode == 0
        os.fsync(file.fileno())
    took = time.perf_counter() - began
    size = target.stat().st_size
    target.unlink()
    return took, size


def _step(step: str, database: str, *flags: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"include.backup.{step}", "--database", database, *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def _peak_mib(step: str, database: str) -> float:
    """Most memory that the step and its children held together."""
    command = [sys.executable, "-m", f"include.backup.{step}", "--database", database]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    ended = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not ended.wait(SAMPLE_SECONDS):
            peak = max(peak, _held(process.pid))

    sampler = threading.Thread(target=sample)
    sampler.start()
    code = process.wait()
    ended.set()
    sampler.join()
    assert code == 0, f"{' '.join(command)} ended with {code}"
    return peak / 2**20


def _held(pid: int) -> int:
    held = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            held += process.memory_info().rss
    except psutil.Error:  # one of them ended meanwhile
        return 0
    return held


if __name__ == "__main__":
    sys.exit(main())
