"""What of two databases counts as a difference."""

import pytest

from include.backup.contents import differences, notes, told
from include.backup.manifest import TableContent


def content(name="orders", rows=3, digest="17", kind="table", schema="public"):
    return TableContent(schema_name=schema, name=name, kind=kind, rows=rows, digest=digest)


def sequence(digest):
    return content("orders_id_seq", 1, digest, "sequence")


def test_equal_contents_have_none():
    same = [content(), sequence("7,called"), content("large objects", kind="large objects", schema="")]
    assert differences(same, list(reversed(same))) == []


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([], "table public.orders is missing"),
        ([content(), content("other")], "table public.other is there and was not expected"),
        ([content(rows=2)], "table public.orders: 2 rows, expected are 3"),
        ([content(digest="18")], "table public.orders: 3 rows as expected, but not the same"),
        ([content(schema="Public")], "table public.orders is missing"),
    ],
)
def test_each_difference_is_told(found, said):
    assert said in differences([content()], found)


def test_large_objects_have_no_name():
    objects = content("large objects", 2, "5", "large objects", "")
    assert differences([objects], [objects.model_copy(update={"rows": 1})]) == [
        "the large objects: 1 rows, expected are 2"
    ]


@pytest.mark.parametrize(
    ("span", "found", "same"),
    [
        ("7,called", "7,called", True),
        ("7,called", "8,called", False),
        ("1,new", "1,called", False),
        ("1,new..4,called", "1,new", True),
        ("1,new..4,called", "1,called", True),
        ("1,new..4,called", "3,called", True),
        ("1,new..4,called", "4,called", True),
        ("1,new..4,called", "5,called", False),
        ("1,new..4,called", "0,called", False),
        ("-1,called..-9,called", "-4,called", True),
        ("-1,called..-9,called", "-10,called", False),
        ("cycles", "2,called", True),
        ("1,new..1,called", "1,called", True),
        ("1,new..1,called", "2,called", False),
    ],
)
def test_a_sequence_may_be_anywhere_between_what_was_seen_before_and_after_the_dump(span, found, same):
    assert (differences([sequence(span)], [sequence(found)]) == []) is same


def test_rows_of_a_materialised_view_are_only_noted():
    view, other = (content("totals", rows, "", "materialised view") for rows in (3, 5))
    assert differences([view], [other]) == []
    assert differences([view], []) == ["materialised view public.totals is missing"]
    assert notes([view], [other]) == [
        "materialised view public.totals: 5 rows after its refresh, 3 when it was backed up"
    ]
    assert notes([view], [view]) == []


def test_many_differences_are_told_by_the_first_ones():
    lines = [f"line {n}" for n in range(50)]
    assert told(lines).startswith("line 0; line 1; ")
    assert told(lines).endswith("; and 30 more")
    assert told(lines[:20]).endswith("line 19")
