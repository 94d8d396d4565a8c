"""Configuration in S3: the mapping and the content table, by ETag, with the last good copy of each.

A new version that is unreadable or invalid never replaces a good one, and neither does a file that vanishes. Imported
only where ``CONFIG_URI`` is set.
"""

from __future__ import annotations

import importlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from botocore.exceptions import ClientError, NoCredentialsError, NoRegionError, ParamValidationError

from .clock import Clock, Instant, elapsed, is_within
from .errors import ConfigError, DeferralError, DeferralReason, UnknownContentError
from .redaction import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client

    from .mapping import Mapping

T = TypeVar("T")

# One byte more than this is read, to see whether there is more; the parsers refuse it.
MAX_BYTES = 10_000_000

MAPPING_FILE, CONTENT_FILE = "mapping.json", "content.csv"
# How long the next call to S3 waits after a failed one: with a good copy to go on with, and without.
RETRY_SECONDS, RETRY_WITHOUT_COPY_SECONDS = 30.0, 5.0
# For the body of one file; a timeout of boto3's applies to each read of the socket only.
MAX_FETCH_SECONDS = 15.0

_MAX_PAGES = 10
_CHUNK_BYTES = 262_144
_SERVER_ERROR = 500
# Errors that an operator has to fix; with any other error of boto3, a retry may help.
_MISCONFIGURED = (NoCredentialsError, NoRegionError, ParamValidationError, ValueError)
# Codes of throttling and of lost time, some with a 4xx status: SlowDown, ThrottlingException, KMS.ThrottlingException.
_TEMPORARY = ("SlowDown", "Throttl", "RequestTimeout", "RequestLimitExceeded")


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
    # The ETag in the last listing; None: it was not there.
    listed: str | None = None
    # The last good version with its ETag, and the ETag of a newer one that is invalid.
    value: Any = None
    good: str | None = None
    invalid: str | None = None
    # Why `value` is not the newest version; and the ETag that could not be read, with the time of the attempt.
    problem: _Problem | None = None
    unread: tuple[str, Instant] | None = None

    @property
    def is_new(self) -> bool:
        """Whether the listed version has not been read yet."""
        return self.listed is not None and self.listed not in (self.good, self.invalid)

    @property
    def is_unusable(self) -> bool:
        """Whether there is a file, but no good version of it."""
        return self.value is None and self.problem is not None


