"""The progress of a backfill, kept in a file or in S3. Rows that were not noted are sent again, which is harmless."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .aws_errors import code_of
from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

    from completion_sync.clock import Clock

_VERSION = 1
_LOCAL_SECONDS, _S3_SECONDS = 1.0, 15.0


@dataclass(frozen=True, slots=True)
class Progress:
    """All rows up to ``row`` of the file with this SHA-256 have been handled, for this queue."""

    file: str
    queue: str
    row: int = 0
    sent: int = 0


class Checkpoint:
    """Reads the progress of earlier runs, and saves the progress of this one from time to time."""

    def __init__(self, name: str, store: _File | _Object, clock: Clock, every: float) -> None:
        self.name = name
        self._store = store
        self._clock = clock
        self._every = every
        self._written = float("-inf")

    def load(self, file: str, queue: str) -> Progress:
        """Return the progress with this file and queue.

        :raises CommandError: it is a checkpoint of another file or queue, or not a checkpoint.
        """
        data = self._store.read()
        if data is None:
            return Progress(file, queue)
        try:
            fields: Any = json.loads(data)
            version, progress = fields.pop("version"), Progress(**fields)
        except (ValueError, TypeError, AttributeError, KeyError):
            raise CommandError(f"{self.name} is not a checkpoint.", "Choose another with --checkpoint.") from None
        if version != _VERSION or (progress.file, progress.queue) != (file, queue):
            what = "file" if progress.file != file else "stack"
            raise CommandError(f"{self.name} is the checkpoint of another {what}.", "Choose another with --checkpoint.")
        return progress

    def save(self, progress: Progress, *, now: bool = False) -> None:
        """Save progress: at once, or only if the last time was long enough ago."""
        moment = self._clock.now().monotonic
        if now or moment - self._written >= self._every:
            self._store.write(json.dumps({"version": _VERSION, **asdict(progress)}).encode())
            self._written = moment


@contextlib.contextmanager
def opened(name: str, s3: Callable[[], S3Client], clock: Clock, *, read_only: bool) -> Iterator[Checkpoint]:
    """Open a checkpoint, a path or an ``s3://`` URI, for this process alone.

    :raises CommandError: another process is using it.
    """
    if name.startswith("s3://"):
        yield Checkpoint(name, _Object(name, s3()), clock, _S3_SECONDS)
        return
    with contextlib.ExitStack() as cleanup:
        if not read_only:
            cleanup.enter_context(_locked(Path(f"{name}.lock"), name))
        yield Checkpoint(name, _File(Path(name)), clock, _LOCAL_SECONDS)


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> bytes | None:
        try:
            return self._path.read_bytes()
        except FileNotFoundError:
            return None

    def write(self, data: bytes) -> None:
        """Replace the whole file, so that a kill leaves either the old one or the new one."""
        part = self._path.with_name(f"{self._path.name}.part")
        with part.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        part.replace(self._path)


class _Object:
    """An object in S3, written only if it is still the version that was read, so that processes notice each other."""

    def __init__(self, uri: str, s3: S3Client) -> None:
        self._bucket, _, self._key = uri.removeprefix("s3://").partition("/")
        self._s3 = s3
        self._etag: str | None = None

    def read(self) -> bytes | None:
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=self._key)
        except ClientError as error:
            if code_of(error) == "NoSuchKey":
                return None
            raise
        self._etag = answer["ETag"]
        return answer["Body"].read()

    def write(self, data: bytes) -> None:
        condition: Any = {"IfNoneMatch": "*"} if self._etag is None else {"IfMatch": self._etag}
        try:
            answer = self._s3.put_object(Bucket=self._bucket, Key=self._key, Body=data, **condition)
        except ClientError as error:
            if code_of(error) not in {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}:
                raise
            text = f"Another process is using the checkpoint s3://{self._bucket}/{self._key}."
            raise CommandError(text, "Let it finish, or stop it.", status=1) from None
        self._etag = answer["ETag"]


@contextlib.contextmanager
def _locked(path: Path, name: str) -> Iterator[None]:
    """Hold a lock, which also ends when the process is killed."""
    try:
        import fcntl  # noqa: PLC0415 - not on Windows
    except ImportError:
        yield
        return
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            text = f"Another process is using the checkpoint {name}."
            raise CommandError(text, "Let it finish, or choose another with --checkpoint.") from None
        yield
        path.unlink(missing_ok=True)
