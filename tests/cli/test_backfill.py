"""`backfill`: every format, every kind of bad row, the rate, the pauses, and runs that end in the middle."""

from __future__ import annotations

import csv
import gzip
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ReadTimeoutError

from completion_sync.catalogue import parse_table
from completion_sync.errors import ConfigError
from completion_sync_cli import checkpoint, sources
from completion_sync_cli.rows import MAX_LINE_BYTES, field_size_limit
from tests.cli.conftest import ARN, ROOT, Deployed, World, completion, invoke, make_world, on, process
from tests.cli.test_check import variable
from tests.support.fakes import client_error

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = [completion(number) for number in range(45)]


def sent(world: World) -> list[Any]:
    return [json.loads(message.body) for message in world.source.messages]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "history.jsonl", ROWS)


def rejects(file: Path) -> list[tuple[str, str]]:
    """Return line and reason of the rejected rows."""
    with Path(f"{file}.rejects.csv").open(newline="") as lines, field_size_limit(MAX_LINE_BYTES):
        return [(row["line"], row["reason"]) for row in csv.DictReader(lines)]


# ---- formats


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"contentId,userId,completedAt\nc,u,2024-01-01T00:00:00Z\n"),
        ("a.csv", b"\xef\xbb\xbfuserId;completedAt;contentId;\r\nu;2024-01-01T00:00:00Z;c;\r\n\r\n"),
        ("a.tsv", b"userId\tuserRef\tcompletedAt\tcontentId\nu\t\t2024-01-01T00:00:00Z\tc\n"),
        ("a.csv.gz", gzip.compress(b"userId,contentId,completedAt\nu,c,2024-01-01T00:00:00Z", mtime=0)),
        ("a.jsonl", b'\n{"userId":"u","contentId":"c","completedAt":"2024-01-01T00:00:00Z"}\n\n'),
        ("a.data", b' {"userId":"u","contentId":"c","completedAt":"2024-01-01T00:00:00Z"}'),
        ("a.data.gz", gzip.compress(b'{"userId":"u","contentId":"c","completedAt":"2024-01-01T00:00:00Z"}\n', mtime=0)),
    ],
)
def test_every_format_is_read(world: World, tmp_path: Path, name: str, content: bytes) -> None:
    file = tmp_path / name
    file.write_bytes(content)

    outcome = world.run("backfill", file, "--yes", "--json")

    assert outcome.document == {"rows": 1, "valid": 1, "rejected": 0, "sent": 1, "skipped": 0, "dryRun": False}
    assert outcome.status == 0
    assert sent(world) == [{"userId": "u", "contentId": "c", "completedAt": "2024-01-01T00:00:00Z"}]


def test_json_lines_are_sent_as_they_are(world: World, tmp_path: Path) -> None:
    line = '{ "userId":"é", "contentId" : "c","completedAt":"2024-01-01T00:00:00+02:00","more":[1.0]}'
    (tmp_path / "a.jsonl").write_text(f"{line}\n", encoding="utf-8")

    world.run("backfill", tmp_path / "a.jsonl", "--yes")

    assert [message.body for message in world.source.messages] == [line]


