"""What a message that waits for an unknown person spends: receives, and the days that the queue keeps it."""

import functools
import random
import re
from pathlib import Path

import pytest

from completion_sync.retry import Backoff
from tests.support.sam_template import transform

DECISION = Path(__file__).resolve().parents[2] / "docs/decisions/0011-people-courses-and-shapes.md"
HOUR, DAY = 3600, 86_400
WAITS = (0, 24, 72, 168)
RETENTIONS = (5, 7, 10, 13)
# The template refuses 168 hours with less than ten days, and FIFO queues with anything but 0.
ALLOWED = [(hours, days) for hours in WAITS for days in RETENTIONS if hours < 168 or days >= 10]
# A receive, its processing and the batching window may take this long on top of each wait.
SLACK_SECONDS = 60 + 60


def shortest(least, _most):
    return least


def average(least, most):
    return (least + most) / 2


def longest(_least, most):
    return most


def life(hours, jitter, outage=None, slack=0):
    """Return at which receive a message for somebody who never appears is rejected, and how old it is then.

    :param outage: the age at which lookups fail for a day; meanwhile it waits as in any outage, and is not rejected.
    """
    backoff = Backoff(30, 900, jitter)
    age, receives = 0.0, 1
    while True:
        is_out = outage is not None and outage <= age < outage + DAY
        if not is_out and age >= hours * HOUR:
            return receives, age
        age += (backoff.seconds(receives) if is_out else backoff.for_unknown_person(age)) + slack
        receives += 1


@functools.cache
def source_queue(days):
    """Return ``maxReceiveCount`` and the retention in seconds."""
    properties = transform({"QueueRetentionDays": str(days)}).properties("SourceQueue")
    return properties["RedrivePolicy"]["maxReceiveCount"], properties["MessageRetentionPeriod"]


def receives_with_an_outage(hours, jitter):
    """Return the receives if lookups fail for a day at the worst moment of the wait."""
    return max(life(hours, jitter, age * 900)[0] for age in range(hours * 4)) if hours else life(0, jitter)[0]


def test_the_decision_says_how_many_receives_an_unknown_person_costs():
    decision = DECISION.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|$", decision, re.MULTILINE)
    computed = [
        (
            hours,
            *(life(hours, jitter)[0] for jitter in (shortest, average, longest)),
            *(receives_with_an_outage(hours, jitter) for jitter in (average, shortest)),
        )
        for hours in WAITS
    ]
    assert [tuple(map(int, row)) for row in rows] == computed


@pytest.mark.parametrize(("hours", "days"), ALLOWED)
def test_the_message_is_rejected_with_receives_to_spare_and_before_it_expires(hours, days):
    receives, retention = source_queue(days)
    assert life(hours, shortest)[0] <= receives * 0.7
    assert life(hours, longest, slack=SLACK_SECONDS)[1] + 6 * HOUR < retention


@pytest.mark.parametrize(("hours", "days"), ALLOWED)
def test_the_same_holds_if_lookups_fail_for_a_day_meanwhile(hours, days):
    receives, retention = source_queue(days)
    uniform = random.Random(days).uniform
    for outage in range(0, hours * HOUR, 6 * HOUR):
        assert max(life(hours, uniform, outage)[0] for _ in range(10)) < receives * 0.7
        assert life(hours, longest, outage, SLACK_SECONDS)[1] + 6 * HOUR < retention


@pytest.mark.parametrize("days", [5, 7])
def test_what_the_template_refuses_could_expire_first(days):
    assert (168, days) not in ALLOWED
    assert life(168, longest)[1] + 6 * HOUR > source_queue(days)[1]
