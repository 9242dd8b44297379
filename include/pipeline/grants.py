"""What a step's pod may reach beyond the lake and MLflow: name a grant, never write labels or accounts in a DAG."""

from dataclasses import dataclass, field

from include.settings import settings


@dataclass(frozen=True)
class Grant:
    """The pod's service account (with its token, if it is to talk to the Kubernetes API) and its further labels."""

    service_account: str
    token: bool = False
    labels: dict[str, str] = field(default_factory=dict)


NOTHING = "nothing"
GRANTS = {
    NOTHING: Grant(settings().service_account),
    # the network policy of the model API's chart lets this label in
    "feature store": Grant(settings().service_account, labels={"mlops/reaches-redis": "true"}),
    # Kafka, Prometheus, Alertmanager, the Pushgateway and the inbox let this label in
    "drill": Grant(settings().service_account, labels={"mlops/drills": "true"}),
    # the chart's role for this account names the one Deployment
    "rollout": Grant(settings().rollout_service_account, token=True),
}
