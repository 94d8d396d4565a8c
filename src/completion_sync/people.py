"""People: looks up the Thrive user ids behind the references that source systems use.

References are personal data: none is logged or quoted in an error.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .clock import Clock, Deadline, Instant, is_within
from .completion import identifier
from .errors import CallError, InvalidMessageError, OutOfTimeError, RefusedError, TemporaryError, UnknownUserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .pressure import Pressure
    from .retry import RetryPolicy
    from .thrive import ThriveApi

USERS_PATH = "/rest/v1/users/ref/"
# Least recently used entries are dropped beyond this: some 7 MB at references of 36 characters, 48 MB at the longest.
MAX_CACHED = 20_000
# How long it is remembered that a reference is unknown.
UNKNOWN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Person:
    """What a lookup gave: the user id, or None if Thrive does not know the reference."""

    user_id: str | None
    looked_up: Instant


class People:
    """The user ids of references, cached. May be called from any thread."""

    def __init__(
        self,
        api: ThriveApi,
        retry: RetryPolicy,
        pressure: Pressure,
        max_age: float,
        lookups_in_flight: int,
        clock: Clock,
        count: Callable[[str], None],
    ) -> None:
        """Create an empty cache.

        :param max_age: seconds for which a user id is cached.
        :param lookups_in_flight: how many lookups are made side by side.
        :param count: called with ``UserLookups`` for each request.
        """
        self._api = api
        self._retry = retry
        self._pressure = pressure
        self._max_age = max_age
        self._clock = clock
        self._count = count
        self._lock = threading.Lock()
        self._in_flight = threading.Semaphore(lookups_in_flight)
        self._cache: OrderedDict[str, Person] = OrderedDict()
        # The lookups of the invocation that began then, except for those with a result, which is in the cache.
        self._lookups: dict[str, Future[Person]] = {}
        self._began: Instant | None = None

    def clear(self) -> None:
        """Forget everyone."""
        with self._lock:
            self._cache.clear()
            self._lookups = {}

    def is_known(self, ref: str, began: Instant) -> bool:
        """Return whether a reference needs no lookup in the invocation that began then."""
        with self._lock:
            return self._cached(ref, began) is not None

    def find(
        self, ref: str, deadline: Deadline, began: Instant, check: Callable[[], None], *, probing: bool = False
    ) -> str:
        """Return the user id of a reference. It is looked up at most once in an invocation; a failure is shared, too.

        :param began: when the invocation began.
        :param check: called before each request; raises if none is to be sent any more.
        :param probing: the lookup probes an outage: one attempt only.
        :raises UnknownUserError: Thrive does not know it.
        :raises RefusedError: Thrive refuses the lookup.
        :raises CallError: as :meth:`~completion_sync.thrive.ThriveApi.call`; or a pause or an outage holds it back.
        """
        with self._lock:
            person = self._cached(ref, began)
            if person is None:
                if self._began != began:
                    self._began, self._lookups = began, {}
                lookups = self._lookups
                earlier = lookups.get(ref)
                lookup = lookups.setdefault(ref, Future())
        if person is None:
            if earlier is None:
                look_up = partial(self._look_up_with_retries, ref, deadline, check, probing=probing)
                self._fulfil(lookup, lookups, ref, look_up)
            try:
                person = lookup.result(timeout=deadline.remaining())
            except TimeoutError:
                raise OutOfTimeError from None
            except CallError as error:
                raise error.copy() from None
        if person.user_id is None:
            raise UnknownUserError
        return person.user_id

    def may_have_changed(self, ref: str, user_id: str, began: Instant) -> bool:
        """Return whether looking up a reference may give another id than this one, which Thrive has refused.

        It may if the id was looked up before ``began``; then it is forgotten.
        """
        with self._lock:
            person = self._cache.get(ref)
            if person is None or person.user_id != user_id:  # another thread has found the same
                return True
            if person.looked_up.monotonic >= began.monotonic:
                return False
            del self._cache[ref]
            return True

    def _fulfil(
        self, lookup: Future[Person], lookups: dict[str, Future[Person]], ref: str, look_up: Callable[[], Person]
    ) -> None:
        """Set the result of a lookup or its error, which others may be waiting for."""
        try:
            person = look_up()
        except CallError as error:
            lookup.set_exception(error.copy())
        except BaseException as error:
            lookup.set_exception(error)
            raise
        else:
            with self._lock:
                lookups.pop(ref, None)
                self._cache[ref] = person
                self._cache.move_to_end(ref)
                while len(self._cache) > MAX_CACHED:
                    self._cache.popitem(last=False)
            lookup.set_result(person)

    def _look_up_with_retries(
        self, ref: str, deadline: Deadline, check: Callable[[], None], *, probing: bool
    ) -> Person:
        def attempt() -> Person:
            check()
            return self._look_up(ref, deadline)

        if not self._in_flight.acquire(timeout=deadline.remaining()):
            raise OutOfTimeError
        try:
            return self._retry.call(attempt, deadline, self._pressure, ref, probing=probing)
        finally:
            self._in_flight.release()

    def _look_up(self, ref: str, deadline: Deadline) -> Person:
        self._count("UserLookups")
        answer = self._api.call(USERS_PATH + quote(ref, safe=""), deadline)
        now = self._clock.now()
        if answer.status == 404:
            return Person(None, now)
        if answer.status >= 300:
            # Thrive's own words may quote the reference.
            raise RefusedError(f"Thrive answered {answer.status} to the lookup of the person", status=answer.status)
        return Person(_user_id(answer.fields, ref), now)

    def _cached(self, ref: str, began: Instant) -> Person | None:
        person = self._cache.get(ref)
        if person is None:
            return None
        max_age = UNKNOWN_SECONDS if person.user_id is None else self._max_age
        is_of_this_invocation = person.looked_up.monotonic >= began.monotonic
        if not is_of_this_invocation and not is_within(max_age, person.looked_up, self._clock.now()):
            del self._cache[ref]
            return None
        self._cache.move_to_end(ref)
        return person


def _user_id(fields: dict[str, Any], ref: str) -> str:
    """Return the id of the user that was found.

    :raises TemporaryError: it is someone else's, or no id. Better no record than one for the wrong person.
    """
    found = fields.get("ref")
    # Not casefold(), for which "straße" and "strasse" are the same.
    if found is not None and not (isinstance(found, str) and found.lower() == ref.lower()):
        raise TemporaryError("unavailable", "Thrive answered the lookup with another person", status=200)
    try:
        return identifier(fields.get("id"), "id")
    except InvalidMessageError:
        raise TemporaryError("unavailable", "Thrive answered the lookup without a usable id", status=200) from None
