"""Every Airflow asset of the repository: what one pipeline tells the next."""

from airflow.sdk import Asset

# A lake partition was written. The event's extra is the answer of include.fraud.ingest (days, rows, digest).
transactions = Asset("transactions", uri="mlops://lake/transactions", group="fraud")

# The alias `champion` moved. The event's extra is the answer of include.fraud.promote (name, version, run_id, metrics).
fraud_model = Asset("fraud_model", uri="mlops://models/fraud", group="fraud")
