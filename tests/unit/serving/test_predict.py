"""Which field an answer names; `tests/integration/serving/test_bodies.py` has the bodies themselves."""

import pytest

from include.serving.predict import Rejected, parse

GOOD = b'{"transaction_id":1,"tx_datetime":"2018-08-08T00:00:01Z","customer_id":2,"terminal_id":3,"tx_amount":12.5}'


def test_one_and_many():
    (alone,), one = parse(GOOD)
    (first, second), none = parse(b"[%s, %s]" % (GOOD, GOOD))
    assert (one, none) == (True, False)
    assert alone == first == second
    assert alone.tx_datetime.isoformat() == "2018-08-08T00:00:01+00:00"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"3", "body"),
        (GOOD.replace(b'"tx_amount"', b'"amount"'), "amount"),
        (GOOD.replace(b'"customer_id":2', b'"customer_id":"2"'), "customer_id"),
        (b"[%s, {}]" % GOOD, "[1].transaction_id"),
        (b"[%s, [%s]]" % (GOOD, GOOD), "[1]"),
        (b"[%s, %s]" % (GOOD, GOOD.replace(b"12.5", b"12.345")), "[1].tx_amount"),
        (b"[%s, %s]" % (GOOD, GOOD[:-1] + b',"x":[{}]}'), "[1].x"),
        (GOOD[:-1] + b',"a - at `$b":1}', "b"),
    ],
)
def test_the_field_is_named(body, field):
    with pytest.raises(Rejected) as rejected:
        parse(body)
    assert (rejected.value.status, rejected.value.field) == (422, field)
