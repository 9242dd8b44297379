"""What a step's pod may reach beyond the lake and MLflow: name a grant, never write labels or accounts in a DAG."""

from dataclasses import dataclass, field

from include.settings import local_path, settings


@dataclass(frozen=True)
class Grant:
    """The pod's service account (with its token, if it is to talk to the Kubernetes API), labels, and what it mounts.

    `databases` is the Secret whose key pg_service.conf names the databases with users and passwords, as libpq reads it.
    """

    service_account: str
    token: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    databases: str = ""
    claim: str = ""  # mounted at /backups


NOTHING = "nothing"
CLAIM = "backup-pvc" if local_path(settings().backup_uri) else ""  # a bucket needs none
GRANTS = {
    NOTHING: Grant(settings().service_account),
    # the network policy of the model API's chart lets this label in
    "feature store": Grant(settings().service_account, labels={"mlops/reaches-redis": "true"}),
    # Kafka, Prometheus, Alertmanager, the Pushgateway and the inbox let this label in
    "drill": Grant(settings().service_account, labels={"mlops/drills": "true"}),
    # PostgreSQL and the Pushgateway let this label in; this role may read everything and write nothing
    "backup": Grant(
        settings().service_account,
        labels={"mlops/backs-up": "true"},
        databases="backup-databases",
        claim=CLAIM,
    ),
    # this one may create databases and rename them
    "restore": Grant(
        settings().service_account,
        labels={"mlops/backs-up": "true"},
        databases="restore-databases",
        claim=CLAIM,
    ),
    # the chart's role for this account names the one Deployment
    "rollout": Grant(settings().rollout_service_account, token=True),
}
