"""The scorer as a Spark Structured Streaming job, for where one machine is outgrown.

    spark-submit include/streaming/spark_job.py --checkpoint s3a://bucket/scorer
    python -m include.streaming.spark_job --checkpoint FOLDER --master 'local[2]' --jars FOLDER

The same transformation by the same functions: Kafka is read in micro-batches, each executor asks the model API about
its rows over a few connections that stay open, and predictions and dead letters go to Kafka; nothing passes the driver.
An offset is in the checkpoint when the outcomes of its batch are in Kafka: after a crash a batch may be written twice,
and nothing is missing. Offsets that the brokers no longer have stop the job (failOnDataLoss).
Exit codes: 0 stopped as asked, 1 the query failed, 2 a setting is wrong or jars are missing.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.command import BAD_INPUT, DONE, FAILED, BadInput
from include.settings import settings
from include.streaming import messages
from include.streaming.connection import Address
from include.streaming.kafka_settings import check_kafka_settings
from include.streaming.lanes import Job, Lanes
from include.streaming.messages import Answer, DeadLetter, Header
from include.streaming.model_api import Health, Row

if TYPE_CHECKING:
    import pandas as pd
    from pyspark.sql import DataFrame, SparkSession  # type: ignore[import-not-found, unused-ignore]
    from pyspark.sql.streaming import StreamingQuery  # type: ignore[import-not-found, unused-ignore]

log = logging.getLogger(__name__)

OUTPUT = "topic string, key binary, value binary, headers array<struct<key: string, value: binary>>"
POLL_SECONDS = 1.0


def score_frames(
    frames: "Iterator[pd.DataFrame]", url: str, lanes: int, batch: int, predictions: str, dead_letters: str
) -> "Iterator[pd.DataFrame]":
    """Rows of Kafka's source to rows of its sink, on an executor; at most `lanes` requests at once."""
    import pandas as pd

    for frame in frames:
        rows = frame.to_dict("records")
        written = asyncio.run(_score(rows, Address.of(url), lanes, batch, predictions, dead_letters))
        yield pd.DataFrame(written, columns=["topic", "key", "value", "headers"], dtype=object)


async def _score(
    rows: Sequence[Mapping[Any, Any]], address: Address, lanes: int, batch: int, predictions: str, dead_letters: str
) -> list[tuple[str, bytes | None, bytes | None, list[dict[str, Any]]]]:
    written: list[tuple[str, bytes | None, bytes | None, list[dict[str, Any]]]] = []
    finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    all_lanes = Lanes(address, Health(), lanes, batch, finished.set_exception)

    def write(topic: str, key: bytes | None, value: bytes | None, headers: list[Header]) -> None:
        written.append((topic, key, value, [{"key": name, "value": content} for name, content in headers]))
        if len(written) == len(rows):
            finished.set_result(None)

    def take(row: Mapping[Any, Any]) -> None:
        headers = _headers(row)
        value = None if row["value"] is None else bytes(row["value"])
        transaction = messages.read(value)
        if isinstance(transaction, DeadLetter) or value is None:
            assert isinstance(transaction, DeadLetter)
            bury(row, transaction)
            return

        def done(outcome: Answer | DeadLetter | None) -> None:
            assert outcome is not None  # every job is wanted to the end
            if isinstance(outcome, DeadLetter):
                bury(row, outcome)
            else:
                write(predictions, *messages.prediction(transaction, outcome), headers)

        all_lanes.put(Job(Row(transaction, value), lambda: True, done))

    def bury(row: Mapping[Any, Any], dead: DeadLetter) -> None:
        key, value = (None if row[name] is None else bytes(row[name]) for name in ("key", "value"))
        write(dead_letters, key, value, [*_headers(row), messages.error_header(dead)])

    for row in rows:
        take(row)
    if rows:
        await finished
    all_lanes.close()
    return written


def _headers(row: Mapping[Any, Any]) -> list[Header]:
    given = [] if row["headers"] is None else row["headers"]
    own = [(one["key"], None if one["value"] is None else bytes(one["value"])) for one in given]
    return [*own, messages.source(row["topic"], row["partition"], row["offset"])]


