"""Apache Kafka as a local process: one node that is broker and controller, from the jars that kafka/pom.xml names."""

import base64
import socket
import struct
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from include.code_version import ROOT
from include.local.process import PROBE_SECONDS, Process, Say
from include.local.programs import path_of, run
from include.local.state import State

VERSION = "4.3.1"  # that of kafka/pom.xml
POM = Path(__file__).parent / "kafka" / "pom.xml"
COPY_JARS = "org.apache.maven.plugins:maven-dependency-plugin:3.6.0:copy-dependencies"
METADATA, METADATA_VERSION = 3, 4

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{broker}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={logs}
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=2097152
# After a kill the controller waits this long for the broker that is gone, before the new one may register.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
"""

LOGGING = """\
status = warn
appender.console.type = Console
appender.console.name = STDOUT
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d %p %c{1.} %m%n
rootLogger.level = INFO
rootLogger.appenderRef.stdout.ref = STDOUT
"""


def kafka_server(state: State, ports: Mapping[str, int]) -> Process:
    """One node with its data under the state folder, and the repository's topics."""
    data = state.data("kafka")
    configuration, logging = data / "server.properties", data / "log4j2.properties"
    broker = ports["kafka"]
    address = kafka_address(broker)
    return Process(
        name="kafka",
        argv=[
            *(path_of("java"), "-Xmx256m", "-Xms256m", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
            *(f"-Dlog4j2.configurationFile={logging}", "-cp", _class_path(), "kafka.Kafka", str(configuration)),
        ],
        files={
            configuration: PROPERTIES.format(broker=broker, controller=ports["kafka-controller"], logs=data / "logs"),
            logging: LOGGING,
        },
        prepare=lambda say: _prepare(data, configuration, say),
        furnish=lambda say: create_topics(address),
        ready=answers_metadata(broker),
        address=address,
        port=broker,
    )


def kafka_address(port: int) -> str:
    """What clients of the local broker connect to."""
    return f"127.0.0.1:{port}"


def jars() -> Path:
    """The folder of the broker's jars; one for all stacks of this checkout."""
    return ROOT / "build" / "programs" / f"kafka-{VERSION}" / "libs"


def answers_metadata(port: int) -> Callable[[], bool]:
    """Ready when the broker names a broker: it accepts connections some seconds before it has registered itself."""
    body = struct.pack(">hhih", METADATA, METADATA_VERSION, 1, -1) + struct.pack(">i?", 0, False)  # of no topic

    def probe() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=PROBE_SECONDS) as client:
                client.sendall(struct.pack(">i", len(body)) + body)
                _size, _correlation, _throttled, brokers = struct.unpack(">iiii", _read(client, 16))
        except OSError:
            return False
        return bool(brokers > 0)

    return probe


def fetch_jars(say: Say) -> None:
    """Download the jars from Maven Central, once. Raises StackError."""
    if jars().exists():
        return
    jars().parent.mkdir(parents=True, exist_ok=True)
    say(f"downloading Apache Kafka {VERSION} (92 jars, 56 MB) to {jars()}, once")
    with tempfile.TemporaryDirectory(dir=jars().parent, prefix="download-") as folder:
        libs = Path(folder) / "libs"
        to = (f"-DoutputDirectory={libs}", "-DincludeScope=runtime")
        run([path_of("mvn"), "-B", "-ntp", "-q", "-f", str(POM), COPY_JARS, *to], "Apache Kafka cannot be downloaded")
        try:
            libs.rename(jars())
        except OSError:
            if not jars().exists():  # else another stack was quicker
                raise


def create_topics(address: str) -> None:
    """The topics of the stream, as `python -m include.streaming.topics` creates them where they are missing."""
    command = [sys.executable, "-m", "include.streaming.topics"]
    run(command, "the topics cannot be created", {"MLOPS_KAFKA_BOOTSTRAP": address})


def _prepare(data: Path, configuration: Path, say: Say) -> None:
    fetch_jars(say)
    logs = data / "logs"
    if (logs / "meta.properties").exists():
        return
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
    tool = [path_of("java"), "-cp", _class_path(), "kafka.tools.StorageTool", "format"]
    run([*tool, f"--cluster-id={cluster}", "-c", str(configuration)], f"{logs} cannot be formatted for Kafka")


def _class_path() -> str:
    return f"{jars()}/*"


def _read(client: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        part = client.recv(count - len(received))
        if not part:
            raise ConnectionError("closed before the answer was whole")
        received += part
    return received
