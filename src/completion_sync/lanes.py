"""Lanes: messages of a batch that go one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .completion import Completion, Unresolved

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from .events import Message


@dataclass(frozen=True, slots=True)
class Lane:
    """A FIFO group, or messages with identical completions.

    ``key`` is what they have in common; ``items`` are indices of messages with what they hold.
    """

    key: Hashable
    items: list[tuple[int, Completion | Unresolved]]
    is_group: bool
    receive_count: int

    @property
    def head(self) -> Completion | Unresolved:
        """What the first message holds."""
        return self.items[0][1]


def lanes_of(messages: Sequence[Message]) -> list[Lane]:
    """Divide a batch into lanes. A message without a completion needs no call, and does not hold its group."""
    lanes: dict[Hashable, Lane] = {}
    for index, message in enumerate(messages):
        content = message.content
        if isinstance(content, (Completion, Unresolved)):
            key: Hashable = content if message.group is None else (message.queue_arn, message.group)
            lane = lanes.setdefault(key, Lane(key, [], message.group is not None, message.receive_count))
            lane.items.append((index, content))
    return list(lanes.values())
