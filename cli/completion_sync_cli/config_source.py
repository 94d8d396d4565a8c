"""The stack's configuration in S3: parsed as by the function, and as plain files."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from completion_sync.config import CONTENT_FILE, MAPPING_FILE, Config
from completion_sync.errors import DeferralError

from .errors import CommandError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from completion_sync.clock import Clock
    from completion_sync.mapping import Mapping
    from completion_sync.settings import Settings

    from .aws import Aws

# It is read once, so that all rows of a run are checked with the same version.
_MAX_AGE_SECONDS = 1e9


class StackConfig:
    """The mapping and the content table of a stack, if it has a CONFIG_URI."""

    def __init__(self, aws: Aws, settings: Settings, clock: Clock) -> None:
        self._began = clock.now()
        self._config = (
            None
            if settings.config_uri is None
            else Config(settings.config_uri, lambda: aws.s3, _MAX_AGE_SECONDS, clock, _ignore)
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
            return self._config.mapping(self._began)
        except DeferralError as error:
            raise _unusable(error) from None

    def content_id(self, code: str) -> str:
        """Return the content id of a code.

        :raises UnknownContentError: the table does not have the code.
        :raises CommandError: there is no usable table.
        """
        if self._config is None:
            raise CommandError(
                "A row has a contentCode, but the stack has no content table.", "Deploy it with ConfigUri."
            )
        try:
            return self._config.content_id(code, self._began)
        except DeferralError as error:
            raise _unusable(error) from None


def _unusable(error: DeferralError) -> CommandError:
    return CommandError(f"The stack's configuration cannot be used: {error.detail}.", "completion-sync check")


def _ignore(_text: str) -> None:
    return None


class Store:
    """The prefix that CONFIG_URI names."""

    def __init__(self, s3: S3Client, uri: str) -> None:
        """:param uri: ``s3://bucket/prefix/``."""
        self.uri = uri if uri.endswith("/") else f"{uri}/"
        self._s3 = s3
        self._bucket, _, self._prefix = self.uri.removeprefix("s3://").partition("/")

    def list(self) -> dict[str, str]:
        """Return the ETags of the files that exist, by name."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
        )
        names = {
            item["Key"].removeprefix(self._prefix): item["ETag"] for page in pages for item in page.get("Contents", [])
        }
        return {name: etag for name, etag in names.items() if name in (CONTENT_FILE, MAPPING_FILE)}

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()

    def write(self, name: str, data: bytes, replaces: str | None) -> None:
        """Write a file, replacing the version with the ETag ``replaces``, or None for a new file.

        :raises CommandError: someone else has changed it since.
        """
        kind = "application/json" if name == MAPPING_FILE else "text/csv; charset=utf-8"
        condition = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces}
        try:
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data, ContentType=kind, **condition)  # type: ignore[arg-type] # one of two optional parameters
        except self._s3.exceptions.ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in {409, 412}:
                raise
            raise CommandError(
                f"Someone else has just changed {name}.", "Compare it with yours (config pull), then push again."
            ) from None
