"""What becomes of each file of ``events/``.

That is with a stand-in API that accepts everything and knows the people of ``sandbox.sam_local``, the configuration in
``sandbox/config``, and a dead-letter queue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENTS = Path(__file__).resolve().parents[2] / "events"

CREATED = ("created", None)
INVALID = ("rejected", "invalid_message")
IGNORED = ("ignored", None)

_NINE = "2021-01-01T09:00:00.000Z"
_TEN = "2021-01-01T10:00:00.000Z"


@dataclass(frozen=True)
class Expected:
    """The outcome and reason by message id (for a direct event: the event's id), and what Thrive is sent.

    ``sent`` holds ``(userId, contentId, completedAt)``, each completion once; only a FIFO group has an order.
    ``error`` names the exception that leaves the function instead.
    """

    outcomes: Mapping[str, tuple[str, str | None]] = field(default_factory=dict)
    sent: frozenset[tuple[str, str, str]] = frozenset()
    error: str | None = None


def _sent(*completions: tuple[int, int, str]) -> frozenset[tuple[str, str, str]]:
    users = ("646767d82535201223349e09", "646767d82535201223349e0a", "646767d82535201223349e0b")
    contents = ("64a1b2c3d4e5f6789abcdef0", "64a1b2c3d4e5f6789abcdef1")
    return frozenset((users[user], contents[content], time) for user, content, time in completions)


EXPECTED: Mapping[str, Expected] = {
    "eventbridge-direct.json": Expected({"0165bc8e-7511-464e-bd52-ad54cd69aab2": CREATED}, _sent((0, 0, _NINE))),
    # The time of the envelope is sent.
    "eventbridge-direct-without-completed-at.json": Expected(
        {"25dd2da9-110b-499a-9729-8ebbfab9e5c4": CREATED}, _sent((0, 0, "2021-01-01T09:00:05.000Z"))
    ),
    "eventbridge-direct-invalid.json": Expected({"fa04fe0f-e687-4b70-a00a-c51208274f34": INVALID}),
    "sqs-plain.json": Expected({"3d6b824f-d8c1-420e-9a04-7d21fee6fb1f": CREATED}, _sent((0, 0, _NINE))),
    "sqs-plain-batch.json": Expected(
        {
            "74ff4e2f-98ae-4da1-85af-1329d72e5e69": CREATED,
            "ae99aa58-4eda-4c3b-9bce-ff1db4f90542": CREATED,
            "36e1218a-671a-48c1-99aa-9df3b212ac3a": CREATED,
        },
        _sent((0, 0, _NINE), (1, 0, "2021-01-01T09:30:00.000Z"), (2, 1, "2021-01-01T09:00:00.123Z")),
    ),
    "sqs-eventbridge.json": Expected({"5a2e8bc4-d357-478c-9f7c-974e6c27ab38": CREATED}, _sent((0, 0, _NINE))),
    "sqs-sns-plain.json": Expected({"6d84e140-7330-4049-9205-53187fac8033": CREATED}, _sent((0, 0, _NINE))),
    "sqs-sns-eventbridge.json": Expected({"b52e447d-0263-41f4-a3cf-c0419488c117": CREATED}, _sent((0, 0, _NINE))),
    "sqs-fifo-two-groups.json": Expected(
        {
            "94851c93-b267-42fa-a197-8e5a69a6b3c4": CREATED,
            "7ff4b206-332e-4440-aa9c-075cf9b08651": CREATED,
            "a13885ed-9184-45da-81f8-bccd6a0ebcf1": CREATED,
            "63a70e84-cb3a-4c16-a0df-4d0b54205030": CREATED,
        },
        _sent((0, 0, _NINE), (1, 0, _NINE), (0, 1, _TEN), (1, 1, _TEN)),
    ),
    "sqs-poison-among-good.json": Expected(
        {
            "c32c72b3-de8c-4e43-88ce-0520b7dee3f9": CREATED,
            "54660708-ef8c-48d7-8ee3-58652d9df319": INVALID,
            "a38e1f95-6a78-45a1-8619-4580adbbd821": INVALID,
            "c65e7b0e-f08b-4133-af17-77f0fa43cdf7": INVALID,
            "a9e2e979-1576-40f1-87e6-34f30abf85ee": CREATED,
        },
        _sent((0, 0, _NINE), (2, 1, _NINE)),
    ),
    # The first two are one completion, written in two ways: it is sent once.
    "sqs-duplicates.json": Expected(
        {
            "9169db86-4223-4f17-9ea0-37dc0d8f3eb7": CREATED,
            "7ca45489-5076-4d67-9cb6-ae998d0895c1": CREATED,
            "e9fb3a21-df36-45a8-bafb-8e43df0a2972": CREATED,
        },
        _sent((0, 0, _NINE), (0, 1, _NINE)),
    ),
    "sqs-user-ref.json": Expected({"3ff6c057-23bb-469d-9995-3340320fa951": CREATED}, _sent((0, 0, _NINE))),
    "sqs-content-code.json": Expected({"5694d08a-2e53-4fca-a0c3-103e5ad6f607": CREATED}, _sent((0, 0, _NINE))),
    "sqs-xapi.json": Expected(
        {"ec31682f-de56-4917-952f-f78a7a8adeff": IGNORED, "844ecc08-164e-4eab-a763-4a9adee1afa6": CREATED},
        _sent((0, 0, _NINE)),
    ),
    "sqs-redelivered.json": Expected({"8d1889cb-878c-4862-93cc-17a497d69ac3": CREATED}, _sent((0, 0, _NINE))),
    "unsupported-s3-put.json": Expected(error="UnsupportedEventError"),
}
