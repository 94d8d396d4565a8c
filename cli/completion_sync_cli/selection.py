"""Selects letters, with the options that do so."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

import click

from .formats import moment

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from .letters import Letter, Reader

F = TypeVar("F", bound="Callable[..., Any]")

# The reason that selects letters without one: those that SQS moved after too many receives.
NO_REASON = "none"


@dataclass(frozen=True, slots=True)
class Selection:
    """Selects the letters that meet every given criterion."""

    reason: tuple[str, ...] = ()
    status: tuple[int, ...] = ()
    detail: str | None = None
    user_id: str | None = None
    content_id: str | None = None
    message_id: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_everything(self) -> bool:
        """Whether no criterion is given."""
        return not any(getattr(self, field.name) for field in fields(self))

    def matches(self, letter: Letter, reader: Reader) -> bool:
        """Return whether a letter meets all criteria."""
        if self.reason and (letter.reason or NO_REASON) not in self.reason:
            return False
        if self.status and letter.status not in self.status:
            return False
        if self.detail is not None and self.detail.casefold() not in (letter.detail or "").casefold():
            return False
        if self.message_id and not {letter.id, letter.source_id} & set(self.message_id):
            return False
        if (self.since and letter.sent < self.since) or (self.until and letter.sent >= self.until):
            return False
        return self._matches_fields(letter, reader)

    def _matches_fields(self, letter: Letter, reader: Reader) -> bool:
        if self.user_id is None and self.content_id is None:
            return True
        found = reader.fields(letter)
        return (self.user_id is None or found.get("userId") == self.user_id) and (
            self.content_id is None or self.content_id in {found.get("contentId"), found.get("contentCode")}
        )


class Moment(click.ParamType["datetime"]):
    """A time on the command line."""

    name = "time"

    def convert(self, value: Any, parameter: click.Parameter | None, context: click.Context | None) -> datetime:
        """Parse it, relative to now."""
        try:
            return moment(value, context.find_root().obj.now if context else value)
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2h, 3d or 2026-01-31T09:00Z", parameter, context)


def undelivered_option(function: F) -> F:
    """Add --undelivered."""
    return click.option("--undelivered", is_flag=True, help="Use the queue of undelivered events instead.")(function)


def selectors(function: F) -> F:
    """Add --undelivered and the options that select letters, which are the arguments of :class:`Selection`."""
    for option in (
        undelivered_option,
        click.option("--until", type=Moment(), metavar="TIME", help="Only those sent before this time."),
        click.option(
            "--since", type=Moment(), metavar="TIME", help="Only those sent since then: 2h, 3d or an ISO 8601 time."
        ),
        click.option(
            "--message-id", multiple=True, metavar="ID", help="Only the one with this id, here or on the source queue."
        ),
        click.option("--content-id", metavar="ID", help="Only those for this content id or code."),
        click.option("--user-id", metavar="ID", help="Only those for this Thrive user id."),
        click.option("--detail", metavar="TEXT", help="Only those whose detail contains this text."),
        click.option("--status", multiple=True, type=int, metavar="CODE", help="Only those with this HTTP status."),
        click.option(
            "--reason",
            multiple=True,
            metavar="NAME",
            help=f"Only those with this reason; {NO_REASON}: those that SQS moved after too many receives.",
        ),
    ):
        function = option(function)
    return function
