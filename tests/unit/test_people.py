"""References: when they are looked up, what an answer means, and what the cache holds."""

import threading
import tracemalloc
from contextlib import nullcontext
from types import SimpleNamespace
from urllib.parse import quote

import pytest

from completion_sync.errors import (
    AccessError,
    CallError,
    DeferralError,
    ForbiddenError,
    HeldError,
    OutOfTimeError,
    RefusedError,
    TemporaryError,
    UnknownUserError,
)
from completion_sync.people import MAX_CACHED, UNKNOWN_SECONDS, People
from completion_sync.pressure import Pressure
from completion_sync.retry import MAX_ATTEMPTS, RetryPolicy
from tests.support.fakes import PATIENCE_SECONDS, Counts, FakeClock, far_deadline, in_threads, texts_of

MAX_AGE = 3600.0
REF = "ada.lovelace@example.com"
PATH = "/rest/v1/users/ref/ada.lovelace%40example.com"


class Directory:
    """Answers lookups as Thrive's API does: by path, with an id, a status, an error or a function."""

    def __init__(self):
        self.answers = {}
        self.calls = []
        self._lock = threading.Lock()

    def call(self, path, _deadline, body=None):
        assert body is None
        with self._lock:
            self.calls.append(path)
        answer = self.answers.get(path, 404)
        if callable(answer):
            answer = answer()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, int):
            return SimpleNamespace(status=answer, fields={"status": answer, "message": REF})
        return SimpleNamespace(status=200, fields={"id": answer} if isinstance(answer, str) else answer)


def allow():
    """Allow every request."""


class World:
    """People on a directory; each call of ``find`` is an invocation of its own, a second after the last one."""

    def __init__(self, max_age=MAX_AGE, lookups_in_flight=5):
        self.directory = Directory()
        self.clock = FakeClock()
        self.counts = Counts()
        self.pressure = Pressure("lookups", self.clock, self.counts, lambda _line: None)
        retry = RetryPolicy(self.clock)
        self.people = People(
            self.directory,
            retry,
            self.pressure,
            max_age,
            lookups_in_flight,
            self.clock,
            self.counts,
        )

    def begin(self, after=1.0):
        self.clock.advance(after)
        return self.clock.now()

    def find(self, ref=REF, after=1.0, began=None, **options):
        check = options.pop("check", allow)
        return self.people.find(ref, far_deadline(self.clock), began or self.begin(after), check, **options)

    @property
    def lookups(self):
        return len(self.directory.calls)


@pytest.fixture
def world():
    return World()


def test_a_reference_is_looked_up_and_cached_for_its_age(world):
    world.directory.answers[PATH] = "u1"
    assert (world.find(), world.find(after=MAX_AGE - 3)) == ("u1", "u1")
    assert world.directory.calls == [PATH]
    assert world.counts == {"UserLookups": 1}
    world.directory.answers[PATH] = "u2"
    assert world.find(after=3) == "u2"
    world.clock.freeze(MAX_AGE)
    world.find()
    assert world.lookups == 3


@pytest.mark.parametrize(
    ("ref", "path"),
    [("a/b", "a%2Fb"), ("..a", "..a"), ("ü ?#%", "%C3%BC%20%3F%23%25"), ("~-._", "~-._"), ("😀", "%F0%9F%98%80")],
)
def test_a_reference_is_percent_encoded(world, ref, path):
    world.directory.answers[f"/rest/v1/users/ref/{path}"] = "u1"
    assert world.find(ref) == "u1"


@pytest.mark.parametrize("found", ["ADA.Lovelace@Example.com", REF, None, ...])
def test_the_reference_in_the_answer_may_differ_in_case_or_be_absent(world, found):
    world.directory.answers[PATH] = {"id": "u1"} if found is ... else {"id": "u1", "ref": found}
    assert world.find() == "u1"


@pytest.mark.parametrize(
    ("ref", "found"),
    [("1", "2"), ("1", 1), ("1", ""), ("1", " 1"), ("1", ["1"]), ("straße", "STRASSE"), ("1", "\uff11")],
)
def test_an_answer_with_another_reference_is_no_answer(world, ref, found):
    world.directory.answers[f"/rest/v1/users/ref/{'1' if ref == '1' else 'stra%C3%9Fe'}"] = {"id": "u1", "ref": found}
    with pytest.raises(TemporaryError, match="another person") as failed:
        world.find(ref)
    assert (failed.value.reason, failed.value.status) == ("unavailable", 200)


