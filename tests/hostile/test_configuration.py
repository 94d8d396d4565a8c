"""Hostile configuration and hostile events under a mapping, through the whole function."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st

from completion_sync import events
from completion_sync.completion import Completion, Unresolved
from completion_sync.errors import InvalidMessageError
from completion_sync.mapping import parse_mapping
from tests.hostile import shapes
from tests.hostile.world import CREATED, HOSTILE, NEIGHBOURS, cases, neighbour, world
from tests.support.fakes import completion_fields, sqs_record
from tests.support.s3 import FakeS3

if TYPE_CHECKING:
    from tests.hostile.world import Seen, World

INVALID, UNKNOWN = ("rejected", "invalid_message"), ("rejected", "unknown_content")
IGNORED, MISCONFIGURED = ("ignored", None), ("deferred", "misconfigured")
# What it does not take is native; what is neither is ignored. It looks into fields of every type.
DOCUMENT = {
    "version": 1,
    "sources": [
        {
            "name": "hostile",
            "when": "!detail && length(userId) > `0` && !contains(keys(@), 'contentId')",
            "userRef": "userId",
            "contentCode": "trim_prefix(email || 'code', 'x')",
            "completedAt": "completedAt",
        }
    ],
    "otherwise": "ignore",
}
MAPPING, TABLE = json.dumps(DOCUMENT).encode(), b"code,contentId\ncode,content-of-code\n"


def deliver(it: World, *records: dict[str, Any]) -> Seen:
    before, after = (neighbour(name) for name in NEIGHBOURS)
    seen = it.deliver(before, *records, after)
    assert [seen.outcomes[name] for name in NEIGHBOURS] == [CREATED, CREATED]
    return seen


def outcome_of(text: object) -> tuple[str, str | None]:
    """Return the outcome of a body under the mapping; its own tests hold what is read."""
    try:
        content = events.read_body(text, mapping=parse_mapping(MAPPING))
    except InvalidMessageError:
        return INVALID
    if isinstance(content, Unresolved):
        return CREATED if content.content_code in (None, "code") else UNKNOWN
    return CREATED if isinstance(content, Completion) else IGNORED


@cases(400)
@given(shapes.bodies)
@example(json.dumps(completion_fields(contentId=None)))
@example(json.dumps({"userId": ["x"] * 50_000}))
def test_any_body_under_a_mapping(text: object) -> None:
    """A body is judged by the mapping alone, and its neighbours, which the mapping does not take, are recorded."""
    with world(s3=FakeS3(mapping__json=MAPPING, content__csv=TABLE)) as it:
        seen = deliver(it, sqs_record("", message_id=HOSTILE) | {"body": text})
        assert seen.outcomes[HOSTILE] == outcome_of(text)


_cells = shapes.texts | st.sampled_from(["code", "contentId", "=1+1", '"', "a" * 257, "x" * 140_000])
_tables = st.lists(st.lists(_cells, max_size=3), max_size=5).map(lambda rows: written([["code", "contentId"], *rows]))


def written(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([value.replace("\0", " ") for value in row] for row in rows)
    return text.getvalue().encode("utf-8", "surrogatepass")


_files = st.one_of(
    st.binary(max_size=60),
    shapes.values.map(json.dumps).map(str.encode),
    shapes.deep_texts.map(str.encode),
    shapes.spoilt(st.just(DOCUMENT)).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.text(max_size=60).map(lambda text: json.dumps(DOCUMENT).replace("userId", text).encode("utf-8", "replace")),
)


@cases(300)
@given(_files, _tables | _files)
def test_any_configuration(mapping: bytes, table: bytes) -> None:
    """A file is used, or it defers the messages that need it, and one harmless line says what is wrong with it."""
    with world(s3=FakeS3(mapping__json=mapping, content__csv=table)) as it:
        native = neighbour("native")
        coded = sqs_record(completion_fields(contentId=None, contentCode="code"), message_id="coded")
        seen = it.deliver(native, coded)
        notices = [line["message"] for line in seen.output.logs if line["message"].startswith("configuration: ")]
        complaints = {
            name: sum(text.startswith(f"configuration: {name}: ") for text in notices)
            for name in ("mapping.json", "content.csv")
        }
        if complaints["mapping.json"]:
            assert set(seen.outcomes.values()) == {MISCONFIGURED}
        elif complaints["content.csv"]:
            assert seen.outcomes == {"native": CREATED, "coded": MISCONFIGURED}
        else:
            assert MISCONFIGURED not in seen.outcomes.values()
        assert max(complaints.values()) <= 1
        assert sum(seen.output.metric("ConfigErrors")) == len(notices) == sum(complaints.values())
