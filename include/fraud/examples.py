"""Requests as clients of the model API send them, for demos and load: the source's own transactions."""

from datetime import date

from include.fraud.schema import split_bad_rows
from include.fraud.sources import open_source
from include.settings import settings


def requests_of(day: date) -> list[dict[str, object]]:
    """One request for each good transaction of the day, in order of time. Raises BadInput for a day without any."""
    good, _ = split_bad_rows(open_source(settings().source).transactions(day), day)
    rows = good.sort("tx_datetime", "transaction_id").iter_rows(named=True)
    return [{**row, "tx_datetime": row["tx_datetime"].isoformat()} for row in rows]
