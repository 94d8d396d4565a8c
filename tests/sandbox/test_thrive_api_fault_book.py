"""Which faults are accepted, and which requests they hit."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from sandbox.thrive_api.fault_book import FaultBook
from sandbox.thrive_api.fault_json import fault_from_json, fault_to_json
from sandbox.thrive_api.faults import _ALLOWED, BadFaultError, Drip, Fault


class Clock:
    """A clock that is moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def hits(book: FaultBook, number: int, route: str = "completion") -> list[bool]:
    """Tell for each of some equal requests whether it was hit."""
    return [book.take(route, {"userId": "u", "contentId": "c"}) is not None for _ in range(number)]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(), [True, False, False, False]),
        (Fault(times=2), [True, True, False, False]),
        (Fault(times=None), [True, True, True, True]),
        (Fault(skip=1), [False, True, False, False]),
        (Fault(skip=2, times=None), [False, False, True, True]),
        (Fault(probability=0, times=None), [False] * 4),
        (Fault(route="completion"), [True, False, False, False]),
        (Fault(route="token"), [False] * 4),
        (Fault(route="connection", ending="reset"), [False] * 4),
        (Fault(user_id="u"), [True, False, False, False]),
        (Fault(user_id="u", content_id="other"), [False] * 4),
        (Fault(user_id="U"), [False] * 4),
    ],
)
def test_faults_hit_by_route_ids_and_count(fault: Fault, expected: list[bool]) -> None:
    """A fault must hit the requests that it describes, and as many as it says."""
    book = FaultBook()
    fault_id = book.add(fault)

    assert hits(book, 4) == expected
    assert book.hits(fault_id) == sum(expected)


def test_faults_without_a_route_leave_connections_alone() -> None:
    """A fault for any request must not hit the moment of accepting a connection."""
    book = FaultBook()
    book.add(Fault(times=None))

    assert hits(book, 1, "connection") == [False]
    assert hits(book, 1, "other") == [True]


def test_the_oldest_fault_goes_first() -> None:
    """Of two faults that fit, the one added first must be used up first."""
    book = FaultBook()
    first, second = book.add(Fault(times=2)), book.add(Fault())

    taken = [book.take("user") for _ in range(4)]

    assert [hit and hit[0] for hit in taken] == [first, first, second, None]


def test_faults_keep_to_their_window() -> None:
    """A fault must hit from `starts_in` on and no more after `lasts`, to the moment."""
    clock = Clock()
    book = FaultBook(clock=clock)
    book.add(Fault(starts_in=10, lasts=5, times=None))

    seen = []
    for clock.now in (1000.0, 1009.999, 1010.0, 1014.999, 1015.0):
        seen += hits(book, 1)

    assert seen == [False, False, True, True, False]
    assert book.in_force() == {}


def test_chance_can_be_replayed() -> None:
    """The same seed must give the same hits, near the probability; another seed must give others."""

    def draw(seed: int) -> list[bool]:
        book = FaultBook(seed=seed)
        book.add(Fault(probability=0.3, times=None))
        return hits(book, 1000)

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    assert 200 < sum(draw(1)) < 400


def test_faults_can_be_ended() -> None:
    """A fault that was removed must hit no more; removing it again must say that there is none."""
    book = FaultBook()
    fault_id, other = book.add(Fault(times=None)), book.add(Fault(route="token"))

    assert book.remove(fault_id)
    assert not book.remove(fault_id)
    assert list(book.in_force()) == [other]
    book.clear()
    assert hits(book, 1, "token") == [False]


def test_every_field_is_checked() -> None:
    """Each field of a fault must have its check."""
    assert set(_ALLOWED) == {field.name for field in fields(Fault)}


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "route": ["tokens", 1, []],
        "userId": [1, {}],
        "contentId": [1],
        "times": [0, -1, True, 1.5, "1"],
        "skip": [-1, None, False],
        "startsIn": [-1, None, "1", float("nan")],
        "lasts": [-0.1, float("inf")],
        "probability": [-0.1, 1.1, True],
        "commit": [0, "yes"],
        "revokeToken": [1, None],
        "delay": [-1, float("nan"), float("inf")],
        "status": [99, 600, "500", True, 500.0],
        "headers": [[], None, {"X": None}, {"X": 1}, {"": "x"}, {"X": "a\r\nb"}, {"X\n": "a"}],
        "body": [1, {}],
        "spoil": ["bad", 1, []],
        "patch": [None, []],
        "drop": ["statementId", None, [1]],
        "ending": ["explode", None],
        "drip": [{}, {"part": "all"}, {"part": "body", "size": 0}, {"part": "body", "interval": -1}, {"part": []}, 3],
    }.items(),
)
def test_bad_values_name_the_field_and_what_is_allowed(name: str, values: list[Any]) -> None:
    """A value that is not allowed must be refused with the field's name as written and a word on what is."""
    for value in values:
        with pytest.raises(BadFaultError) as refused:
            fault_from_json({name: value})
        assert refused.value.field == name
        assert refused.value.allowed


@pytest.mark.parametrize(
    ("description", "field"),
    [
        (None, "fault"),
        ("fault", "fault"),
        ({"statuses": 500}, "statuses"),
        ({"user_id": "u"}, "user_id"),
        ({"body": "x", "spoil": "html"}, "spoil"),
        ({"commit": False}, "commit"),
        ({"commit": False, "ending": "truncate"}, "commit"),
        ({"route": "connection"}, "ending"),
        ({"route": "connection", "ending": "reset", "times": None}, "times"),
        ({"route": "token", "userId": "u"}, "route"),
    ],
)
def test_descriptions_that_make_no_sense_are_refused(description: Any, field: str) -> None:
    """Unknown fields, and fields that do not go together, must be refused by name."""
    with pytest.raises(BadFaultError) as refused:
        fault_from_json(description)

    assert refused.value.field == field


@pytest.mark.parametrize(
    "fault",
    [
        Fault(),
        Fault(route="completion", status=503, headers={"Retry-After": "2"}, times=None, probability=0.5),
        Fault(route="connection", ending="reset", times=None, lasts=5.0),
        Fault(drop=("a", "b"), patch={"c": [1]}, revoke_token=True, starts_in=1.5),
        Fault(drip=Drip(part="body", size=2, interval=0.5), body="text", commit=True, ending="truncate"),
    ],
)
def test_faults_survive_the_way_through_json(fault: Fault) -> None:
    """A fault that is described and read back must be the same fault."""
    assert fault_from_json(fault_to_json(fault)) == fault
