"""What becomes of one message, as pure functions: the scorer and the Spark job share them.

A message of the input is the JSON of one transaction. A prediction is keyed by transaction_id, so that who reads it can
drop what comes twice. A dead letter has the key and the value exactly as they came. Both keep the headers of the
message and add its `source`, a dead letter also the `error`.
"""

from datetime import UTC, datetime
from typing import Literal

import msgspec

from include.fraud.online import Transaction, check

NULL, NOT_JSON, INVALID = "null_value", "not_json", "invalid"  # found here
REFUSED, FAILED = "api_refused", "api_failed"  # said by the API
MOST_ERROR = 500  # characters: it may quote what was sent

Header = tuple[str, bytes | None]


class DeadLetter(msgspec.Struct, frozen=True):
    """Why a message gets no prediction: in a word for the metrics, and for people."""

    reason: str
    error: str


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What the model API answers for one transaction."""

    transaction_id: int
    probability: float
    decision: Literal["accept", "review"]
    model_version: str
    degraded: bool


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """The value of a message in the topic of the predictions."""

    transaction_id: int
    customer_id: int
    probability: float
    decision: Literal["accept", "review"]
    model_version: str
    degraded: bool
    scored_at: datetime


_decode_transaction = msgspec.json.Decoder(Transaction).decode
_decode_answers = msgspec.json.Decoder(list[Answer]).decode
_encode = msgspec.json.Encoder().encode


def read(value: bytes | None) -> Transaction | DeadLetter:
    """The transaction in a message's value, by the very rules of the API."""
    if value is None:
        return DeadLetter(NULL, "the message has no value; send the JSON of a transaction")
    try:
        transaction = _decode_transaction(value)
    except msgspec.ValidationError as error:
        return DeadLetter(INVALID, str(error)[:MOST_ERROR])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return DeadLetter(NOT_JSON, f"not JSON: {error}"[:MOST_ERROR])
    broken = check(transaction)
    return DeadLetter(INVALID, f"{broken[0]}: {broken[1]}"[:MOST_ERROR]) if broken else transaction


def request(values: list[bytes]) -> bytes:
    """The body that asks the API about all of them; each is JSON, as `read` found."""
    return b"[" + b",".join(values) + b"]"


def answers(body: bytes, transactions: list[Transaction]) -> list[Answer]:
    """The API's answer, one for each transaction. Raises ValueError when it is not that."""
    try:
        given = _decode_answers(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ValueError(f"not the JSON of predictions: {error}") from None
    if [one.transaction_id for one in given] != [one.transaction_id for one in transactions]:
        raise ValueError(f"{len(given)} predictions that are not those of the {len(transactions)} transactions asked")
    return given


def prediction(transaction: Transaction, answer: Answer) -> tuple[bytes, bytes]:
    """Key and value of the message that tells it."""
    told = Prediction(
        transaction.transaction_id,
        transaction.customer_id,
        answer.probability,
        answer.decision,
        answer.model_version,
        answer.degraded,
        datetime.now(UTC),
    )
    return b"%d" % transaction.transaction_id, _encode(told)


def source(topic: str, partition: int, offset: int) -> Header:
    """Where the message was read."""
    return "source", f"{topic}/{partition}/{offset}".encode()


def error_header(dead: DeadLetter) -> Header:
    """Why it is a dead letter: the reason's word, and what it means."""
    return "error", f"{dead.reason}: {dead.error}".encode("utf-8", "replace")