class Config:
    """The configuration of one execution environment. May be called from any thread.

    Within one invocation the prefix is listed at most once, or twice if a code is unknown.
    """

    def __init__(
        self,
        uri: str,
        client: Callable[[], S3Client],
        max_age: float,
        clock: Clock,
        notice: Callable[[str], None],
    ) -> None:
        """Read nothing yet.

        :param uri: ``s3://bucket/prefix/``.
        :param max_age: seconds after which the prefix is listed again.
        :param notice: called with a line for the log that says what is wrong and where.
        """
        self._bucket, _, self._prefix = uri.removeprefix("s3://").partition("/")
        self._client = client
        self._max_age = max_age
        self._clock = clock
        self._notice = notice
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._mapping = _File(MAPPING_FILE, "mapping", "parse_mapping")
        self._content = _File(CONTENT_FILE, "catalogue", "parse_table")
        # When the prefix was last listed, successfully or not; why that was no use; and whether one ever was.
        self._tried: Instant | None = None
        self._problem: _Problem | None = None
        self._has_listing = False

    def mapping(self, began: Instant) -> Mapping | None:
        """Return the mapping, or None if there is only a content table.

        :param began: when the invocation began.
        :raises DeferralError: there is no good copy, and it is invalid or cannot be read, or there is neither file
            (``misconfigured``), or S3 does not answer (``unavailable``).
        """
        with self._lock:
            self._refresh(began)
            mapping: Mapping | None = self._newest(self._mapping, began)
            return mapping

    def has_table(self, began: Instant) -> bool:
        """Return whether there is a content table, good or bad.

        :raises DeferralError: the prefix cannot be listed.
        """
        with self._lock:
            self._refresh(began)
            return self._content.listed is not None

    def has_error(self) -> bool:
        """Return whether there is a problem that an operator has to fix, even if a last good copy is in use."""
        problems = (self._problem, self._mapping.problem, self._content.problem)
        return any(problem is not None and problem.reason == "misconfigured" for problem in problems)

    def content_id(self, code: str, began: Instant) -> str:
        """Return the content id of a code.

        :param began: when the invocation began; only a listing since then can show that a code is unknown.
        :raises UnknownContentError: the current table does not have it.
        :raises DeferralError: as :meth:`mapping`, for the table.
        """
        # Without the lock if nothing has to be read: a thread that waits for S3 holds up no code that is known.
        table = self._content.value
        if table is not None and code in table and not (self._content.is_new or self._is_due(began)):
            return str(table[code])
        with self._lock:
            self._refresh(began)
            content_id = self._table(began).get(code)
            if content_id is None and not self._has_tried_since(began):
                self._list()
                content_id = self._table(began).get(code)
            if content_id is not None:
                return content_id
            # A newer table, which cannot be read, may have it.
            if problem := self._problem or self._content.problem:
                raise problem.error()
        raise UnknownContentError(f"{CONTENT_FILE} does not have the code {printable(code)}")

    def _table(self, began: Instant) -> dict[str, str]:
        table: dict[str, str] | None = self._newest(self._content, began)
        if table is None and self._problem is not None:
            raise self._problem.error()
        if table is None:
            raise DeferralError("misconfigured", f"contentCode needs {CONTENT_FILE} in S3, which is missing")
        return table

    def _refresh(self, began: Instant) -> None:
        """List the prefix if that is due.

        :raises DeferralError: nothing is known of it.
        """
        if self._is_due(began):
            self._list()
        if self._problem is not None and not self._has_listing:
            raise self._problem.error()

    def _is_due(self, began: Instant) -> bool:
        if self._tried is None:
            return True
        if self._has_tried_since(began):
            return False
        wait = self._max_age
        if not self._has_listing or self._mapping.is_unusable or self._content.is_unusable:
            wait = min(wait, RETRY_WITHOUT_COPY_SECONDS)
        elif self._problem is not None:
            wait = min(wait, RETRY_SECONDS)
        return not is_within(wait, self._tried, self._clock.now())

    def _has_tried_since(self, began: Instant) -> bool:
        return self._tried is not None and self._tried.monotonic >= began.monotonic

    def _list(self) -> None:
        """Find out which files there are, in which versions."""
        self._tried = self._clock.now()
        try:
            found = self._list_prefix()
        except DeferralError as error:
            self._problem = self._report(error)
            return
        self._problem = None
        for file in (self._mapping, self._content):
            self._compare(file, found.get(file.name))
        self._has_listing = bool(found) or self._mapping.value is not None or self._content.value is not None
        if not self._has_listing:
            neither = f"there is neither {MAPPING_FILE} nor {CONTENT_FILE} in S3"
            self._problem = self._report(DeferralError("misconfigured", neither))

    def _compare(self, file: _File, etag: str | None) -> None:
        """Note the version in a listing."""
        file.listed = etag
        if etag is None and file.value is not None:
            vanished = DeferralError("misconfigured", f"{file.name} has vanished from S3; its last good copy is used")
            file.problem = self._report(vanished)
        elif etag is None:
            file.invalid = file.problem = None
        elif etag == file.good:
            file.problem = None
        elif etag == file.invalid and file.problem is not None:
            # Again at each listing, so that the log of any day shows it.
            self._report(file.problem.error())

    def _list_prefix(self) -> dict[str, str]:
        etags: dict[str, str] = {}
        query: dict[str, Any] = {"Bucket": self._bucket, "Prefix": self._prefix, "Delimiter": "/"}
        for _ in range(_MAX_PAGES):
            page = _call("the prefix in S3 cannot be listed", lambda: self._client().list_objects_v2(**query))
            for item in page.get("Contents", []):
                name = item["Key"].removeprefix(self._prefix)
                if name in (MAPPING_FILE, CONTENT_FILE):
                    etags[name] = item["ETag"]
            if not page.get("IsTruncated"):
                return etags
            query["ContinuationToken"] = page["NextContinuationToken"]
        raise DeferralError("misconfigured", "the prefix in S3 holds too many other objects")

    def _newest(self, file: _File, began: Instant) -> Any:
        """Return the newest good version of a file, or None if there is no such file.

        :raises DeferralError: there is a file, but no good version.
        """
        if file.is_new and not self._has_just_failed(file, began):
            try:
                etag, data = _call(f"{file.name} cannot be read", lambda: self._fetch(file.name))
            except DeferralError as error:
                file.problem = self._report(error)
                file.unread = (str(file.listed), file.problem.since)
            else:
                self._parse(file, etag, data)
        if file.value is None and file.problem is not None:
            raise file.problem.error()
        return file.value

    def _has_just_failed(self, file: _File, began: Instant) -> bool:
        """Return whether the listed version could not be read in this invocation, or a short while ago."""
        if file.unread is None or file.unread[0] != file.listed:
            return False
        since = file.unread[1]
        wait = min(self._max_age, RETRY_WITHOUT_COPY_SECONDS if file.value is None else RETRY_SECONDS)
        return since.monotonic >= began.monotonic or is_within(wait, since, self._clock.now())

    def _fetch(self, name: str) -> tuple[str, bytes]:
        started = self._clock.now()
        answer = self._client().get_object(Bucket=self._bucket, Key=self._prefix + name)
        body, chunks, left = answer["Body"], [], MAX_BYTES + 1
        try:
            # To the end: boto3 checks length and checksum in the read that finds nothing more.
            while left > 0 and (chunk := body.read(min(left, _CHUNK_BYTES))):
                chunks.append(chunk)
                left -= len(chunk)
                if elapsed(started, self._clock.now()) > MAX_FETCH_SECONDS:
                    raise DeferralError("unavailable", f"{name} cannot be read: S3 is too slow")
        finally:
            body.close()
        return answer["ETag"], b"".join(chunks)

    def _parse(self, file: _File, etag: str, data: bytes) -> None:
        # The listing may be older than what was read.
        file.listed = etag
        # Only those who use them pay for the import of csv and JMESPath.
        parse = getattr(importlib.import_module(f".{file.module}", __package__), file.function)
        try:
            file.value = parse(data)
        except ConfigError as error:
            file.invalid = etag
            file.problem = self._report(DeferralError("misconfigured", str(error)))
        else:
            file.good = etag
            file.invalid = file.problem = None

    def _report(self, error: DeferralError) -> _Problem:
        self._notice(f"configuration: {error.detail}")
        return _Problem(error.reason, error.detail, self._clock.now())


def _call(what: str, call: Callable[[], T]) -> T:
    """Call S3.

    :raises DeferralError: ``unavailable`` if asking again may help, otherwise ``misconfigured``; in our own words.
    """
    try:
        return call()
    except DeferralError:
        raise
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "unknown"))[:64]
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        is_temporary = status >= _SERVER_ERROR or any(part in code for part in _TEMPORARY)
        reason: DeferralReason = "unavailable" if is_temporary else "misconfigured"
        problem = f"S3 answered {code}"
    except _MISCONFIGURED as error:
        reason, problem = "misconfigured", type(error).__name__
    except Exception as error:  # noqa: BLE001 - timeouts, lost connections, cut bodies: boto3 has an error for each
        reason, problem = "unavailable", type(error).__name__
    # Raised outside `except`, as boto3's own text may quote anything.
    raise DeferralError(reason, f"{what}: {problem}")
