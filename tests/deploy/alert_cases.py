"""Each alert both ways, from the series that it reads: at its threshold it is quiet, above it fires after its `for`."""

from tests.deploy.admin_cases import ADMIN
from tests.deploy.rule_case import FIRING, MINUTE, PENDING, QUIET, Case, Samples, counter, hold

MINUTES = 21
CPU = 'model_api:cpu_utilisation:max{namespace="mlops"}'
REPLICAS = 'model_api:replicas_ready{namespace="mlops"}'
NEVER: dict[float, str | None] = {5: QUIET, 10: QUIET, 13: QUIET}
AFTER_FIVE: dict[float, str | None] = {0: PENDING, 4.75: PENDING, 5: FIRING, 13: FIRING}
# A rate needs two samples.
AFTER_A_SAMPLE: dict[float, str | None] = {0: QUIET, 0.25: PENDING, 5: PENDING, 5.25: FIRING, 13: FIRING}


def once(value: float, otherwise: float, minute: float = 3) -> list[float]:
    """`value`, for one sample, at that minute."""
    return [value if step == minute * MINUTE else otherwise for step in range(MINUTES * MINUTE)]


def answers(ok: float, failed: float, path: str = "/predict", status: str = "503") -> dict[str, Samples]:
    """Two replicas that give so many answers a second together; the second gives all those that failed."""
    labels = f'namespace="mlops",method="POST",path="{path}"'
    return {
        f'http_requests_total{{{labels},pod="a",status="200"}}': counter(hold(ok, MINUTES)),
        f'http_requests_total{{{labels},pod="b",status="{status}"}}': counter(hold(failed, MINUTES)),
    }


def requests(rate: float, slow: float, path: str = "/predict") -> dict[str, Samples]:
    """So many requests a second, of which a part takes between 2 and 5 s and the rest between 1 and 2 s."""
    below = {"1.0": 0.0, "2.0": rate * (1 - slow), "5.0": rate, "+Inf": rate}
    return {
        f'http_request_duration_seconds_bucket{{namespace="mlops",path="{path}",pod="a",le="{le}"}}': counter(
            hold(each, MINUTES)
        )
        for le, each in below.items()
    }


def admin() -> list[Case]:
    """From the recorded series, so to the moment."""
    hot, six = hold(0.81, MINUTES), hold(6, MINUTES)
    again: dict[float, str | None] = {2.75: PENDING, 3: QUIET, 3.25: PENDING, 8: PENDING, 8.25: FIRING}
    elsewhere = {CPU: hot, REPLICAS.replace("mlops", "other"): six, REPLICAS: hold(4, MINUTES)}
    return [
        Case("81 % at 6", ADMIN, {CPU: hot, REPLICAS: six}, AFTER_FIVE),
        Case("80 % at 6", ADMIN, {CPU: hold(0.8, MINUTES), REPLICAS: six}, NEVER),
        Case("81 % at 5", ADMIN, {CPU: hot, REPLICAS: hold(5, MINUTES)}, NEVER),
        Case("81 % here, 6 elsewhere", ADMIN, elsewhere, NEVER),
        Case("no name of a namespace", ADMIN, {CPU.split("{")[0]: hot, REPLICAS.split("{")[0]: six}, AFTER_FIVE),
        Case("80 % once", ADMIN, {CPU: once(0.8, 0.81), REPLICAS: six}, again),
        Case("5 replicas once", ADMIN, {CPU: hot, REPLICAS: once(5, 6)}, again),
        Case("nothing measured", ADMIN, {REPLICAS: six}, NEVER),
    ]


def high_cpu() -> list[Case]:
    alert = "ModelApiHighCPU"
    return [
        Case("81 %", alert, {CPU: hold(0.81, MINUTES)}, AFTER_FIVE),
        Case("80 %", alert, {CPU: hold(0.8, MINUTES)}, NEVER),
        Case("80 % once", alert, {CPU: once(0.8, 0.81)}, {3: QUIET, 8: PENDING, 8.25: FIRING}),
    ]