@pytest.mark.parametrize("user_id", [None, "", 5, "a\nb", "x" * 257, ["u1"]])
def test_an_answer_without_a_usable_id_is_no_answer(world, user_id):
    world.directory.answers[PATH] = {"id": user_id, "ref": REF}
    with pytest.raises(TemporaryError, match="without a usable id") as failed:
        world.find()
    assert (failed.value.reason, failed.value.status) == ("unavailable", 200)


@pytest.mark.parametrize("status", [400, 405, 409, 410, 418, 422])
def test_a_refusal_is_passed_on_without_thrives_words(world, status):
    world.directory.answers[PATH] = status
    with pytest.raises(RefusedError) as refused:
        world.find()
    assert (refused.value.status, refused.value.detail) == (
        status,
        f"Thrive answered {status} to the lookup of the person",
    )


def test_an_unknown_person_is_remembered_for_a_minute(world):
    for _ in range(2):
        with pytest.raises(UnknownUserError) as unknown:
            world.find(after=UNKNOWN_SECONDS / 2 - 1)
        assert unknown.value.status == 404
    assert world.lookups == 1
    world.directory.answers[PATH] = "u1"
    assert world.find(after=UNKNOWN_SECONDS) == "u1"


# ---- once in an invocation


@pytest.mark.parametrize("max_age", [0, MAX_AGE])
@pytest.mark.parametrize("answer", ["u1", 404, 422])
def test_an_answer_serves_the_whole_invocation(max_age, answer):
    world = World(max_age)
    world.directory.answers[PATH] = answer
    began = world.begin()
    expected = {"u1": nullcontext(), 404: pytest.raises(UnknownUserError), 422: pytest.raises(RefusedError)}[answer]
    for _ in range(3):
        with expected:
            assert world.find(began=began) == "u1"
        world.clock.advance(UNKNOWN_SECONDS + 1)
    assert world.lookups == 1


def test_without_a_cache_each_invocation_looks_up():
    world = World(0)
    world.directory.answers[PATH] = "u1"
    assert (world.find(), world.find()) == ("u1", "u1")
    assert world.lookups == 2


FAILURES = [
    TemporaryError("unavailable", "Thrive answered 503", status=503),
    TemporaryError("rate_limited", "Thrive answered 429", status=429, retry_after=60),
    AccessError("unauthorized", "no token", status=400),
    ForbiddenError("Thrive answered 403"),
    OutOfTimeError(),
]


@pytest.mark.parametrize("failure", FAILURES, ids=lambda error: error.detail)
def test_a_failure_is_shared_by_the_invocation_and_tried_again_by_the_next(world, failure):
    world.directory.answers[PATH] = failure
    began = world.begin()
    raised = []
    for _ in range(3):
        with pytest.raises(type(failure)) as failed:
            world.find(began=began)
        raised.append(failed.value)
    assert world.lookups == (MAX_ATTEMPTS if failure.detail.endswith("503") else 1)
    assert [(error.detail, error.status) for error in raised] == [(failure.detail, failure.status)] * 3
    assert len(set(map(id, raised))) == 3
    world.directory.answers[PATH] = "u1"
    assert world.find(after=61) == "u1"


def test_threads_that_need_a_person_at_once_share_one_lookup_and_its_failure(world):
    began = world.begin()
    started = threading.Barrier(2)

    def slowly():
        started.wait(PATIENCE_SECONDS)
        return 422

    world.directory.answers[PATH] = slowly

    def find(thread):
        if thread == 7:
            started.wait(PATIENCE_SECONDS)
        return world.find(began=began)

    results = in_threads(8, find)
    assert [type(result) for result in results] == [RefusedError] * 8
    assert world.lookups == 1


def test_a_defect_is_raised_in_every_thread_that_waits(world):
    world.directory.answers[PATH] = ZeroDivisionError()
    began = world.begin()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            world.find(began=began)
    assert world.lookups == 1


def test_who_waits_for_a_lookup_beyond_the_deadline_is_out_of_time(world):
    looking, go_on = threading.Event(), threading.Event()

    def hang():
        looking.set()
        go_on.wait(PATIENCE_SECONDS)
        return "u1"

    world.directory.answers[PATH] = hang
    began = world.begin()

    def find(thread):
        if thread == 0:
            return world.find(began=began)
        assert looking.wait(PATIENCE_SECONDS)
        try:
            return world.people.find(REF, SimpleNamespace(remaining=lambda: 0.01), began, allow)
        finally:
            go_on.set()

    first, second = in_threads(2, find)
    assert first == "u1"
    assert isinstance(second, OutOfTimeError)


