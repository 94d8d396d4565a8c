"""Every file of `events/`, replayed by the built function in Lambda's runtime."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from sandbox.config import EXAMPLE
from sandbox.pipeline.emf import json_lines
from sandbox.pipeline.runtime import InvocationError
from sandbox.sam_local import PEOPLE
from tests.support.event_files import EVENTS, EXPECTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.conftest import Pipeline


def test_every_event_file_ends_as_expected(make_pipeline: Callable[..., Pipeline]) -> None:
    """Each file's messages have the outcomes that are written down for them, and Thrive is sent what they hold."""
    # Given one environment for all files, as a person has who replays them one after another
    pipeline = make_pipeline(config=EXAMPLE)
    pipeline.thrive.directory.users.update(PEOPLE)
    [environment] = pipeline.rig.environments
    for name, expected in EXPECTED.items():
        pipeline.thrive.ledger.clear()
        seen = len(list(json_lines(pipeline.rig.logs)))
        sent = len(pipeline.thrive.requests.of("completion"))
        # When
        event = json.loads((EVENTS / name).read_text(encoding="utf-8"))
        if expected.error is not None:
            with pytest.raises(InvocationError, match=expected.error):
                environment.invoke(event)
            continue
        answer = json.loads(environment.invoke(event))
        # Then
        lines = list(json_lines(pipeline.rig.logs))[seen:]
        outcomes = {line["message_id"]: line["outcome"] for line in lines if "outcome" in line}
        reasons = {line["message_id"]: line.get("reason") for line in lines if "outcome" in line}
        assert {key: (outcomes[key], reasons[key]) for key in outcomes} == expected.outcomes, name
        bodies = [json.loads(request.body) for request in pipeline.thrive.requests.of("completion")][sent:]
        assert {(body["userId"], body["contentId"], body["completedAt"]) for body in bodies} == expected.sent, name
        assert len(bodies) == len(expected.sent), name
        if "Records" in event:
            assert answer == {"batchItemFailures": []}, name
        else:
            assert [answer["outcome"]] == [outcome for outcome, _ in expected.outcomes.values()], name


def test_every_event_file_has_an_expectation() -> None:
    """No file is left out of the replay, and none is expected that is not there."""
    assert {path.name for path in EVENTS.glob("*.json")} == set(EXPECTED)