def start(spark: "SparkSession", asked: argparse.Namespace) -> "StreamingQuery":
    """The running query."""
    read: DataFrame = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings().kafka_bootstrap)
        .option("subscribe", settings().transactions_topic)
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "true")
        .option("includeHeaders", "true")
        .option("maxOffsetsPerTrigger", asked.most_messages)
        .load()
        .select("key", "value", "headers", "topic", "partition", "offset")
    )
    url, lanes, batch = settings().model_api_url, asked.lanes, asked.batch
    topics = settings().predictions_topic, settings().dead_letter_topic

    def score(frames: "Iterator[pd.DataFrame]") -> "Iterator[pd.DataFrame]":
        return score_frames(frames, url, lanes, batch, *topics)

    return (
        read.mapInPandas(score, OUTPUT)
        .writeStream.format("kafka")
        .option("kafka.bootstrap.servers", settings().kafka_bootstrap)
        .option("kafka.acks", "all")
        .option("kafka.enable.idempotence", "true")
        .option("checkpointLocation", asked.checkpoint)
        .queryName("scorer")
        .start()
    )


def wait(query: "StreamingQuery", stopping: Sequence[int]) -> int:
    """Exit code, when the query has ended or a signal came. (A query that died is silent unless it is asked.)"""
    while not stopping and query.isActive:
        time.sleep(POLL_SECONDS)
    if stopping:
        with contextlib.suppress(Exception):  # the signal may have ended Java first, which the checkpoint bears
            query.stop()
        log.info("stopped; the next start goes on from the checkpoint")
        return DONE
    failure = query.exception()
    log.error("the query ended: %s", failure or "nobody says why")
    return FAILED


def session(asked: argparse.Namespace) -> "SparkSession":
    """Spark's, with the jars of Kafka's connector where they are not part of the image."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName("scorer").config("spark.ui.enabled", "false")
    builder = builder.config("spark.sql.streaming.stopTimeout", "30s")
    if asked.master:
        os.environ["PYSPARK_PYTHON"] = sys.executable  # else the workers take the first python3 there is
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
        builder = builder.master(asked.master).config("spark.driver.host", "127.0.0.1")
        builder = builder.config("spark.driver.bindAddress", "127.0.0.1").config("spark.driver.memory", "512m")
        builder = builder.config("spark.sql.shuffle.partitions", "2")
    if asked.jars:
        builder = builder.config("spark.jars", ",".join(str(jar) for jar in jars(asked.jars)))
    return builder.getOrCreate()


def jars(folder: Path) -> list[Path]:
    """The jars in the folder. Raises BadInput."""
    found = sorted(folder.glob("*.jar"))
    if not any(jar.name.startswith("spark-sql-kafka") for jar in found):
        raise BadInput(
            f"--jars {folder} has no spark-sql-kafka jar, without which Spark cannot read Kafka; fetch them with "
            f"`mvn -s settings.xml dependency:copy-dependencies -DoutputDirectory={folder}` in include/streaming/spark"
        )
    return found


def main() -> int:
    """Exit code of the process."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("py4j").setLevel(logging.WARNING)
    asked = _arguments()
    stopping: list[int] = []
    try:
        check_kafka_settings()
        Address.of(settings().model_api_url)
        spark = session(asked)
    except BadInput as error:
        log.error("%s", error)
        return BAD_INPUT
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: stopping.append(number))
    query = start(spark, asked)
    log.info("the query runs")
    code = wait(query, stopping)
    with contextlib.suppress(Exception):
        spark.stop()
    return code


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", required=True, help="folder that remembers how far it is; keep it")
    parser.add_argument("--master", help="where to run when not started by spark-submit, such as local[2]")
    parser.add_argument("--jars", type=Path, help="folder of the Kafka connector's jars, where Spark has them not")
    parser.add_argument("--lanes", type=int, default=4, help="requests at once from one executor's task")
    parser.add_argument("--batch", type=int, default=64, help="most transactions in one request")
    parser.add_argument("--most-messages", type=int, default=20_000, help="most messages in one micro-batch")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
