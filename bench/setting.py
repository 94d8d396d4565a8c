"""What every measure works with."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import events
from bench.function import running

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from bench.contenders import Contender, Field
    from bench.function import Function
    from bench.plan import Plan
    from bench.services import Services


@dataclass(frozen=True, slots=True)
class Setting:
    """The plan, who takes part, what they call, and where logs go."""

    plan: Plan
    field: Field
    services: Services
    folder: Path

    @contextmanager
    def warm(self, contenders: Iterable[Contender], measure: str) -> Iterator[dict[str, Function]]:
        """Run these, each having served two batches, for as long as the block lasts."""
        self.services.set_latency(0)
        with ExitStack() as stack:
            functions = {
                contender.name: stack.enter_context(
                    running(contender, self.services, self.folder, name=f"{measure}-{contender.name}")
                )
                for contender in contenders
            }
            for function in functions.values():
                function.invoke(events.batch(1))
                function.invoke(events.batch(20))
            yield functions


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Return the names in an order that differs from turn to turn, so that none always goes first."""
    shift = turn % len(names)
    return [*names[shift:], *names[:shift]]
