"""Configuration in S3: when it is listed and read, and which copy is used when that fails."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    EndpointConnectionError,
    FlexibleChecksumError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.response import StreamingBody
from moto import mock_aws

from completion_sync.clock import Instant
from completion_sync.config import MAX_BYTES, MAX_FETCH_SECONDS, RETRY_SECONDS, RETRY_WITHOUT_COPY_SECONDS, Config
from completion_sync.errors import DeferralError, UnknownContentError
from completion_sync.mapping import Mapping
from tests.support.fakes import (
    CANARY,
    PATIENCE_SECONDS,
    FakeClock,
    client_error,
    holds_any,
    in_threads,
    texts_of,
)
from tests.support.s3 import CONFIG_URI, PREFIX, FakeS3

SRC = Path(__file__).resolve().parents[2] / "src"
MAX_AGE = 300.0
NATIVE = '{"version": 1}'
IGNORING = '{"version": 1, "otherwise": "ignore"}'
TABLE = "code,contentId\nA,1\n"
LARGER_TABLE = "code,contentId\nA,1\nB,2\n"
VANISHED = "configuration: content.csv has vanished from S3; its last good copy is used"


class World:
    """A configuration on a fake S3; each call is an invocation of its own, a second after the last one."""

    def __init__(self, max_age: float = MAX_AGE, **files: str | bytes) -> None:
        self.s3 = FakeS3(**files)
        self.clock = FakeClock()
        self.lines: list[str] = []
        self.config = Config(CONFIG_URI, self.s3.client, max_age, self.clock, self.lines.append)

    def begin(self, after: float = 1.0) -> Instant:
        self.clock.advance(after)
        return self.clock.now()

    def mapping(self, after: float = 1.0) -> Mapping | None:
        return self.config.mapping(self.begin(after))

    def content_id(self, code: str, after: float = 1.0) -> str:
        return self.config.content_id(code, self.begin(after))

    def deferral(self, code: str | None = None, after: float = 1.0) -> tuple[str, str]:
        """Return reason and detail of the error that the mapping, or a code, leads to."""
        with pytest.raises(DeferralError) as deferred:
            self.mapping(after) if code is None else self.content_id(code, after)
        assert not holds_any(texts_of(deferred.value), [CANARY])
        return deferred.value.reason, deferred.value.detail

    def taken_lines(self) -> list[str]:
        lines, self.lines[:] = list(self.lines), []
        return lines


# ---- when what is read


def test_it_is_listed_on_first_need_and_only_what_is_needed_is_read():
    world = World(mapping__json=IGNORING, content__csv=TABLE)
    assert world.s3.taken_calls() == []
    assert world.mapping() == Mapping((), ignores_others=True)
    assert world.s3.taken_calls() == ["list", "get mapping.json"]
    assert world.content_id("A") == "1"
    assert world.s3.taken_calls() == ["get content.csv"]
    assert (world.mapping(), world.content_id("A")) == (Mapping((), ignores_others=True), "1")
    assert world.s3.taken_calls() == []


def test_it_is_listed_again_after_its_maximum_age_and_only_what_changed_is_read():
    world = World(mapping__json=NATIVE, content__csv=TABLE)
    assert (world.mapping(), world.content_id("A")) == (Mapping((), ignores_others=False), "1")
    world.s3.put("content.csv", "code,contentId\nA,9\n")
    world.s3.taken_calls()
    assert world.content_id("A", MAX_AGE - 3) == "1"
    assert world.s3.taken_calls() == []
    assert world.content_id("A", 3) == "9"
    assert world.mapping() == Mapping((), ignores_others=False)
    assert world.s3.taken_calls() == ["list", "get content.csv"]
    assert world.lines == []


def test_with_a_maximum_age_of_0_it_is_listed_once_in_each_invocation():
    world = World(0, mapping__json=NATIVE, content__csv=TABLE)
    for _ in range(2):
        began = world.begin()
        world.config.mapping(began)
        world.clock.advance(1)
        assert world.config.content_id("A", began) == "1"
        with pytest.raises(UnknownContentError):
            world.config.content_id("Z", began)
    assert world.s3.taken_calls() == ["list", "get mapping.json", "get content.csv", "list"]


def test_a_frozen_environment_lists_again():
    world = World(mapping__json=NATIVE)
    world.mapping()
    world.clock.freeze(MAX_AGE)
    world.mapping()
    assert world.s3.taken_calls() == ["list", "get mapping.json", "list"]


def test_what_changed_between_listing_and_reading_is_read_once():
    world = World(mapping__json=NATIVE)
    world.s3.on_call = lambda operation: world.s3.put("mapping.json", IGNORING) if operation == "get" else None
    assert world.mapping() == Mapping((), ignores_others=True)
    assert world.mapping() == Mapping((), ignores_others=True)
    assert world.mapping(MAX_AGE) == Mapping((), ignores_others=True)
    assert world.s3.taken_calls() == ["list", "get mapping.json", "list"]


def test_threads_that_need_it_at_once_read_it_once():
    world = World(mapping__json=NATIVE, content__csv=TABLE)
    began = world.begin()
    assert in_threads(8, lambda _: world.config.content_id("A", began)) == ["1"] * 8
    assert world.s3.taken_calls() == ["list", "get content.csv"]


def test_clear_forgets_everything():
    world = World(mapping__json=NATIVE)
    world.mapping()
    world.config.clear()
    world.s3.delete("mapping.json")
    assert world.deferral() == ("misconfigured", "there is neither mapping.json nor content.csv in S3")


# ---- codes


def test_a_code_is_unknown_only_to_a_table_that_was_listed_in_this_invocation():
    world = World(content__csv=TABLE)
    world.mapping()
    world.s3.taken_calls()
    began = world.begin()
    for _ in range(3):
        with pytest.raises(UnknownContentError, match=r"^content\.csv does not have the code B$"):
            world.config.content_id("B", began)
    assert world.s3.taken_calls() == ["get content.csv", "list"]
    world.s3.put("content.csv", LARGER_TABLE)
    assert world.content_id("B") == "2"
    assert world.s3.taken_calls() == ["list", "get content.csv"]


@pytest.mark.parametrize("operation", ["list", "get"])
def test_a_code_is_not_unknown_while_a_newer_table_cannot_be_read(operation):
    world = World(content__csv=TABLE)
    world.content_id("A")
    world.s3.put("content.csv", LARGER_TABLE)
    world.s3.fail(client_error("SlowDown", 503), operation)
    began = world.begin()
    world.s3.taken_calls()
    for _ in range(3):
        with pytest.raises(DeferralError, match="S3 answered SlowDown"):
            world.config.content_id("B", began)
    assert len(world.s3.taken_calls()) == (1 if operation == "list" else 2)
    assert world.config.content_id("A", began) == "1"
    world.s3.recover()
    assert world.content_id("B", RETRY_SECONDS) == "2"


def test_an_empty_table_knows_no_code():
    with pytest.raises(UnknownContentError):
        World(content__csv="code,contentId\n").content_id("A")


@pytest.mark.parametrize(
    ("code", "shown"),
    [("ada@example.com", "[e-mail]"), ("x ada%40example.com", "x [e-mail]"), ("a\ufffe\u202eb", "a b"), ("Ü 1", "Ü 1")],
)
def test_a_code_in_a_detail_holds_no_address_and_nothing_that_sqs_refuses(code, shown):
    with pytest.raises(UnknownContentError) as unknown:
        World(content__csv=TABLE).content_id(code)
    assert unknown.value.detail == f"content.csv does not have the code {shown}"


def test_a_thread_that_waits_for_s3_holds_up_no_code_that_is_known():
    world = World(content__csv=TABLE)
    world.content_id("A")
    listing, go_on = threading.Event(), threading.Event()
    began = world.begin()

    def wait(_operation: str) -> None:
        listing.set()
        go_on.wait(PATIENCE_SECONDS)

    world.s3.on_call = wait

    def find(thread: int) -> str:
        if thread == 0:
            return world.config.content_id("Z", began)
        assert listing.wait(PATIENCE_SECONDS)
        found = world.config.content_id("A", began)
        go_on.set()
        return found

    unknown, known = in_threads(2, find)
    assert isinstance(unknown, UnknownContentError)
    assert known == "1"


# ---- what is there


def test_with_a_table_alone_there_is_no_mapping():
    world = World(content__csv=TABLE)
    assert world.mapping() is None
    assert world.content_id("A") == "1"


def test_with_a_mapping_alone_a_code_is_misconfigured():
    world = World(mapping__json=NATIVE)
    assert world.deferral("A") == ("misconfigured", "contentCode needs content.csv in S3, which is missing")
    assert world.mapping() is not None
    assert not world.config.has_error()


def test_without_both_everything_is_misconfigured_until_there_is_one():
    world = World()
    neither = ("misconfigured", "there is neither mapping.json nor content.csv in S3")
    assert (world.deferral(), world.deferral("A")) == (neither, neither)
    assert world.s3.taken_calls() == ["list"]
    assert world.config.has_error()
    world.s3.put("mapping.json", NATIVE)
    assert world.mapping(RETRY_WITHOUT_COPY_SECONDS) is not None
    assert not world.config.has_error()


def test_other_objects_are_ignored():
    world = World(content__csv=TABLE)
    world.s3.objects |= {PREFIX: b"", f"{PREFIX}old-mapping.json": b"junk", f"{PREFIX}mapping.json.bak": b"junk"}
    assert world.mapping() is None


# ---- a new version that cannot be used


def test_a_bad_mapping_without_a_copy_defers_everything_and_is_read_again_when_it_changes():
    world = World(mapping__json="{", content__csv=TABLE)
    problem = "mapping.json: line 1, column 2: Expecting property name enclosed in double quotes"
    assert world.deferral() == ("misconfigured", problem)
    assert world.deferral() == ("misconfigured", problem)
    assert world.s3.taken_calls() == ["list", "get mapping.json"]
    assert world.content_id("A") == "1"
    assert (world.taken_lines(), world.config.has_error()) == ([f"configuration: {problem}"], True)
    world.s3.put("mapping.json", NATIVE)
    assert world.mapping(RETRY_WITHOUT_COPY_SECONDS) is not None
    assert (world.taken_lines(), world.config.has_error()) == ([], False)


def test_a_bad_table_without_a_copy_defers_codes_only_and_is_read_again_soon():
    world = World(mapping__json=NATIVE, content__csv="code,contentId\nA,\n")
    assert world.deferral("A")[1].startswith("content.csv: line 2: contentId: must be")
    assert world.mapping() is not None
    world.s3.put("content.csv", TABLE)
    assert world.content_id("A", RETRY_WITHOUT_COPY_SECONDS) == "1"


@pytest.mark.parametrize("max_age", [0, MAX_AGE])
def test_a_bad_version_does_not_replace_a_good_one_and_is_reported_at_each_listing(max_age):
    world = World(max_age, content__csv=TABLE)
    world.content_id("A")
    world.s3.put("content.csv", "code,contentId\nA,1\nB,2\nB,3\n")
    problem = "content.csv: line 4: the code occurs twice, with different content ids"
    for _ in range(2):
        assert world.content_id("A", MAX_AGE) == "1"
        assert world.taken_lines() == [f"configuration: {problem}"]
        assert world.config.has_error()
    assert world.deferral("B") == ("misconfigured", problem)
    assert [call for call in world.s3.taken_calls() if call != "list"] == ["get content.csv"] * 2
    world.s3.put("content.csv", LARGER_TABLE)
    assert world.content_id("B", MAX_AGE) == "2"
    with pytest.raises(UnknownContentError):
        world.content_id("Z")


@pytest.mark.parametrize("failure", [None, client_error("AccessDenied", 403)], ids=["invalid", "unreadable"])
def test_a_version_that_is_reverted_leaves_no_problem_behind(failure):
    world = World(content__csv=TABLE)
    world.content_id("A")
    world.s3.put("content.csv", "junk" if failure is None else LARGER_TABLE)
    if failure is not None:
        world.s3.fail(failure, "get")
    assert world.content_id("A", MAX_AGE) == "1"
    assert len(world.taken_lines()) == 1
    world.s3.recover()
    world.s3.put("content.csv", TABLE)
    world.s3.taken_calls()
    assert world.content_id("A", MAX_AGE) == "1"
    with pytest.raises(UnknownContentError):
        world.content_id("B")
    assert world.s3.taken_calls() == ["list", "list"]
    assert world.taken_lines() == []


def test_a_file_that_vanishes_does_not_take_the_last_good_copy_with_it():
    world = World(mapping__json=NATIVE, content__csv=TABLE)
    world.content_id("A")
    world.s3.delete("content.csv")
    assert world.content_id("A", MAX_AGE) == "1"
    assert (world.taken_lines(), world.config.has_error()) == ([VANISHED], True)
    assert world.deferral("B") == ("misconfigured", VANISHED.removeprefix("configuration: "))
    world.s3.put("content.csv", TABLE)
    with pytest.raises(UnknownContentError):
        world.content_id("B")


@pytest.mark.parametrize(
    "files", [{"mapping__json": IGNORING}, {"content__csv": TABLE}, {"mapping__json": IGNORING, "content__csv": TABLE}]
)
def test_all_files_may_vanish(files):
    world = World(**files)

    def values() -> list[object]:
        began = world.begin(MAX_AGE)
        mapping = world.config.mapping(began) if "mapping__json" in files else None
        return [mapping, world.config.content_id("A", began) if "content__csv" in files else None]

    good = values()
    world.s3.objects.clear()
    assert values() == good
    assert world.config.has_error()


def test_an_invalid_file_that_is_deleted_is_forgotten():
    world = World(mapping__json="{", content__csv=TABLE)
    world.deferral()
    world.s3.delete("mapping.json")
    assert world.mapping(RETRY_WITHOUT_COPY_SECONDS) is None


def test_a_file_that_is_deleted_between_listing_and_reading_is_forgotten():
    world = World(mapping__json=NATIVE, content__csv=TABLE)
    world.s3.on_call = lambda operation: world.s3.delete("mapping.json") if operation == "get" else None
    assert world.deferral() == ("misconfigured", "mapping.json cannot be read: S3 answered NoSuchKey")
    world.s3.recover()
    assert world.mapping(RETRY_WITHOUT_COPY_SECONDS) is None


def test_a_file_that_is_too_large_is_refused_and_not_read_to_its_end():
    world = World(content__csv=b"x" * (MAX_BYTES + 2_000_000))
    body = io.BytesIO(world.s3.objects[f"{PREFIX}content.csv"])
    world.s3.body = lambda _data: SimpleNamespace(read=body.read, close=lambda: None)
    assert world.deferral("A") == ("misconfigured", f"content.csv: must be at most {MAX_BYTES} bytes long")
    assert body.tell() == MAX_BYTES + 1


# ---- S3 that fails


def cut_off(data: bytes) -> Any:
    return StreamingBody(io.BytesIO(data[:-1]), len(data))


FAILURES: dict[str, tuple[Exception, str, str]] = {
    "denied": (client_error("AccessDenied", 403), "misconfigured", "S3 answered AccessDenied"),
    "no-bucket": (client_error("NoSuchBucket", 404), "misconfigured", "S3 answered NoSuchBucket"),
    "no-key": (client_error("NoSuchKey", 404), "misconfigured", "S3 answered NoSuchKey"),
    "no-decryption": (client_error("KMS.DisabledException", 400), "misconfigured", "S3 answered KMS.DisabledException"),
    "no-credentials": (NoCredentialsError(), "misconfigured", "NoCredentialsError"),
    "bad-parameter": (ValueError(CANARY), "misconfigured", "ValueError"),
    "throttled": (client_error("SlowDown", 503), "unavailable", "S3 answered SlowDown"),
    "kms-throttled": (client_error("KMS.ThrottlingX", 400), "unavailable", "S3 answered KMS.ThrottlingX"),
    "request-lost": (client_error("RequestTimeout", 400), "unavailable", "S3 answered RequestTimeout"),
    "over-limit": (client_error("RequestLimitExceeded", 400), "unavailable", "S3 answered RequestLimitExceeded"),
    "slowed-down": (client_error("SlowDown", 400), "unavailable", "S3 answered SlowDown"),
    "broken": (client_error("InternalError", 500), "unavailable", "S3 answered InternalError"),
    "hangs": (ReadTimeoutError(endpoint_url=CANARY), "unavailable", "ReadTimeoutError"),
    "unreachable": (EndpointConnectionError(endpoint_url=CANARY), "unavailable", "EndpointConnectionError"),
    "garbled": (FlexibleChecksumError(error_msg=CANARY), "unavailable", "FlexibleChecksumError"),
    "without-a-code": (ClientError({}, "ListObjectsV2"), "misconfigured", "S3 answered unknown"),
    "something-else": (RuntimeError(CANARY), "unavailable", "RuntimeError"),
}


def test_the_bounds_are_the_documented_ones():
    assert (RETRY_SECONDS, RETRY_WITHOUT_COPY_SECONDS, MAX_FETCH_SECONDS, MAX_BYTES) == (30.0, 5.0, 15.0, 10_000_000)


@pytest.mark.parametrize("operation", ["list", "get"])
@pytest.mark.parametrize(("error", "reason", "problem"), FAILURES.values(), ids=FAILURES)
def test_without_a_copy_a_failure_defers_and_is_tried_again_soon(operation, error, reason, problem):
    world = World(mapping__json=NATIVE)
    world.s3.fail(error, operation)
    what = "the prefix in S3 cannot be listed" if operation == "list" else "mapping.json cannot be read"
    assert world.deferral() == (reason, f"{what}: {problem}")
    calls = world.s3.taken_calls()
    assert world.deferral() == (reason, f"{what}: {problem}")
    assert world.s3.taken_calls() == []
    assert world.taken_lines() == [f"configuration: {what}: {problem}"]
    assert world.config.has_error() is (reason == "misconfigured")
    world.s3.recover()
    assert world.mapping(RETRY_WITHOUT_COPY_SECONDS) is not None
    assert set(calls) <= {"list", "get mapping.json"}


@pytest.mark.parametrize("operation", ["list", "get"])
@pytest.mark.parametrize(("error", "reason", "problem"), FAILURES.values(), ids=FAILURES)
def test_with_a_copy_a_failure_changes_nothing_but_the_log(operation, error, reason, problem):
    world = World(mapping__json=NATIVE)
    world.mapping()
    world.s3.put("mapping.json", IGNORING)
    world.s3.fail(error, operation)
    world.clock.advance(MAX_AGE)
    for _ in range(3):
        assert world.mapping() == Mapping((), ignores_others=False)
    assert len(world.taken_lines()) == 1
    assert world.config.has_error() is (reason == "misconfigured")
    world.s3.recover()
    assert world.mapping(RETRY_SECONDS) == Mapping((), ignores_others=True)


def test_with_a_maximum_age_of_0_each_invocation_tries_again():
    world = World(0, mapping__json=NATIVE)
    world.mapping()
    world.s3.fail(client_error("SlowDown", 503))
    assert (world.mapping(), world.mapping()) == (Mapping((), ignores_others=False),) * 2
    assert len(world.taken_lines()) == 2
    world.s3.recover()
    world.s3.put("mapping.json", IGNORING)
    assert world.mapping() == Mapping((), ignores_others=True)


def test_a_prefix_that_is_known_to_hold_no_mapping_is_so_while_s3_fails():
    world = World(content__csv=TABLE)
    assert world.mapping() is None
    world.s3.fail(client_error("SlowDown", 503))
    assert world.mapping(MAX_AGE) is None
    assert world.deferral("A")[0] == "unavailable"


@pytest.mark.parametrize("file", ["mapping.json", "content.csv"])
def test_a_body_that_is_cut_off_is_read_again(file):
    world = World(mapping__json=NATIVE, content__csv=TABLE)
    whole = world.s3.body
    world.s3.body = cut_off
    code = "A" if file == "content.csv" else None
    assert world.deferral(code) == ("unavailable", f"{file} cannot be read: IncompleteReadError")
    world.s3.body = whole
    assert world.content_id("A", RETRY_WITHOUT_COPY_SECONDS) == "1"
    assert world.mapping() is not None


def test_a_body_that_comes_too_slowly_is_given_up():
    world = World(mapping__json=NATIVE)
    reads = iter([b"{", b'"', b"v"])
    closed = []

    def read(size: int) -> bytes:
        assert size < MAX_BYTES, "a single read of everything could not be given up"
        world.clock.advance(MAX_FETCH_SECONDS / 2 + 1)
        return next(reads)

    world.s3.body = lambda _data: SimpleNamespace(read=read, close=lambda: closed.append(True))
    assert world.deferral() == ("unavailable", "mapping.json cannot be read: S3 is too slow")
    assert closed == [True]


def test_a_client_that_cannot_be_made_is_a_failure_like_another():
    def client() -> Any:
        raise NoCredentialsError

    config = Config(CONFIG_URI, client, MAX_AGE, FakeClock(), lambda _line: None)
    with pytest.raises(DeferralError, match=r"^the prefix in S3 cannot be listed: NoCredentialsError$"):
        config.mapping(Instant(0, 0))


# ---- boto3's own client


@pytest.fixture
def real(monkeypatch):
    """Yield boto3's client of an S3 in process, with an empty bucket, and a configuration on it."""
    for variable in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(variable, raising=False)
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        client.create_bucket(Bucket="bucket")
        clock = FakeClock()

        def config(uri: str) -> Config:
            return Config(uri, lambda: client, 0, clock, lambda _line: None)

        yield client, config, clock
        client.close()


