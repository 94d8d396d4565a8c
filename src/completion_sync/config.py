"""Configuration in S3: the mapping and the content table, by ETag, with the last good copy of each.

A new version that is unreadable or invalid never replaces a good one, and neither does a file that vanishes. Imported
only where ``CONFIG_URI`` is set.
"""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import botocore.exceptions
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from .clock import Clock, Instant, elapsed, is_within
from .errors import ConfigError, DeferralError, DeferralReason, UnknownContentError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from .mapping import Mapping

# One byte more than this is read, to see whether there is more; the parsers refuse it.
MAX_BYTES = 10_000_000

MAPPING_FILE, CONTENT_FILE = "mapping.json", "content.csv"
# After a failed listing, a good copy is used for this long before the next try; without one, a failure is shared.
RETRY_SECONDS = 30.0
SHARED_FAILURE_SECONDS = 1.0

_MAX_PAGES = 10
_SERVER_ERROR = 500
_THROTTLED = frozenset({"SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "RequestLimitExceeded"})


@dataclass(frozen=True, slots=True)
class _Problem:
    """Why something could not be read. Kept instead of the error, which holds frames."""

    reason: DeferralReason
    detail: str
    since: Instant

    def error(self) -> DeferralError:
        return DeferralError(self.reason, self.detail)


@dataclass
class _File:
    """One configuration file: the module and function that parse it, and what is known of it."""

    name: str
    module: str
    function: str
    # Its last good version, and the ETag of the version that was parsed last, whether good or not.
    value: Any = None
    etag: str | None = None
    problem: _Problem | None = None


class Config:
    """The configuration of one execution environment. May be called from any thread."""

    def __init__(
        self,
        uri: str,
        client: Callable[[], S3Client],
        max_age: float,
        clock: Clock,
        count: Callable[[str], None],
        notice: Callable[[str], None],
    ) -> None:
        """Read nothing yet.

        :param uri: ``s3://bucket/prefix/``.
        :param max_age: seconds after which the prefix is listed again.
        :param count: called with ``ConfigErrors``.
        :param notice: called with a line for the log that says what is wrong and where.
        """
        self._bucket, _, self._prefix = uri.removeprefix("s3://").partition("/")
        self._client = client
        self._max_age = max_age
        self._clock = clock
        self._count = count
        self._notice = notice
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._mapping = _File(MAPPING_FILE, "mapping", "parse_mapping")
        self._content = _File(CONTENT_FILE, "catalogue", "parse_table")
        # By file name. A file that has vanished since stays: its last good copy is used.
        self._etags: dict[str, str] = {}
        self._listed: Instant | None = None
        self._problem: _Problem | None = None

    def mapping(self) -> Mapping | None:
        """Return the mapping, or None if there is only a content table.

        :raises DeferralError: ``misconfigured``: it is invalid or cannot be read, and there is no good copy;
            ``unavailable``: S3 does not answer, and there is no good copy.
        """
        with self._lock:
            self._refresh()
            if not self._etags:
                raise DeferralError("misconfigured", f"there is neither {MAPPING_FILE} nor {CONTENT_FILE} in S3")
            mapping: Mapping | None = self._read(self._mapping) if MAPPING_FILE in self._etags else None
            return mapping

    def content_id(self, code: str, began: Instant) -> str:
        """Return the content id of a code.

        :param began: when the invocation began; only a listing since then can show that a code is unknown.
        :raises UnknownContentError: the current table does not have it.
        :raises DeferralError: as :meth:`mapping`, for the table.
        """
        with self._lock:
            self._refresh()
            content_id = self._table().get(code)
            if content_id is None and (self._listed is None or self._listed.monotonic < began.monotonic):
                self._list()
                content_id = self._table().get(code)
            if content_id is not None:
                return content_id
            # A newer table, which cannot be read, may have it.
            if problem := self._problem or self._content.problem:
                raise problem.error()
        raise UnknownContentError(f"{CONTENT_FILE} does not have the code {'[e-mail]' if '@' in code else code}")

    def _table(self) -> dict[str, str]:
        if CONTENT_FILE not in self._etags:
            raise DeferralError("misconfigured", f"contentCode needs {CONTENT_FILE} in S3, which is missing")
        table: dict[str, str] = self._read(self._content)
        return table

    def _refresh(self) -> None:
        """List the prefix if the last listing is too old.

        :raises DeferralError: it has never been listed.
        """
        now = self._clock.now()
        if self._problem is not None:
            wait = SHARED_FAILURE_SECONDS if self._listed is None else RETRY_SECONDS
            is_due = not is_within(wait, self._problem.since, now)
        else:
            is_due = self._listed is None or elapsed(self._listed, now) >= self._max_age
        if is_due:
            self._list()
        if self._listed is None and self._problem is not None:
            raise self._problem.error()

    def _list(self) -> None:
        """Find out which files there are, in which versions."""
        now = self._clock.now()
        try:
            found = self._list_prefix()
        except DeferralError as error:
            self._problem = self._report(error)
            return
        self._problem, self._listed = None, now
        for file in (self._mapping, self._content):
            if file.name in self._etags and file.name not in found:
                self._report(DeferralError("misconfigured", f"{file.name} has vanished from S3; its last copy is used"))
            elif file.problem is not None and file.etag == found.get(file.name):
                self._report(file.problem.error())
        self._etags |= found

    def _list_prefix(self) -> dict[str, str]:
        etags: dict[str, str] = {}
        more: dict[str, Any] = {}
        for _ in range(_MAX_PAGES):
            query = {"Bucket": self._bucket, "Prefix": self._prefix, "Delimiter": "/", **more}
            page = _call("the prefix in S3 cannot be listed", partial(self._client().list_objects_v2, **query))
            for item in page.get("Contents", []):
                name = item["Key"].removeprefix(self._prefix)
                if name in (MAPPING_FILE, CONTENT_FILE):
                    etags[name] = item["ETag"]
            if not page.get("IsTruncated"):
                return etags
            more = {"ContinuationToken": page["NextContinuationToken"]}
        raise DeferralError("misconfigured", "the prefix in S3 holds too many other objects")

    def _read(self, file: _File) -> Any:
        """Return the newest good version of a file.

        :raises DeferralError: there is none.
        """
        if self._etags[file.name] != file.etag and not self._has_just_failed(file):
            try:
                etag, data = self._fetch(file.name)
            except DeferralError as error:
                file.problem = self._report(error)
            else:
                self._parse(file, etag, data)
        if file.value is None and file.problem is not None:
            raise file.problem.error()
        return file.value

    def _has_just_failed(self, file: _File) -> bool:
        wait = SHARED_FAILURE_SECONDS if file.value is None else RETRY_SECONDS
        return file.problem is not None and is_within(wait, file.problem.since, self._clock.now())

    def _fetch(self, name: str) -> tuple[str, bytes]:
        what = f"{name} cannot be read"
        answer = _call(what, partial(self._client().get_object, Bucket=self._bucket, Key=self._prefix + name))
        data: bytes = _call(what, partial(answer["Body"].read, MAX_BYTES + 1))
        return answer["ETag"], data

    def _parse(self, file: _File, etag: str, data: bytes) -> None:
        # The listing may be older than what was read.
        self._etags[file.name] = file.etag = etag
        # Only those who use them pay for the import of csv and JMESPath.
        parse = getattr(importlib.import_module(f".{file.module}", __package__), file.function)
        try:
            file.value = parse(data)
            file.problem = None
        except ConfigError as error:
            file.problem = self._report(DeferralError("misconfigured", str(error)))

    def _report(self, error: DeferralError) -> _Problem:
        if error.reason == "misconfigured":
            self._count("ConfigErrors")
        self._notice(f"configuration: {error.detail}")
        return _Problem(error.reason, error.detail, self._clock.now())


def _call(what: str, call: Callable[[], Any]) -> Any:
    """Call S3.

    :raises DeferralError: ``unavailable`` if asking again may help, otherwise ``misconfigured``; in our own words.
    """
    try:
        return call()
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))[:64]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        reason: DeferralReason = "unavailable" if status >= _SERVER_ERROR or code in _THROTTLED else "misconfigured"
        raise DeferralError(reason, f"{what}: S3 answered {code}") from None
    except (HTTPClientError, botocore.exceptions.ConnectionError) as error:
        raise DeferralError("unavailable", f"{what}: {type(error).__name__}") from None
    except (BotoCoreError, ValueError) as error:
        raise DeferralError("misconfigured", f"{what}: {type(error).__name__}") from None
