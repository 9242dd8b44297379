"""What serving knows of the model's domain: the request, whose history it needs, and its inputs from them.

A history is the events of one customer or terminal, an array [events, 3] of 64-bit integers: time in milliseconds
since 1970 UTC, transaction_id, and a value (a customer's: the amount in cents; a terminal's: 1 for known fraud, else
0). It is kept as the array's bytes, little-endian. Ids below zero are the customers and terminals of a version's golden
requests: their history ships with the version and never changes. Ids from EXERCISE_IDS on are those of load tests: no
real customer, terminal or transaction has them, and what is kept of them expires within a minute.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
import numpy as np

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

__all__ = [
    "EPOCH",
    "EXERCISE_IDS",
    "FEATURES",
    "GROWING",
    "KINDS",
    "Transaction",
    "check",
    "event",
    "inputs",
    "time_of",
]

KINDS = ("customer", "terminal")
GROWING = "customer"  # scoring a transaction adds it to this kind's history; the other kind's comes with its labels
EVENT_BYTES = 24
EXERCISE_IDS = 2**52  # up to 2**53, as far as every reader of JSON is exact; real ids are far below
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_TIME = datetime(2200, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
CENT_TOLERANCE = 1e-4  # in cents, as for the lake
NO_EVENTS = b""

Id = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Transaction(msgspec.Struct, forbid_unknown_fields=True, frozen=True, gc=False):
    """One card transaction, as it is known before anybody knows whether it is fraud."""

    transaction_id: Id
    tx_datetime: Annotated[datetime, msgspec.Meta(tz=True, description="with a time zone, years 1970 to 2199")]
    customer_id: Id
    terminal_id: Id
    tx_amount: Annotated[float, msgspec.Meta(ge=0, le=1e9, description="whole cents")]

    def entity(self, kind: str) -> int:
        """Whose history of that kind the transaction needs."""
        return self.customer_id if kind == "customer" else self.terminal_id


def check(transaction: Transaction) -> tuple[str, str] | None:
    """The first rule that the types cannot say and the transaction breaks: (field, reason)."""
    cents = transaction.tx_amount * 100
    if abs(cents - round(cents)) > CENT_TOLERANCE:
        return "tx_amount", f"{transaction.tx_amount} is not whole cents; send at most two decimals"
    if not EPOCH <= transaction.tx_datetime < LAST_TIME:
        return "tx_datetime", f"{transaction.tx_datetime.isoformat()} is outside the years 1970 to 2199"
    return None


def time_of(transaction: Transaction) -> int:
    """In milliseconds since 1970 UTC."""
    return (transaction.tx_datetime - EPOCH) // MILLISECOND


def event(transaction: Transaction) -> bytes:
    """What scoring the transaction adds to its GROWING history."""
    return np.array(_event(transaction), dtype="<i8").tobytes()


def inputs(
    transactions: Sequence[Transaction], customers: Mapping[int, bytes], terminals: Mapping[int, bytes]
) -> Floats:
    """The FEATURES [rows, 15] of the transactions; they are part of each other's customer windows, in order of time.

    `customers` and `terminals` hold the history of every id that occurs (NO_EVENTS for none), in any order of time,
    with events twice, or later than the transactions: what is not in a window does not matter.
    """
    new = np.array([_event(one) for one in transactions], dtype=np.int64)
    columns = calendar_inputs(new[:, 0], new[:, 2])
    columns += _customer_columns(new, [one.customer_id for one in transactions], customers)
    columns += _terminal_columns(new[:, 0], [one.terminal_id for one in transactions], terminals)
    return np.column_stack(columns)


def _event(transaction: Transaction) -> tuple[int, int, int]:
    return time_of(transaction), transaction.transaction_id, round(transaction.tx_amount * 100)


def _customer_columns(new: Ints, ids: Sequence[int], histories: Mapping[int, bytes]) -> list[Floats]:
    entity, events, known = _together(ids, histories)
    row_entity = np.array([entity[one] for one in ids])
    owner = np.concatenate([known, row_entity])
    events = np.concatenate([events, new])
    # Sorted, with what is sent now before what was kept of the same transaction, so that each counts once.
    kept_before = np.arange(len(events)) < len(known)
    order = np.lexsort((kept_before, events[:, 1], events[:, 0], owner))
    same_id = np.lexsort((kept_before, events[:, 1], owner))
    repeated = np.zeros(len(events), dtype=bool)
    repeated[same_id[1:]] = (np.diff(events[same_id, 1]) == 0) & (np.diff(owner[same_id]) == 0)
    order = order[~repeated[order]]
    keys = _keys(owner[order], events[order, 0], new[:, 0])
    place = np.empty(len(events), dtype=np.intp)
    place[order] = np.arange(len(order))
    first = same_id[np.maximum.accumulate(np.where(repeated[same_id], 0, np.arange(len(same_id))))]
    shown = np.empty(len(events), dtype=np.intp)
    shown[same_id] = first
    at = place[shown[len(known) :]]
    return list(customer_inputs(keys, events[order, 2], at))


def _terminal_columns(times: Ints, ids: Sequence[int], histories: Mapping[int, bytes]) -> list[Floats]:
    entity, events, owner = _together(ids, histories)
    order = np.lexsort((events[:, 0], owner))
    row_entity = np.array([entity[one] for one in ids])
    both = np.concatenate([events[order, 0], times])
    keys = _keys(np.concatenate([owner[order], row_entity]), both, times)
    return list(terminal_inputs(keys[: len(order)], events[order, 2], keys[len(order) :]))


def _together(ids: Sequence[int], histories: Mapping[int, bytes]) -> tuple[dict[int, int], Ints, Ints]:
    """A number for each id, all their events [n, 3], and the number of each event's owner [n]."""
    entity = {one: number for number, one in enumerate(dict.fromkeys(ids))}
    blobs = [histories[one] for one in entity]
    events = np.frombuffer(b"".join(blobs), dtype="<i8").reshape(-1, 3)
    owner = np.repeat(np.arange(len(blobs)), [len(blob) // EVENT_BYTES for blob in blobs])
    return entity, events, owner


def _keys(owner: Ints, times: Ints, asked: Ints) -> Ints:
    """Times with each owner's moved out of reach of the windows of the next.

    A time outside the windows of every asked one is moved to their edge, so that the keys stay small whatever was sent.
    """
    reach = (HISTORY_DAYS + 1) * DAY_MS
    first, last = int(asked.min()) - reach, int(asked.max()) + reach
    return owner * (last - first + reach) + np.clip(times, first, last) - first
