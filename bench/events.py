"""Batches as Lambda hands them over: every completion is a new one, so that every answer is 201."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

_NUMBERS = itertools.count(1)
_QUEUE_ARN = "arn:aws:sqs:eu-west-1:123456789012:completions"


def batch(size: int) -> dict[str, Any]:
    """Return an SQS event of `size` plain completions."""
    return {"Records": [_record(next(_NUMBERS)) for _ in range(size)]}


def _record(number: int) -> dict[str, Any]:
    completion = {
        "userId": f"{number:024x}",
        "contentId": "64a1b2c3d4e5f6789abcdef0",  # pragma: allowlist secret
        "completedAt": "2021-01-01T09:00:00Z",
    }
    body = json.dumps(completion)
    return {
        "messageId": f"00000000-0000-4000-8000-{number:012x}",
        "receiptHandle": "AQEB" + "x" * 172,
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1609491600123",
            "SenderId": "AROAEXAMPLEEXAMPLE:learning-app",
            "ApproximateFirstReceiveTimestamp": "1609491600150",
        },
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": _QUEUE_ARN,
        "awsRegion": "eu-west-1",
    }
