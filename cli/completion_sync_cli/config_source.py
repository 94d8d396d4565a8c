"""The stack's configuration in S3, read as the function reads it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from completion_sync.config import Config
from completion_sync.errors import DeferralError

from .errors import CommandError

if TYPE_CHECKING:
    from completion_sync.clock import Clock
    from completion_sync.mapping import Mapping
    from completion_sync.settings import Settings

    from .aws import Aws

# One reading serves the whole run: every row is judged by the same version.
_MAX_AGE_SECONDS = 1e9


class StackConfig:
    """Mapping and content table of a stack; neither, if it has no CONFIG_URI."""

    def __init__(self, aws: Aws, settings: Settings, clock: Clock) -> None:
        self._began = clock.now()
        self._config = (
            None
            if settings.config_uri is None
            else Config(settings.config_uri, lambda: aws.s3, _MAX_AGE_SECONDS, clock, _ignore, _ignore)
        )

    @property
    def has_table(self) -> bool:
        """Whether codes may be looked up at all."""
        return self._config is not None

    @cached_property
    def mapping(self) -> Mapping | None:
        """The mapping.

        :raises CommandError: it is invalid or cannot be read.
        """
        if self._config is None:
            return None
        try:
            return self._config.mapping()
        except DeferralError as error:
            raise _unusable(error) from None

    def content_id(self, code: str) -> str:
        """Return the content id of a code.

        :raises UnknownContentError: the table does not have it.
        :raises CommandError: there is no usable table.
        """
        if self._config is None:
            raise CommandError("A row has a contentCode, but the stack has no configuration.", "Deploy with ConfigUri.")
        try:
            return self._config.content_id(code, self._began)
        except DeferralError as error:
            raise _unusable(error) from None


def _unusable(error: DeferralError) -> CommandError:
    return CommandError(f"The stack's configuration cannot be used: {error.detail}.", "completion-sync check")


def _ignore(_text: str) -> None:
    return None