def test_characters_that_sqs_does_not_accept_are_escaped(world: World, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("userId,contentId,completedAt,note\nu,c,2024-01-01T00:00:00Z,\uffff\n", "utf-8")

    world.run("backfill", tmp_path / "a.csv", "--yes")

    assert [message.body.partition('"note":')[2] for message in world.source.messages] == ['"\\uffff"}']


def test_a_large_field_is_read_and_the_content_tables_limit_remains(world: World, tmp_path: Path) -> None:
    note = "x" * 200_000
    (tmp_path / "a.csv").write_text(f"userId,contentId,completedAt,note\nu,c,2024-01-01T00:00:00Z,{note}\n")

    world.run("backfill", tmp_path / "a.csv", "--yes")

    assert [message["note"] for message in sent(world)] == [note]
    with pytest.raises(ConfigError, match="field larger than field limit"):
        parse_table(f"code,contentId,note\nA,1,{note}\n".encode())


def test_a_batch_is_not_larger_than_sqs_accepts(world: World, tmp_path: Path) -> None:
    rows = [completion(number, note="x" * 200_000) for number in range(12)]

    world.run("backfill", write(tmp_path / "a.jsonl", rows), "--yes")

    sizes = [
        sum(len(entry["MessageBody"]) for entry in request["Entries"]) for request in world.sqs.of("SendMessageBatch")
    ]
    assert sent(world) == rows
    assert max(sizes) <= 1_048_576


def test_bad_rows_are_named_by_line_and_reason_and_harm_no_other(world: World, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(
        b"userId,userRef,contentId,completedAt\n"
        b"u1,,c,2024-01-01T00:00:00Z\n"
        b"u2,,c,2024-01-01\n"  # 3: no time
        b"u3,r3,c,2024-01-01T00:00:00Z\n"  # 4: two people
        b"u4,c,2024-01-01T00:00:00Z\n"  # 5: a field is missing
        b'"u5"x,,c,2024-01-01T00:00:00Z\n'  # 6: a quote in the wrong place
        b"u\xff,,c,2024-01-01T00:00:00Z\n"  # 7: not UTF-8
        b'"u\n8",,c,2024-01-01T00:00:00Z\n'  # 8 and 9: a control character
        b"u1,,c,2024-01-01T01:00:00.000+01:00\n"  # 10: the same as 2
        b",r9,c,2024-01-01T00:00:00Z\n" + b"u10,,c,2024-01-01T00:00:00Z," + b"x" * 3_000_000 + b"\n"  # 12: too long
        b"u11,,c,2024-01-01T00:00:00Z\n"
        b'"u12,,c,2024-01-01T00:00:00Z\n'  # 14: a quote that is never closed
    )

    outcome = world.run("backfill", file, "--yes", "--json")

    assert outcome.status == 1
    assert (outcome.document["rows"], outcome.document["valid"], outcome.document["rejected"]) == (12, 3, 9)
    assert [row.get("userId") or row["userRef"] for row in sent(world)] == ["u1", "r9", "u11"]
    assert stat.S_IMODE(Path(f"{file}.rejects.csv").stat().st_mode) == 0o600
    assert rejects(file) == [
        *((line, "invalid_message") for line in ("3", "4", "5", "6", "7", "8")),
        ("10", "duplicate"),
        ("12", "invalid_message"),
        ("14", "invalid_message"),
    ]
    assert "the same as line 2" in Path(f"{file}.rejects.csv").read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"a,a\n1,2\n", "a occurs twice"),
        (gzip.compress(b"a,b\n1,2\n" * 1000, mtime=0)[:-20], "cannot be read to its end"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(world: World, tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.csv").write_bytes(content)

    outcome = world.run("backfill", tmp_path / "a.csv")

    assert outcome.status == 2
    assert message in outcome.err
    assert world.run("backfill", tmp_path / "none.csv").status == 2


# ---- sending


def test_a_dry_run_sends_nothing_and_says_how_long_it_would_take(world: World, file: Path) -> None:
    outcome = world.run("backfill", file, "--rate", "0.5", "--json")

    assert outcome.document == {"rows": 45, "valid": 45, "rejected": 0, "sent": 0, "skipped": 0, "dryRun": True}
    assert "1 min 30 s" in outcome.err
    assert world.sqs.of("SendMessageBatch") == []
    assert list(file.parent.iterdir()) == [file]


def test_on_a_standard_queue_all_rows_share_a_group(world: World, file: Path) -> None:
    world.run("backfill", file, "--yes")

    [group] = {message.group for message in world.source.messages}
    assert group is not None
    assert group.startswith("backfill-")


def test_on_a_fifo_queue_each_person_is_a_group_and_each_row_is_deduplicated(tmp_path: Path) -> None:
    world = make_world(fifo=True)
    rows = [completion(n % 3, contentId=f"c-{n}") for n in range(12)] + [completion(9, userId=None, userRef="E-1")]
    file = write(tmp_path / "a.jsonl", rows)

    world.run("backfill", file, "--yes")
    # the same rows again, each one place later
    added = completion(10)
    world.run("backfill", write(tmp_path / "b.jsonl", [added, *rows]), "--yes")

    assert sent(world) == [*rows, added]
    groups = {message.group for message in world.source.messages}
    assert len(groups) == 5
    assert not any("E-1" in (group or "") or "user-" in (group or "") for group in groups)
    for group in groups:
        contents = [json.loads(m.body)["contentId"] for m in world.source.messages if m.group == group]
        assert contents == sorted(contents, key=lambda content: int(content.partition("-")[2] or 0))


@pytest.mark.parametrize("rate", [0.5, 7, 100])
def test_the_rate_is_kept(world: World, file: Path, rate: float) -> None:
    began = world.clock.now().monotonic
    times: list[float] = []

    def note(operation: str, request: dict[str, Any]) -> None:
        if operation == "SendMessageBatch":
            times.extend([world.clock.now().monotonic - began] * len(request["Entries"]))

    world.sqs.before = note
    world.run("backfill", file, "--yes", "--rate", rate)

    assert len(times) == 45
    assert all(number <= rate * time + max(1, min(10, rate)) for number, time in enumerate(times, 1))


def test_sending_waits_while_the_queue_is_too_deep(world: World, file: Path) -> None:
    for number in range(31):
        world.sqs.put(world.source, f"live {number}")
    deepest = 0

    def drain(operation: str, _request: dict[str, Any]) -> None:
        nonlocal deepest
        if operation == "GetQueueAttributes" and world.clock.now().monotonic > 5100:
            del world.source.messages[:5]
        deepest = max(deepest, len(world.source.messages))

    world.sqs.before = drain
    outcome = world.run("backfill", file, "--yes", "--max-depth", "30", "--json")

    assert outcome.document["sent"] == 45
    assert deepest <= 40
    assert "the queue holds 31 messages" in outcome.err
    assert "Resumed after" in outcome.err


def test_sending_waits_while_the_oldest_message_is_too_old(world: World, file: Path) -> None:
    world.ages = [4000.0, 4060.0, 10.0]

    outcome = world.run("backfill", file, "--yes", "--json")

    assert outcome.document["sent"] == 45
    assert "the oldest message has waited for 1 h 6 min" in outcome.err
    assert world.clock.now().monotonic - 5000 > 120
    world.ages = [4000.0]
    assert world.run("backfill", file, "--yes", "--max-age", "0").status == 0


# ---- interruptions


@pytest.mark.parametrize("call", [0, 1, 4])
@pytest.mark.parametrize("how", ["stop", "kill before", "kill after"])
def test_a_run_that_ended_in_the_middle_goes_on_where_it_stopped(
    world: World, file: Path, how: str, call: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At worst, a batch and what was sent within the last second is repeated: a kill leaves an older checkpoint."""

    def kill() -> None:
        monkeypatch.setattr(checkpoint._File, "write", lambda *_: None)
        raise KeyboardInterrupt

    end = on("SendMessageBatch", world.interrupt if how == "stop" else kill, [call])
    setattr(world.sqs, "after" if how == "kill after" else "before", end)
    first = world.run("backfill", file, "--yes", "--json", "--rate", "10")
    assert first.status == (how != "stop" or call < 4)
    world.sqs.before = world.sqs.after = lambda *_: None
    monkeypatch.undo()
    second = world.run("backfill", file, "--yes", "--json", "--rate", "10")

    assert second.status == 0
    assert second.document["skipped"] + second.document["sent"] == 45
    users = [row["userId"] for row in sent(world)]
    assert set(users) == {row["userId"] for row in ROWS}
    assert len(users) <= 45 + {"stop": 0, "kill before": 10, "kill after": 20}[how]
    third = world.run("backfill", file, "--yes", "--json")
    assert (third.document["sent"], third.document["skipped"], third.status) == (0, 45, 0)


def test_the_checkpoint_is_about_one_content_and_one_stack(world: World, file: Path, tmp_path: Path) -> None:
    path = tmp_path / "progress"
    world.run("backfill", file, "--yes", "--checkpoint", path)

    other = write(tmp_path / "other.jsonl", [*ROWS, completion(99)])
    refused = world.run("backfill", other, "--yes", "--checkpoint", path)
    assert refused.status == 2
    assert "another file" in refused.err
    renamed = file.rename(tmp_path / "renamed.jsonl")
    assert world.run("backfill", renamed, "--checkpoint", path, "--json").document["skipped"] == 45
    assert "another stack" in make_world(fifo=True).run("backfill", renamed, "--checkpoint", path).err
    path.write_text("[]")
    assert "not a checkpoint" in world.run("backfill", renamed, "--checkpoint", path).err
    # a changed file has a checkpoint of its own
    write(renamed, ROWS[1:])
    assert world.run("backfill", renamed, "--yes", "--json").document["sent"] == 44


def test_a_checkpoint_belongs_to_one_process(world: World, file: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "progress")
    with checkpoint.opened(path, lambda: None, world.clock, read_only=False):
        outcome = world.run("backfill", file, "--yes", "--checkpoint", path)

    assert outcome.status == 2
    assert "Another process" in outcome.err
    assert world.run("backfill", file, "--yes", "--checkpoint", path).status == 0


def test_a_file_that_changes_while_it_is_read_is_not_sent(
    world: World, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = iter([1, 2])
    original = sources._file

    def changing(path: str, name: str) -> sources.Source:
        found = original(path, name)
        return sources.Source(found.name, found.size, found.open, lambda: next(versions))

    monkeypatch.setattr(sources, "_file", changing)
    outcome = world.run("backfill", file, "--yes")

    assert outcome.status == 1
    assert "changed while it was being read" in outcome.err
    assert sent(world) == []


# ---- faults


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("error", [ReadTimeoutError(endpoint_url="x"), client_error("ServiceUnavailable", 503)])
def test_an_outage_of_sqs_is_waited_for(world: World, file: Path, when: str, error: Exception) -> None:
    setattr(world.sqs, when, on("SendMessageBatch", error, range(1, 6)))
    outcome = world.run("backfill", file, "--yes", "--json")

    assert (outcome.status, outcome.document["sent"]) == (0, 45)
    assert {row["userId"] for row in sent(world)} == {row["userId"] for row in ROWS}


def test_a_long_outage_of_sqs_ends_the_run_which_can_be_continued(world: World, file: Path) -> None:
    world.sqs.before = on("SendMessageBatch", client_error("ServiceUnavailable", 503), range(2, 1000))
    outcome = world.run("backfill", file, "--yes", "--json")
    assert (outcome.status, outcome.document["sent"]) == (1, 20)
    assert "ServiceUnavailable" in outcome.err
    assert "Run the same command again" in outcome.err
    world.sqs.before = lambda *_: None
    again = world.run("backfill", file, "--yes", "--json")

    assert again.document == {"rows": 45, "valid": 45, "rejected": 0, "sent": 25, "skipped": 20, "dryRun": False}
    assert sent(world) == ROWS


def test_a_row_that_sqs_refuses_is_rejected_and_harms_no_other(world: World, file: Path) -> None:
    world.sqs.refuses = lambda _, entry: "InvalidMessageContents" if '"user-7"' in entry["MessageBody"] else None

    outcome = world.run("backfill", file, "--yes", "--json")

    assert (outcome.status, outcome.document["sent"], outcome.document["rejected"]) == (1, 44, 1)
    assert rejects(file) == [("8", "refused by SQS")]


# ---- size


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    program = """
import resource, sys
from tests.cli.conftest import make_world
world = make_world()
world.sqs.put = lambda *_, **__: type("Stored", (), {"id": "m"})  # nothing is kept
world.sqs.calls = type("Forgetful", (list,), {"append": lambda *_: None})()
world.clock.sleeps = type("Forgetful", (list,), {"append": lambda *_: None})()
outcome = world.run("backfill", sys.argv[1], "--yes", "--json", "--rate", "100000")
assert outcome.document["sent"] == int(sys.argv[2]), outcome
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

    def peak(rows: int) -> int:
        file = tmp_path / f"{rows}.csv"
        with file.open("w") as out:
            out.write("userId,contentId,completedAt\n")
            out.writelines(f"user-{n},content,2024-01-01T00:00:00Z\n" for n in range(rows))
        done = subprocess.run(
            [sys.executable, "-c", program, str(file), str(rows)],
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}/src:{ROOT}/cli:{ROOT}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return int(done.stdout)

    # in KB; a hundred bytes kept of each row would be eight thousand
    assert peak(100_000) - peak(20_000) < 4_000


# ---- on the emulator


def test_rows_are_judged_by_the_stacks_mapping_and_table(deploy: Callable[..., Deployed], tmp_path: Path) -> None:
    deployed = deploy()
    deployed.emulator.put(f"/{deployed.name}")
    variable("CONFIG_URI", f"s3://{deployed.name}/")(deployed)
    source = {"name": "hr", "when": "module", "userRef": "number", "contentCode": "module"}
    source |= {"completedAt": {"expression": "ended", "format": "%d.%m.%Y %H:%M", "timeZone": "Europe/Berlin"}}
    mapping = json.dumps({"version": 1, "sources": [source], "otherwise": "ignore"})
    deployed.emulator.put(f"/{deployed.name}/mapping.json", mapping.encode())
    deployed.emulator.put(f"/{deployed.name}/content.csv", b"code,contentId\nm1,c1\n")
    file = tmp_path / "hr.csv"
    file.write_text(
        "module,number,ended\nm1,7,31.01.2024 09:00\nm2,7,31.01.2024 09:00\nm1,7,31/01/2024\n,7,31.01.2024 09:00\n"
    )

    outcome = invoke("backfill", file, "--yes", "--json")

    assert (outcome.document["sent"], outcome.document["rejected"]) == (1, 3)
    assert rejects(file) == [("3", "unknown_content"), ("4", "invalid_message"), ("5", "ignored")]
    assert [json.loads(body) for body in deployed.bodies(deployed.source)] == [
        {"module": "m1", "number": "7", "ended": "31.01.2024 09:00"}
    ]


def test_file_and_checkpoint_may_be_in_s3(
    deploy: Callable[..., Deployed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sources, "_RANGE_BYTES", 1000)
    deployed = deploy()
    deployed.emulator.put(f"/{deployed.name}")
    lines = "".join(f"{json.dumps(row)}\n" for row in ROWS)
    deployed.emulator.put(f"/{deployed.name}/h.jsonl.gz", gzip.compress(lines.encode(), mtime=0))
    bucket = f"s3://{deployed.name}"
    options = ["--checkpoint", f"{bucket}/progress", "--rate", "1000", "--yes", "--json"]

    first = invoke("backfill", f"{bucket}/h.jsonl.gz", *options)
    second = invoke("backfill", f"{bucket}/h.jsonl.gz", *options)

    assert (first.document["sent"], second.document["sent"], second.document["skipped"]) == (45, 0, 45)
    assert len(deployed.bodies(deployed.source)) == 45
    assert invoke("backfill", f"{bucket}/none.csv").status == 2


def test_a_checkpoint_in_s3_notices_another_process(deploy: Callable[..., Deployed]) -> None:
    deployed = deploy()
    deployed.emulator.put(f"/{deployed.name}")
    world = make_world()
    stores = [checkpoint._Object(f"s3://{deployed.name}/progress", deployed.client("s3")) for _ in range(2)]
    assert [store.read() for store in stores] == [None, None]
    notes = [checkpoint.Checkpoint("c", store, world.clock, 0) for store in stores]
    notes[0].save(checkpoint.Progress("f", ARN), now=True)

    with pytest.raises(Exception, match="Another process"):
        notes[1].save(checkpoint.Progress("f", ARN), now=True)


def test_standard_input_as_a_process(deploy: Callable[..., Deployed], tmp_path: Path) -> None:
    deployed = deploy()
    text = "userId,contentId,completedAt\nu,c,2024-01-01T00:00:00Z\n"
    env = deployed.env | {"TMPDIR": str(tmp_path)}

    outcome = process("backfill", "-", "--yes", "--json", "--checkpoint", tmp_path / "c", env=env, text=text)

    assert outcome.status == 0, outcome.err
    assert outcome.document["sent"] == 1
    assert len(deployed.bodies(deployed.source)) == 1
