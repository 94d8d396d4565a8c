"""The sources of rows: a file, standard input or an object in S3. Each can be read twice, in constant memory."""

from __future__ import annotations

import gzip
import hashlib
import io
import shutil
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

from botocore.exceptions import ClientError

from .aws_errors import code_of
from .errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mypy_boto3_s3 import S3Client

    from .aws import Aws

_RANGE_BYTES = 4 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Source:
    """A file of rows. ``version`` changes with the file, as far as can be seen without reading it."""

    name: str
    size: int
    open: Callable[[], io.RawIOBase]
    version: Callable[[], object]

    @property
    def local(self) -> Path:
        """The path next to which files about this one are written: its own, or one in the current directory."""
        if self.name == "-":
            return Path("stdin")
        return Path(self.name.rpartition("/")[2]) if self.name.startswith("s3://") else Path(self.name)


@contextmanager
def opened(name: str, aws: Callable[[], Aws]) -> Iterator[Source]:
    """Open a source. Standard input is copied to a temporary file, because it must be read twice.

    :raises CommandError: there is no such file or object.
    """
    if name == "-":
        with tempfile.NamedTemporaryFile() as copy:
            shutil.copyfileobj(sys.stdin.buffer, copy)
            copy.flush()
            yield _file(copy.name, name)
    elif name.startswith("s3://"):
        yield _object(name, aws().s3)
    elif Path(name).is_file():
        yield _file(name, name)
    else:
        raise CommandError(f"There is no file {name}.")


def _file(path: str, name: str) -> Source:
    def version() -> object:
        found = Path(path).stat()
        return found.st_ino, found.st_size, found.st_mtime_ns

    return Source(name, Path(path).stat().st_size, lambda: io.FileIO(path), version)


def _object(uri: str, s3: S3Client) -> Source:
    bucket, _, key = uri.removeprefix("s3://").partition("/")

    def head() -> Any:
        try:
            return s3.head_object(Bucket=bucket, Key=key)
        except ClientError as error:
            if code_of(error) in {"404", "NoSuchKey", "NoSuchBucket"}:
                raise CommandError(f"There is no object {uri}.") from None
            raise

    found = head()
    return Source(
        uri,
        found["ContentLength"],
        lambda: _Ranges(s3, bucket, key, found["ETag"], found["ContentLength"]),
        lambda: head()["ETag"],
    )


class _Ranges(io.RawIOBase):
    """An object in S3, read in ranges: one download would time out in the hours that sending may take."""

    def __init__(self, s3: S3Client, bucket: str, key: str, etag: str, size: int) -> None:
        self._get = partial(s3.get_object, Bucket=bucket, Key=key, IfMatch=etag)
        self._size = size
        self._position = 0
        self._data = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._data and self._position < self._size:
            last = min(self._position + _RANGE_BYTES, self._size) - 1
            self._data = self._get(Range=f"bytes={self._position}-{last}")["Body"].read()
            self._position += len(self._data)
        count = min(len(buffer), len(self._data))
        buffer[:count] = self._data[:count]
        self._data = self._data[count:]
        return count


class Content:
    """One reading of a source, decompressed if it is gzip, with its position and hash."""

    def __init__(self, source: Source) -> None:
        self._source = source.open()
        self._raw = _Hashing(self._source)
        buffered = io.BufferedReader(self._raw, 1 << 16)
        is_gzip = buffered.peek(2)[:2] == _GZIP_MAGIC
        self._outer = buffered
        # The buffer allows a peek at the first bytes.
        self.stream: IO[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=buffered)) if is_gzip else buffered

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._source.close()

    @property
    def position(self) -> int:
        """How many bytes of the source have been read."""
        return self._raw.count

    def digest(self) -> str:
        """Read to the end and return the SHA-256 of the source (compressed, if it is) in hex."""
        while self._outer.read(1 << 16):
            pass
        return self._raw.hash.hexdigest()


class _Hashing(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self.hash = hashlib.sha256()
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._raw.readinto(buffer) or 0
        self.hash.update(memoryview(buffer)[:count])
        self.count += count
        return count
