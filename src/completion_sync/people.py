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
from .errors import InvalidMessageError, OutOfTimeError, RefusedError, TemporaryError, UnknownUserError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .pressure import Pressure
    from .retry import RetryPolicy
    from .thrive import ThriveApi

USERS_PATH = "/rest/v1/users/ref/"
# Least recently used entries are dropped beyond this: some 5 MB at references of 36 characters.
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
        self._pending: dict[str, Future[Person]] = {}

    def clear(self) -> None:
        """Forget everyone."""
        with self._lock:
            self._cache.clear()

    def is_known(self, ref: str, began: Instant) -> bool:
        """Return whether a reference needs no lookup in the invocation that began then."""
        with self._lock:
            return self._cached(ref, began) is not None

    def find(self, ref: str, deadline: Deadline, began: Instant, *, probing: bool = False) -> str:
        """Return the user id of a reference. It is looked up at most once in an invocation, whatever the cache's age.

        :param began: when the invocation began.
        :param probing: the lookup probes an outage: one attempt only.
        :raises UnknownUserError: Thrive does not know it.
        :raises RefusedError: Thrive refuses the lookup.
        :raises CallError: as :meth:`~completion_sync.thrive.ThriveApi.call`; or a pause or an outage holds it back.
        """
        pending: Future[Person] | None = None
        with self._lock:
            person = self._cached(ref, began)
            if person is None:
                pending = self._pending.get(ref)
                if pending is None:
                    own = self._pending[ref] = Future()
        if person is None:
            if pending is None:
                person = self._share(ref, own, deadline, probing=probing)
            else:
                try:
                    person = pending.result(timeout=deadline.remaining())
                except TimeoutError:
                    raise OutOfTimeError from None
        if person.user_id is None:
            raise UnknownUserError
        return person.user_id

    def forget(self, ref: str, began: Instant) -> bool:
        """Forget what was looked up before ``began``; return whether there was anything.

        For a user id that Thrive has refused: the person may have another one by now.
        """
        with self._lock:
            person = self._cache.get(ref)
            if person is None or person.looked_up.monotonic >= began.monotonic:
                return False
            del self._cache[ref]
            return True

    def _share(self, ref: str, own: Future[Person], deadline: Deadline, *, probing: bool) -> Person:
        """Look a reference up, and pass the result or the error on to those who wait for it."""
        try:
            person = self._look_up_with_retries(ref, deadline, probing=probing)
        except BaseException as error:
            with self._lock:
                del self._pending[ref]
            own.set_exception(error)
            raise
        with self._lock:
            del self._pending[ref]
            self._cache[ref] = person
            self._cache.move_to_end(ref)
            while len(self._cache) > MAX_CACHED:
                self._cache.popitem(last=False)
        own.set_result(person)
        return person

    def _look_up_with_retries(self, ref: str, deadline: Deadline, *, probing: bool) -> Person:
        if not self._in_flight.acquire(timeout=deadline.remaining()):
            raise OutOfTimeError
        try:
            look_up = partial(self._look_up, ref, deadline)
            return self._retry.call(look_up, deadline, self._pressure, ref, probing=probing)
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
    if found is not None and not (isinstance(found, str) and found.casefold() == ref.casefold()):
        raise TemporaryError("unavailable", "Thrive answered the lookup with another person", status=200)
    try:
        return identifier(fields.get("id"), "id")
    except InvalidMessageError:
        raise TemporaryError("unavailable", "Thrive answered the lookup without a usable id", status=200) from None
