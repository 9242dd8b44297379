"""Transactions as clients send them, for demos and load: requests of the model API, and exercise transactions."""

from datetime import UTC, date, datetime

from include.fraud.online import EXERCISE_IDS
from include.fraud.schema import split_bad_rows
from include.fraud.simulator import Simulator
from include.fraud.sources import open_source
from include.settings import settings

EXERCISE_SEED, EXERCISE_DAY = 7, date(2025, 6, 30)  # any day of any world: the same one each time


def requests_of(day: date) -> list[dict[str, object]]:
    """One request for each good transaction of the day, in order of time. Raises BadInput for a day without any."""
    good, _ = split_bad_rows(open_source(settings().source).transactions(day), day)
    rows = good.sort("tx_datetime", "transaction_id").iter_rows(named=True)
    return [{**row, "tx_datetime": row["tx_datetime"].isoformat()} for row in rows]


class ExerciseTransactions:
    """Transactions of nobody: amounts, customers and terminals as on a simulated day, all ids from EXERCISE_IDS on.

    The JSON of each is made once but for id and time, so that one process can send tens of thousands a second.
    """

    def __init__(self) -> None:
        rows = Simulator(EXERCISE_SEED).transactions(EXERCISE_DAY)
        chosen = rows.select("customer_id", "terminal_id", "tx_amount").iter_rows()
        self._templates = [
            (
                b"%d" % (EXERCISE_IDS + customer),
                b'{"transaction_id":%%d,"tx_datetime":"%%b.%%03d+00:00","customer_id":%d,"terminal_id":%d,"tx_amount":%b}'
                % (EXERCISE_IDS + customer, EXERCISE_IDS + terminal, str(amount).encode()),
            )
            for customer, terminal, amount in chosen
        ]
        self._second, self._second_text = -1, b""

    def __len__(self) -> int:
        """How many there are before the same customer, terminal and amount come again."""
        return len(self._templates)

    def message(self, number: int, transaction_id: int, at_ms: int) -> tuple[bytes, bytes]:
        """Key and value of the transaction of that number, as it happens at `at_ms` (since 1970 UTC)."""
        key, template = self._templates[number % len(self._templates)]
        second, millisecond = divmod(at_ms, 1000)
        if second != self._second:
            text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second, self._second_text = second, text.encode()
        return key, template % (transaction_id, self._second_text, millisecond)
