"""From references and codes to Thrive's ids: in which order, and what is left alone."""

import pytest

from completion_sync.clock import Instant
from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import DeferralError, InvalidMessageError, UnknownContentError, UnknownUserError
from completion_sync.resolution import Resolver
from tests.support.fakes import FakeClock, far_deadline

BEGAN = Instant(1.0, 1.0)
TIME = "2021-01-01T09:00:00.000Z"


def allow():
    """Allow every request."""


class Known:
    """People and configuration in one: knows one person and one code, and remembers what it was asked."""

    def __init__(self, failure=None):
        self.asked = []
        self.failure = failure

    def content_id(self, code, began):
        self.asked.append((code, began))
        if self.failure:
            raise self.failure
        return "c1"

    def find(self, ref, _deadline, began, check, *, probing):
        assert check is allow
        self.asked.append((ref, began, probing))
        if ref == "nobody":
            raise UnknownUserError
        return "u1"

    def is_known(self, ref, _began):
        return ref == "E-1"

    def may_have_changed(self, ref, user_id, began):
        self.asked.append((ref, user_id, began))
        return True


def resolve(known, unresolved, **options):
    resolver = Resolver(known, options.pop("config", known))
    return resolver.resolve(unresolved, far_deadline(FakeClock()), BEGAN, allow, **options)


@pytest.mark.parametrize(
    ("unresolved", "expected", "asked"),
    [
        (Unresolved(None, "E-1", "c9", None, TIME), Completion("u1", "c9", TIME), [("E-1", BEGAN, False)]),
        (Unresolved("u9", None, None, "A", TIME), Completion("u9", "c1", TIME), [("A", BEGAN)]),
        (Unresolved(None, "E-1", None, "A", TIME), Completion("u1", "c1", TIME), [("A", BEGAN), ("E-1", BEGAN, False)]),
    ],
)
def test_only_what_is_not_an_id_is_looked_up(unresolved, expected, asked):
    known = Known()
    assert resolve(known, unresolved) == expected
    assert known.asked == asked


def test_a_probe_is_passed_on():
    known = Known()
    resolve(known, Unresolved(None, "E-1", "c9", None, TIME), probing=True)
    assert known.asked == [("E-1", BEGAN, True)]


@pytest.mark.parametrize("failure", [UnknownContentError("unknown"), DeferralError("misconfigured", "no table")])
def test_nobody_is_looked_up_for_content_that_is_not_to_be_had(failure):
    known = Known(failure)
    with pytest.raises(type(failure)):
        resolve(known, Unresolved(None, "nobody", None, "A", TIME))
    assert known.asked == [("A", BEGAN)]


def test_a_code_without_a_configuration_is_an_invalid_message():
    with pytest.raises(InvalidMessageError, match=r"^contentCode: needs a content table, but CONFIG_URI is not set$"):
        resolve(Known(), Unresolved("u9", None, None, "A", TIME), config=None)


def test_a_lookup_is_needed_for_references_that_are_not_cached():
    resolver = Resolver(Known(), None)
    needs = [
        resolver.needs_lookup(Unresolved(user_id, ref, "c", None, TIME), BEGAN)
        for user_id, ref in ((None, "E-1"), (None, "E-2"), ("u", None))
    ]
    assert needs == [False, True, False]


def test_only_an_id_from_a_reference_may_have_changed():
    known = Known()
    resolver = Resolver(known, None)
    refused = Completion("u1", "c", TIME)
    assert resolver.may_have_changed(Unresolved(None, "E-1", "c", None, TIME), refused, BEGAN)
    assert known.asked == [("E-1", "u1", BEGAN)]
    assert not resolver.may_have_changed(Unresolved("u1", None, None, "A", TIME), refused, BEGAN)
