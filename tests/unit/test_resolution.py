"""From references and codes to Thrive's ids: in which order, and what is left alone."""

import pytest

from completion_sync.clock import Instant
from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import DeferralError, InvalidMessageError, UnknownContentError
from completion_sync.resolution import Resolver
from tests.support.fakes import FakeClock, far_deadline

BEGAN = Instant(1.0, 1.0)
TIME = "2021-01-01T09:00:00.000Z"
BY_REF = Unresolved(None, "E-1", "c9", None, TIME)
BY_CODE = Unresolved("u9", None, None, "A", TIME)
BY_BOTH = Unresolved(None, "E-1", None, "A", TIME)


class Known:
    """People and configuration in one: they know one person and one code, and remember what they were asked."""

    def __init__(self, failure=None):
        self.asked = []
        self.failure = failure

    def content_id(self, code, _began):
        self.asked.append(code)
        if self.failure:
            raise self.failure
        return "c1"

    def find(self, ref, _deadline, _began, _check, *, probing):
        self.asked.append(ref)
        return "u1"

    def is_known(self, ref, _began):
        return ref == "E-1"

    def may_have_changed(self, ref, user_id, _began):
        return user_id == "u1"


def resolve(known, unresolved, config):
    return Resolver(known, config).resolve(unresolved, far_deadline(FakeClock()), BEGAN, lambda: None)


@pytest.mark.parametrize(
    ("unresolved", "expected", "asked"),
    [
        (BY_REF, Completion("u1", "c9", TIME), ["E-1"]),
        (BY_CODE, Completion("u9", "c1", TIME), ["A"]),
        (BY_BOTH, Completion("u1", "c1", TIME), ["A", "E-1"]),
    ],
)
def test_only_what_is_not_an_id_is_looked_up(unresolved, expected, asked):
    known = Known()
    assert resolve(known, unresolved, known) == expected
    assert known.asked == asked


@pytest.mark.parametrize("failure", [UnknownContentError("unknown"), DeferralError("misconfigured", "no table")])
def test_nobody_is_looked_up_for_content_that_is_not_available(failure):
    known = Known(failure)
    with pytest.raises(type(failure)):
        resolve(known, BY_BOTH, known)
    assert known.asked == ["A"]


def test_a_code_without_a_configuration_is_an_invalid_message():
    with pytest.raises(InvalidMessageError, match=r"^contentCode: needs a content table, but CONFIG_URI is not set$"):
        resolve(Known(), BY_CODE, None)


def test_only_references_that_are_not_cached_need_a_lookup_and_only_their_ids_may_have_changed():
    resolver = Resolver(Known(), None)
    unknown = Unresolved(None, "E-2", "c9", None, TIME)
    assert [resolver.needs_lookup(each, BEGAN) for each in (BY_REF, unknown, BY_CODE)] == [False, True, False]
    refused = Completion("u1", "c", TIME)
    assert [resolver.may_have_changed(each, refused, BEGAN) for each in (BY_REF, BY_CODE)] == [True, False]