def error_rate() -> list[Case]:
    alert = "ModelApiHighErrorRate"
    minute_of_errors = [*hold(0.0, 5), *hold(10.0, 1), *hold(0.0, MINUTES - 6)]
    errors = 'http_requests_total{namespace="mlops",path="/predict",status="500"}'
    burst = {**answers(10, 0), errors: counter(minute_of_errors)}
    return [
        Case("6 % fail", alert, answers(94, 6), AFTER_A_SAMPLE),
        Case("4.9 % fail", alert, answers(95.1, 4.9), NEVER),
        Case("all fail", alert, answers(0, 10), AFTER_A_SAMPLE),
        Case("6 % are the client's fault", alert, answers(94, 6, status="422"), NEVER),
        Case("another path fails", alert, {**answers(100, 0), **answers(0, 50, path="/ready")}, NEVER),
        Case("nobody asks", alert, answers(0, 0), NEVER),
        Case("nobody has ever asked", alert, {}, NEVER),
        Case("one bad minute", alert, burst, {6: PENDING, 8: QUIET, 11: QUIET, 13: QUIET}),
    ]


def slow() -> list[Case]:
    alert = "ModelApiSlowResponses"
    return [
        Case("6 % take more than 2 s", alert, requests(100, 0.06), AFTER_A_SAMPLE),
        Case("4.9 % take more than 2 s", alert, requests(100, 0.049), NEVER),
        Case("/docs is slow", alert, {**requests(10, 0), **requests(100, 1, path="/docs")}, NEVER),
        Case("nobody asks", alert, requests(0, 0), NEVER),
    ]


def degraded() -> list[Case]:
    alert = "ModelApiFeaturesDegraded"
    series = 'ml_features_degraded_total{namespace="mlops",reason="redis_down",pod="%s"}'
    half = MINUTES / 2
    first, second = [*hold(1, half), *hold(0, half)], [*hold(0, half), *hold(1, half)]
    return [
        Case("one a second", alert, {series % "a": counter(hold(1, MINUTES))}, AFTER_A_SAMPLE),
        Case("none", alert, {series % "a": counter(hold(0, MINUTES))}, NEVER),
        Case(
            "another replica goes on",
            alert,
            {series % "a": counter(first), series % "b": counter(second)},
            AFTER_A_SAMPLE,
        ),
    ]


def backlog() -> list[Case]:
    alert = "KafkaQueueBacklog"
    lag = 'kafka_consumer_lag{namespace="mlops",topic="transactions-input",partition="%d"}'

    def lags(*each: Samples) -> dict[str, Samples]:
        return {lag % number: samples for number, samples in enumerate(each)}

    return [
        Case("1001 in three partitions", alert, lags(*[hold(n, MINUTES) for n in (333, 333, 335)]), AFTER_FIVE),
        Case("1000 in three partitions", alert, lags(*[hold(n, MINUTES) for n in (333, 333, 334)]), NEVER),
        Case("1000 once", alert, lags(once(1000, 5000)), {3: QUIET, 8: PENDING, 8.25: FIRING}),
    ]


def backup() -> list[Case]:
    """promtool's clock begins at 0, so a backup of 26 h ago has a negative time."""
    alert = "BackupMissingOrStale"
    series = 'backup_last_success_timestamp_seconds{database="%s",instance="%s"}'
    long = 30  # minutes

    def ended(hours_ago: float) -> list[float]:
        return hold(-hours_ago * 3600, long)

    late: dict[float, str | None] = {10: PENDING, 14.75: PENDING, 15: FIRING, 29: FIRING}
    good: dict[float, str | None] = {10: QUIET, 20: QUIET, 29: QUIET}
    back = [None] * (10 * MINUTE) + hold(0, long - 10)

    def ago(**hours: float) -> dict[str, Samples]:
        return {series % (database, "a"): ended(each) for database, each in hours.items()}

    older = {series % ("fraud", "a"): ended(30), series % ("fraud", "b"): ended(1)}
    tenth: dict[float, str | None] = {9.75: QUIET, 25: PENDING, 25.25: FIRING}
    return [
        Case("26 h and a second ago", alert, ago(fraud=26 + 1 / 3600), late),
        Case("25 h ago", alert, ago(fraud=25), good),
        Case("26 h are over after ten minutes", alert, ago(fraud=26 - 1 / 6), tenth),
        Case("one of two is late", alert, ago(fraud=30, mlflow=1), late),
        Case("an older report of the same", alert, older, good),
        Case("never", alert, {}, late),
        Case("away for ten minutes", alert, {series % ("fraud", "a"): back}, {9: PENDING, 11: QUIET, 29: QUIET}),
    ]


