"""The stack's configuration files in S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from completion_sync import catalogue, mapping

from .errors import CommandError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CONTENT, MAPPING = catalogue.FILE, mapping.FILE
FILES = (CONTENT, MAPPING)


class Store:
    """The prefix that CONFIG_URI names."""

    def __init__(self, s3: S3Client, uri: str) -> None:
        """:param uri: ``s3://bucket/prefix/``."""
        self.uri = uri if uri.endswith("/") else f"{uri}/"
        self._s3 = s3
        self._bucket, _, self._prefix = self.uri.removeprefix("s3://").partition("/")

    def list(self) -> dict[str, str]:
        """Return the ETags of the files that are there, by name."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix, Delimiter="/"
        )
        names = {
            item["Key"].removeprefix(self._prefix): item["ETag"] for page in pages for item in page.get("Contents", [])
        }
        return {name: etag for name, etag in names.items() if name in FILES}

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        return self._s3.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()

    def write(self, name: str, data: bytes, replaces: str | None) -> None:
        """Write a file in place of the version with the ETag ``replaces``; None: where there was none.

        :raises CommandError: someone else has changed it meanwhile.
        """
        kind = "application/json" if name == MAPPING else "text/csv; charset=utf-8"
        condition = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces}
        try:
            self._s3.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=data, ContentType=kind, **condition)  # type: ignore[arg-type] # one of two optional parameters
        except self._s3.exceptions.ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") not in {409, 412}:
                raise
            raise CommandError(
                f"Someone else has just changed {name}.", "Look at it (config pull), then push again."
            ) from None
