"""POST /predict: from the bytes of a request to the bytes of its answer."""

import re
from typing import Any
from urllib.parse import parse_qs

import msgspec

from include.fraud.online import Transaction, check
from include.serving import metrics
from include.serving.scoring import QueueFull, Scorer

MOST_BYTES = 1_048_576
MOST_READ_ON = 16 * MOST_BYTES
MOST_ROWS = 1_000
RETRY_AFTER_SECONDS = b"1"
JSON = (b"content-type", b"application/json")
MOST_REASON = 300  # characters: it may quote what was sent

NAMED = re.compile(r"Object (?:missing required|contains unknown) field `([^`]*)`")

_decode = msgspec.json.Decoder(Transaction | list[Transaction]).decode
_encode = msgspec.json.Encoder().encode


class Rejected(Exception):
    """The request gets no prediction: the status, why for the metrics, which field, and why for people."""

    def __init__(self, status: int, reason: str, field: str, message: str) -> None:
        super().__init__(message)
        self.status, self.reason, self.field = status, reason, field


async def answer(scorer: Scorer, scope: Any, receive: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of the answer; never raises for anything that was sent."""
    try:
        explain = _explain(scope["query_string"])
        transactions, one = parse(await _body(scope, receive))
        predictions = await scorer.submit(transactions, explain)
    except Rejected as rejected:
        metrics.ERRORS.labels(rejected.reason).inc()
        return rejected.status, [JSON], _error(rejected.field, str(rejected))
    except QueueFull:
        metrics.ERRORS.labels("queue_full").inc()
        return 503, [JSON, (b"retry-after", RETRY_AFTER_SECONDS)], _error("", "too much waits already; try again")
    except Exception:  # logged where it happened
        metrics.ERRORS.labels("internal").inc()
        return 500, [JSON], _error("", "the model failed on this batch; the log of the replica says why")
    return 200, [JSON], _encode(predictions[0] if one else predictions)


def parse(body: bytes) -> tuple[list[Transaction], bool]:
    """The transactions, and whether it was one alone. Raises Rejected."""
    try:
        given = _decode(body)
    except msgspec.ValidationError as error:
        raise Rejected(422, "invalid", *_field_and_reason(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Rejected(422, "not_json", "body", f"not JSON: {error}") from None
    one = isinstance(given, Transaction)
    transactions = [given] if isinstance(given, Transaction) else given
    if not transactions:
        raise Rejected(422, "invalid", "body", "the list is empty; send at least one transaction")
    if len(transactions) > MOST_ROWS:
        raise Rejected(413, "too_large", "body", f"{len(transactions)} transactions, at most {MOST_ROWS} are taken")
    for number, transaction in enumerate(transactions):
        broken = check(transaction)
        if broken:
            raise Rejected(422, "invalid", broken[0] if one else f"[{number}].{broken[0]}", broken[1])
    return transactions, one


def _explain(query: bytes) -> bool:
    if not query:
        return False
    given = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("explain", ["false"])
    if given not in (["true"], ["false"]):
        raise Rejected(422, "invalid", "explain", "?explain is true or false")
    return given == ["true"]


async def _body(scope: Any, receive: Any) -> bytes:
    """All of it, or Rejected as soon as it is too large."""
    too_large = Rejected(413, "too_large", "body", f"the body is larger than {MOST_BYTES} bytes; send fewer at once")
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > MOST_BYTES:
            await _read_on(scope, receive)
            raise too_large
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Rejected(422, "hung_up", "body", "the client hung up before its request was complete")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            if message.get("more_body", False):
                await _read_on(scope, receive)
            raise too_large
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def _read_on(scope: Any, receive: Any) -> None:
    """Drop the rest, within reason: many clients read only when all is sent, and lose the answer if cut off before."""
    size = 0
    more = not any(name == b"expect" for name, _ in scope["headers"])  # who waits for leave has not begun to send
    while more and size < MOST_READ_ON:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)


def _field_and_reason(message: str) -> tuple[str, str]:
    """Of msgspec's message; it names a field that is missing or unknown in its reason, any other as a path."""
    reason, _, path = message.partition(" - at `$")
    steps = [path.rstrip("`").lstrip("."), *NAMED.findall(reason)]
    return ".".join(step for step in steps if step)[:MOST_REASON] or "body", reason[:MOST_REASON]


def _error(field: str, reason: str) -> bytes:
    return _encode({"field": field, "reason": reason})