def watchdog() -> list[Case]:
    return [Case("always", "Watchdog", {}, {0: FIRING, 13: FIRING})]


def backup_not_verified() -> list[Case]:
    alert = "BackupNotVerified"
    written = 'backup_last_success_timestamp_seconds{database="%s",instance="a"}'
    verified = 'backup_last_verified_timestamp_seconds{database="%s",instance="a"}'

    def told(database: str, backup: float, verification: float) -> dict[str, Samples]:
        return {written % database: hold(backup, MINUTES), verified % database: hold(verification, MINUTES)}

    fires: dict[float, str | None] = {4.75: PENDING, 5: FIRING, 12: FIRING}
    later = [*hold(100, 3), *hold(200, MINUTES - 3)]
    mended = {written % "mlflow": hold(200, MINUTES), verified % "mlflow": [*hold(100, 3), *hold(260, MINUTES - 3)]}
    return [
        Case("verified after it was written", alert, told("mlflow", 100, 160), NEVER),
        Case("the one of the day before is verified", alert, told("mlflow", 200, 160), fires),
        Case("none was ever verified", alert, told("mlflow", 100, 0), fires),
        Case("one of two", alert, told("mlflow", 100, 160) | told("airflow", 200, 160), fires),
        Case("verified by a second try", alert, mended, {2: PENDING, 6: QUIET, 12: QUIET}),
        Case(
            "a new one that is not",
            alert,
            {written % "mlflow": later, verified % "mlflow": hold(160, MINUTES)},
            {2: QUIET, 4: PENDING, 8: FIRING},
        ),
    ]


def backup_shrunk() -> list[Case]:
    alert = "BackupShrunk"
    series = 'backup_size_bytes{database="mlflow",instance="a"}'
    hours = 60

    def sizes(before: float, after: float) -> dict[str, Samples]:
        return {series: [*hold(before, 2 * hours), *hold(after, hours)]}

    late: dict[float, str | None] = {119: QUIET, 122: PENDING, 126: FIRING, 170: FIRING}
    return [
        Case("49 of 100", alert, sizes(100, 49), late),
        Case("50 of 100", alert, sizes(100, 50), {119: QUIET, 140: QUIET, 170: QUIET}),
        Case("it grew", alert, sizes(100, 300), {119: QUIET, 140: QUIET, 170: QUIET}),
        Case(
            "small for longer than it was large",
            alert,
            {series: [*hold(100, hours), *hold(49, 2 * hours)]},
            {62: PENDING, 100: FIRING, 130: QUIET},
        ),
    ]


def dag_import_errors() -> list[Case]:
    alert = "DagImportErrors"
    series = 'airflow_dag_processing_import_errors{job="airflow",instance="%s"}'

    def told(*samples: float) -> dict[str, Samples]:
        return {series % "a": [*samples, *hold(samples[-1], MINUTES)]}

    mended = [*hold(0, 2), *hold(1, 6), *hold(0, MINUTES)]
    restarted = {series % "a": [*hold(1, 3), *([None] * 60)], series % "b": [*([None] * 12), *hold(1, MINUTES)]}
    return [
        Case("none", alert, told(0), NEVER),
        Case("one", alert, told(1), {1.75: PENDING, 2: FIRING, 12: FIRING}),
        Case("mended before it was told", alert, told(*hold(1, 1), 0), {0.5: PENDING, 2: QUIET, 12: QUIET}),
        Case("undone", alert, {series % "a": mended}, {1: QUIET, 3: PENDING, 5: FIRING, 9: QUIET}),
        Case("another processor says it", alert, restarted, {1: PENDING, 2: FIRING, 6: FIRING, 12: FIRING}),
    ]


def alert_cases() -> list[Case]:
    """All of them."""
    services = (admin, high_cpu, error_rate, slow, degraded, backlog)
    families = (*services, backup, backup_not_verified, backup_shrunk, dag_import_errors, watchdog)
    return [case for family in families for case in family()]
