"""Every setting of the repository, with its default. Each is read from the environment as ``MLOPS_<NAME>``.

Secrets are not settings: they come from Airflow connections and Kubernetes Secrets.
"""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from include.code_version import ROOT


class Settings(BaseSettings):
    """The deployment's settings; `settings()` is the one instance."""

    model_config = SettingsConfigDict(env_prefix="MLOPS_", frozen=True)

    runtime: Literal["local", "kubernetes"] = Field(
        "local", description="where steps run: child processes of the worker, or pods"
    )
    lake_uri: str = Field(
        str(ROOT / "build" / "lake"), description="root of the data lake: a folder or s3://bucket/prefix"
    )
    timed_schedules: bool = Field(True, description="start runs by the clock; off: only when somebody or an asset asks")
    source: str = Field("simulator", description="`simulator`, or a path or s3:// glob of Parquet files")
    simulator_seed: int = Field(42, description="seed of the simulated transactions")
    mlflow_tracking_uri: str = Field("http://127.0.0.1:5000", description="address of the MLflow server")
    mlflow_experiment: str = Field("fraud", description="MLflow experiment of the training runs")
    model_name: str = Field("fraud", description="registered model in MLflow")
    step_image: str = Field(
        "mlops-dags/steps", description="image of the steps, without tag: the tag is the git commit"
    )
    namespace: str = Field("mlops", description="Kubernetes namespace of the steps' pods")
    service_account: str = Field("mlops-steps", description="service account of the steps' pods")
    rollout_service_account: str = Field(
        "model-api-rollout", description="service account of the steps that may change the model API's Deployment"
    )
    serving_deployment: str = Field("model-api", description="Deployment of the model API, in the same namespace")
    model_api_url: str = Field("http://model-api", description="address of the model API")
    local_deployment: str = Field(
        str(ROOT / "build" / "local" / "data" / "model-api"),
        description="folder of the local model API's spec and status",
    )
    redis_url: str = Field("", description="Redis of the online features, without password; empty: none")
    bake_seconds: int = Field(
        120,
        ge=10,
        le=3600,
        description="how long a new version is watched under real traffic, when nobody says otherwise",
    )
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka brokers, host:port, separated by commas")
    transactions_topic: str = Field("transactions-input", description="topic of the transactions to score")
    predictions_topic: str = Field("fraud-predictions", description="topic of the scores")
    dead_letter_topic: str = Field("transactions-dlq", description="topic of what cannot be scored")
    attack_brokers: str = Field(
        "", description="brokers that an attack may load, host:port, separated by commas; empty: none"
    )
    prometheus_url: str = Field("http://127.0.0.1:9090", description="address of Prometheus")
    alertmanager_url: str = Field("http://127.0.0.1:9093", description="address of Alertmanager")
    pushgateway_url: str = Field("http://127.0.0.1:9091", description="address of the Pushgateway")
    inbox_url: str = Field("http://127.0.0.1:8025", description="address of the inbox where the admin's copies arrive")
    alert_for_seconds: float = Field(
        300, gt=0, description="the `for` that the admin's alert must have; a drill refuses another"
    )
    backup_uri: str = Field(
        str(ROOT / "build" / "backups"), description="where backups are kept: a folder or s3://bucket/prefix"
    )
    backup_databases: list[str] = Field(
        ["mlflow", "airflow"],
        description="databases to back up, as a JSON list: sections of the file that PGSERVICEFILE names",
    )
    local_services: str = Field(
        str(ROOT / "build" / "local" / "data" / "services"),
        description="folder of the local stack's PGSERVICEFILEs, one for each Secret that a pod would mount",
    )
    backup_codec: Literal["gzip", "zstd"] = Field("gzip", description="how backups are compressed")
    backup_days: int = Field(7, ge=1, description="days that a backup is kept")
    backup_least: int = Field(3, ge=1, description="how many verified backups stay, however old they are")
    restore_keep_days: int = Field(7, ge=0, description="days that a database replaced by a restore is kept beside it")
    restore_migrations: dict[str, list[str]] = Field(
        {}, description="JSON: by database, the command of its owner that is run once after a restore has replaced it"
    )
    drain_seconds: float = Field(5.0, ge=0, description="how long a stopping replica of the model API still serves")


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()


def local_path(uri: str) -> Path | None:
    """The folder a lake URI names, or None when it is not on a file system."""
    return None if "://" in uri and not uri.startswith("file://") else Path(uri.removeprefix("file://"))