def test_only_so_many_lookups_are_made_side_by_side():
    world = World(lookups_in_flight=2)
    began = world.begin()
    in_flight = []
    most, lock = [0], threading.Lock()
    both = threading.Barrier(2)

    def look_up():
        with lock:
            in_flight.append(1)
            most[0] = max(most[0], len(in_flight))
        both.wait(PATIENCE_SECONDS)
        with lock:
            in_flight.pop()
        return "u1"

    world.directory.answers = {f"/rest/v1/users/ref/{number}": look_up for number in range(8)}
    assert in_threads(8, lambda number: world.find(str(number), began=began)) == ["u1"] * 8
    assert most == [2]


def test_no_lookup_begins_beyond_the_deadline():
    world = World(lookups_in_flight=0)
    with pytest.raises(OutOfTimeError):
        world.people.find(REF, SimpleNamespace(remaining=lambda: 0.01), world.begin(), allow)
    assert world.lookups == 0


def test_each_request_is_checked_right_before_it_is_sent(world):
    checks = iter([None, None, AccessError("unauthorized", "halted")])

    def check():
        if error := next(checks):
            raise error

    world.directory.answers[PATH] = TemporaryError("unavailable", "gone")
    with pytest.raises(AccessError, match="halted"):
        world.find(check=check)
    assert world.lookups == 2


def test_an_outage_holds_lookups_but_not_what_is_cached(world):
    world.directory.answers[PATH] = "u1"
    world.find()
    for ref in "abc":
        world.directory.answers[f"/rest/v1/users/ref/{ref}"] = TemporaryError("unavailable", "gone")
        with pytest.raises(TemporaryError):
            world.find(ref)
    assert world.pressure.is_out
    lookups = world.lookups
    with pytest.raises(HeldError):
        world.find("d")
    assert world.find() == "u1"
    assert world.lookups == lookups
    with pytest.raises(DeferralError):
        world.find("a", probing=True)
    assert world.lookups == lookups + 1


# ---- a user id that Thrive refuses


def test_an_id_from_an_earlier_invocation_may_have_changed_and_one_from_this_may_not(world):
    world.directory.answers[PATH] = "old"
    world.find()
    world.directory.answers[PATH] = "new"
    began = world.begin()
    assert world.find(began=began) == "old"
    assert world.people.may_have_changed(REF, "old", began)
    assert world.find(began=began) == "new"
    # Another thread that was refused with the old id takes the new one; the new one is not looked up again.
    assert world.people.may_have_changed(REF, "old", began)
    assert world.find(began=began) == "new"
    assert not world.people.may_have_changed(REF, "new", began)
    assert world.lookups == 2


# ---- memory and discretion


def test_the_cache_is_bounded_and_drops_those_that_were_not_needed_for_the_longest_time(world):
    began = world.begin()
    world.directory.call = lambda path, _deadline, _body=None: SimpleNamespace(
        status=200, fields={"id": f"u{path[20:]}"}
    )
    world.find("first", began=began)
    world.find("second", began=began)
    for number in range(MAX_CACHED - 1):
        assert world.find("second", began=began)
        world.find(str(number), began=began)
    assert len(world.people._cache) == MAX_CACHED
    assert not world.people.is_known("first", began)
    assert world.people.is_known("second", began)
    world.people.clear()
    assert not world.people.is_known("second", began)


@pytest.mark.parametrize(
    ("ref", "user_id", "limit"),
    [("a" * 30, "f" * 24, 8_000_000), ("\U0001f600" * 250, "\U0001f600" * 255, 48_000_000)],
    ids=["usual", "longest"],
)
def test_a_full_cache_takes_little_memory(world, ref, user_id, limit):
    began = world.begin()
    share = MAX_CACHED // 20
    tracemalloc.start()
    for number in range(share):
        world.directory.answers = {f"/rest/v1/users/ref/{quote(f'{ref}{number:06}')}": user_id + str(number % 10)}
        world.find(f"{ref}{number:06}", began=began)
        world.directory.calls.clear()
    world.directory.answers = {}
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used * MAX_CACHED / share < limit


def test_no_reference_is_in_an_error_or_a_repr(world):
    for answer in (404, 422, {"id": None}, {"id": "u", "ref": "x"}, TemporaryError("unavailable", "gone")):
        world.directory.answers[PATH] = answer
        with pytest.raises(CallError) as failed:
            world.find(after=UNKNOWN_SECONDS)
        assert "ada" not in texts_of(failed.value)
    assert "ada" not in repr(world.people)
