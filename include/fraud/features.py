"""`FEATURES` of whole frames of transactions, for training: the definition is in `windows`, one pass computes it."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from include.command import BadInput
from include.fraud.lake import Lake
from include.fraud.schema import ORDER, TRANSACTIONS
from include.fraud.windows import (
    DAY_MS,
    FEATURES,
    HISTORY_DAYS,
    Floats,
    Ints,
    calendar_inputs,
    customer_inputs,
    terminal_inputs,
)

CHUNK_DAYS = 30
MAX_KEY = 2**62


def features(history: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    """TRANSACTIONS columns, the other FEATURES and tx_fraud for the rows of days `first` to `last`, in ORDER.

    `history` has TRANSACTIONS and tx_fraud (null: not known) of those days and of the HISTORY_DAYS before; with fewer,
    windows are shorter, as at the beginning of the data. Every tx_amount is whole cents.
    """
    rows = _relevant(history, first, last)
    times = rows["tx_datetime"].to_physical().to_numpy()
    cents = np.rint(rows["tx_amount"].to_numpy() * 100).astype(np.int64)
    frauds = rows["tx_fraud"].fill_null(0).to_numpy()
    new = int(np.searchsorted(times, _midnight_ms(first)))

    def of_customers() -> list[Floats]:
        events = _Events.of(rows["customer_id"].to_numpy(), times, new)
        return events.unsorted(customer_inputs(events.keys, cents[events.order], events.queries))

    def of_terminals() -> list[Floats]:
        events = _Events.of(rows["terminal_id"].to_numpy(), times, new)
        return events.unsorted(terminal_inputs(events.keys, frauds[events.order], events.keys[events.queries]))

    with ThreadPoolExecutor(2) as pool:  # numpy lets go of the interpreter while it sorts and searches
        customers, terminals = pool.submit(of_customers), pool.submit(of_terminals)
        columns = [*calendar_inputs(times[new:], cents[new:]), *customers.result(), *terminals.result()]
    computed = pl.DataFrame(dict(zip(FEATURES, columns, strict=True)))
    given = rows.slice(new)
    return given.select(*TRANSACTIONS).hstack(computed.drop("tx_amount")).hstack(given.select("tx_fraud"))


class _Events(NamedTuple):
    """Events of many entities, grouped by entity and in order of time within each."""

    order: NDArray[np.intp]  # [n] where the event stood before
    keys: Ints  # [n] in order
    queries: NDArray[np.intp]  # [q] positions of the events that are asked for
    new: int  # those stood from here on

    @classmethod
    def of(cls, entities: Ints, times: Ints, new: int) -> "_Events":
        order = _stable_order(entities)
        grouped = entities[order]
        entity = np.zeros(len(grouped), dtype=np.int64)
        np.cumsum(grouped[1:] != grouped[:-1], out=entity[1:])
        keys = _keys(entity, times[order] - (times[0] if len(times) else 0))
        return cls(order, keys, np.flatnonzero(order >= new), new)

    def unsorted(self, columns: Iterable[Floats]) -> list[Floats]:
        """Bring columns [q] of the queries into the order in which their events stood before.

        One at a time, as they are computed: the sorted ones together would be a third of the memory.
        """
        place = self.order[self.queries] - self.new
        back = []
        for column in columns:
            back.append(np.empty_like(column))
            back[-1][place] = column
        return back


def _keys(entity: Ints, since_first: Ints) -> Ints:
    """Times in ms with each entity (0, 1, 2, …) moved out of reach of the windows of the next. Raises BadInput."""
    if not len(entity):
        return since_first
    span = int(since_first.max()) + (HISTORY_DAYS + 1) * DAY_MS
    entities = int(entity[-1]) + 1
    if entities * span > MAX_KEY:
        raise BadInput(
            f"{entities} customers or terminals over {span // DAY_MS} days do not fit the 64-bit keys of the windows; "
            f"compute the features in shorter stretches (features_by_chunk)"
        )
    return entity * span + since_first


def _stable_order(ids: Ints) -> NDArray[np.intp]:
    """The order that sorts `ids` [n] and keeps equal ones as they are.

    Sixteen bits at a time, from the lowest: numpy sorts those by counting, several times faster than whole integers.
    """
    rest = (ids - ids.min()).astype(np.uint64) if len(ids) else ids.astype(np.uint64)
    order = np.argsort(rest.astype(np.uint16), kind="stable")
    while (rest := rest >> np.uint64(16)).any():
        order = order[np.argsort(rest.astype(np.uint16)[order], kind="stable")]
    return order


def _relevant(history: pl.DataFrame, first: date, last: date) -> pl.DataFrame:
    """The rows of the days and of HISTORY_DAYS before, in ORDER and in one piece."""
    rows = history.select(*TRANSACTIONS, "tx_fraud")
    time = rows["tx_datetime"].to_physical().to_numpy()
    number = rows["transaction_id"].to_numpy()
    later, tied = time[1:] > time[:-1], time[1:] == time[:-1]
    if not (later | (tied & (number[1:] > number[:-1]))).all():
        rows = rows.sort(ORDER)
        time = rows["tx_datetime"].to_physical().to_numpy()
    start = np.searchsorted(time, _midnight_ms(first - timedelta(days=HISTORY_DAYS)))
    stop = np.searchsorted(time, _midnight_ms(last + timedelta(days=1)))
    return rows.slice(int(start), max(0, int(stop - start))).rechunk()


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()) * 1000


def labelled_history(lake: Lake, first: date, last: date, as_of: date) -> pl.DataFrame:
    """What `features` needs for the days `first` to `last`: TRANSACTIONS and tx_fraud of those days and of the
    HISTORY_DAYS before (fewer at the start of the lake), in ORDER; tx_fraud is null where it was not known on `as_of`.

    Raises BadInput for days after `as_of`, and for gaps in the lake.
    """
    if last > as_of:
        raise BadInput(f"day {last} is after {as_of}, the day as of which the run looks; choose an earlier last day")
    days = lake.days()
    earliest = max(first - timedelta(days=HISTORY_DAYS), min(days, default=first))
    return _labelled(lake, min(earliest, first), last, as_of)


def _labelled(lake: Lake, first: date, last: date, as_of: date) -> pl.DataFrame:
    labels = lake.labels(as_of, first, last)
    try:
        return lake.transactions(first, last).join(
            labels, on="transaction_id", how="left", validate="m:1", maintain_order="left"
        )
    except pl.exceptions.ComputeError as error:
        raise BadInput(
            f"{lake.uri}: a transaction_id has two labels between {first} and {last}; ids must be unique over all "
            f"days: correct the source and ingest the days again"
        ) from error


def features_by_chunk(lake: Lake, first: date, last: date, as_of: date) -> Iterator[pl.DataFrame]:
    """`features` of the days `first` to `last` from the lake, CHUNK_DAYS at a time, in order.

    Memory holds one chunk and its history, however long the range; each partition is read once.
    """
    start = first
    history = None
    while start <= last:
        end = min(start + timedelta(days=CHUNK_DAYS - 1), last)
        if history is None:
            history = labelled_history(lake, start, end, as_of)
        else:
            since = start - timedelta(days=HISTORY_DAYS)
            kept = history.filter(pl.col("tx_datetime") >= datetime(since.year, since.month, since.day, tzinfo=UTC))
            history = pl.concat([kept, _labelled(lake, start, end, as_of)])
        yield features(history, start, end)
        start = end + timedelta(days=1)