@pytest.mark.parametrize("prefix", ["", "a/", "deep/er/ü b+/"])
def test_it_works_with_boto3(real, prefix):
    client, make, clock = real
    for number in range(1005 if prefix == "a/" else 3):  # more than one page
        client.put_object(Bucket="bucket", Key=f"{prefix}a/{number}" if number % 2 else f"{prefix}b{number}", Body=b"")
    client.put_object(Bucket="bucket", Key=f"{prefix}mapping.json", Body=IGNORING)
    client.put_object(Bucket="bucket", Key=f"{prefix}content.csv", Body=TABLE)
    config = make(f"s3://bucket/{prefix}")
    assert config.mapping(clock.now()) == Mapping((), ignores_others=True)
    assert config.content_id("A", clock.now()) == "1"
    clock.advance(1)
    client.put_object(Bucket="bucket", Key=f"{prefix}content.csv", Body=LARGER_TABLE)
    assert config.content_id("B", clock.now()) == "2"


def test_a_bucket_that_does_not_exist_is_misconfigured(real):
    _, make, clock = real
    with pytest.raises(DeferralError, match="S3 answered NoSuchBucket") as deferred:
        make("s3://no-such-bucket/").mapping(clock.now())
    assert deferred.value.reason == "misconfigured"


def test_a_prefix_with_thousands_of_other_objects_is_misconfigured():
    pages = []

    def page(**query: Any) -> dict[str, Any]:
        pages.append(query.get("ContinuationToken"))
        return {"IsTruncated": True, "NextContinuationToken": str(len(pages))}

    config = Config(CONFIG_URI, lambda: SimpleNamespace(list_objects_v2=page), 0, FakeClock(), print)
    with pytest.raises(DeferralError, match="holds too many other objects"):
        config.mapping(Instant(0, 0))
    assert pages == [None, *map(str, range(1, 10))]


