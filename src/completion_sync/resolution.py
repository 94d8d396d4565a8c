"""From the names that a source system uses to Thrive's own ids: references by lookup, codes by the content table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import InvalidMessageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .clock import Deadline, Instant
    from .completion import Completion, Unresolved
    from .config import Config
    from .people import People


class Resolver:
    """Resolves completions."""

    def __init__(self, people: People, config: Config | None) -> None:
        self._people = people
        self._config = config

    def resolve(
        self,
        unresolved: Unresolved,
        deadline: Deadline,
        began: Instant,
        check: Callable[[], None],
        *,
        probing: bool = False,
    ) -> Completion:
        """Return the completion in Thrive's ids.

        :param began: when the invocation began.
        :param check: called before each request; raises if none is to be sent any more.
        :param probing: a lookup probes an outage: one attempt only.
        :raises InvalidMessageError: a code, and no ``CONFIG_URI``.
        :raises UnknownContentError: the content table does not have the code.
        :raises UnknownUserError: Thrive does not know the reference.
        :raises CallError: the content table or Thrive's answer is not available.
        """
        content_id = unresolved.content_id
        if unresolved.content_code is not None:
            if self._config is None:
                raise InvalidMessageError("contentCode: needs a content table, but CONFIG_URI is not set")
            content_id = self._config.content_id(unresolved.content_code, began)
        user_id = unresolved.user_id
        if unresolved.user_ref is not None:
            user_id = self._people.find(unresolved.user_ref, deadline, began, check, probing=probing)
        return unresolved.resolve(user_id or "", content_id or "")

    def needs_lookup(self, unresolved: Unresolved, began: Instant) -> bool:
        """Return whether the person has to be looked up."""
        return unresolved.user_ref is not None and not self._people.is_known(unresolved.user_ref, began)

    def may_have_changed(self, unresolved: Unresolved, refused: Completion, began: Instant) -> bool:
        """Return whether the person may have another user id than that of the refused completion, from the cache."""
        ref = unresolved.user_ref
        return ref is not None and self._people.may_have_changed(ref, refused.user_id, began)