# ---- what is imported by whom

PROBE = """
import json, sys
from completion_sync import bootstrap, handler
from completion_sync.errors import DeferralError, UnknownContentError
modules = {f"completion_sync.{name}" for name in ("config", "mapping", "expressions", "time_format", "catalogue")}

def loaded():
    return sorted(name.removeprefix("completion_sync.") for name in modules & set(sys.modules))

class S3:
    def __init__(self, **files):
        self.files = {name.replace("__", "."): data for name, data in files.items()}
    def list_objects_v2(self, **_):
        return {"Contents": [{"Key": name, "ETag": name} for name in self.files], "IsTruncated": False}
    def get_object(self, Key, **_):
        import io
        return {"ETag": Key, "Body": io.BytesIO(self.files[Key])}

def application(s3, **env):
    settings = bootstrap.Settings.from_env({"THRIVE_SECRET_ID": "x", "THRIVE_BASE_URL": "http://127.0.0.1:9", **env})
    return bootstrap.build(settings, s3=lambda: s3)

seen = [loaded()]
application(None)
seen.append(loaded())
table = application(S3(content__csv=b"code,contentId\\nA,1\\n"), CONFIG_URI="s3://bucket")
now = table.clock.now()
assert table.config.mapping(now) is None
seen.append(loaded())
assert table.config.content_id("A", now) == "1"
seen.append(loaded())
application(S3(mapping__json=b'{"version": 1}'), CONFIG_URI="s3://bucket").config.mapping(now)
seen.append(loaded())
print(json.dumps([seen, sorted({"boto3", "zoneinfo", "fractions"} & set(sys.modules))]))
"""


def test_only_those_who_use_a_file_import_what_reads_it():
    done = subprocess.run(
        [sys.executable, "-c", PROBE],
        env={"PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    steps, libraries = json.loads(done.stdout)
    assert steps == [
        [],
        [],
        ["config"],
        ["catalogue", "config"],
        ["catalogue", "config", "expressions", "mapping", "time_format"],
    ]
    assert libraries == []
