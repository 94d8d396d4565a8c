"""The job with `AsyncBatchProcessor` of Powertools for AWS Lambda (Python): all records of a batch at once.

- https://docs.aws.amazon.com/powertools/python/latest/utilities/batch/#processing-messages-asynchronously
- secret, logger, metrics, model: as in `../powertools_requests`

The documentation opens an httpx client for each record. One is kept here, which is kinder: each new one loads the
trusted roots again, some ten milliseconds of processor time.
"""

import asyncio
import os
import time

import httpx
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.batch import AsyncBatchProcessor, EventType, async_process_partial_response
from aws_lambda_powertools.utilities.parser import BaseModel, Field
from aws_lambda_powertools.utilities.parser.models import SqsRecordModel
from aws_lambda_powertools.utilities.parser.types import Json
from aws_lambda_powertools.utilities.typing import LambdaContext
from pydantic import AwareDatetime

BASE_URL = os.environ["THRIVE_BASE_URL"]
SECRET_ID = os.environ["THRIVE_SECRET_ID"]


class Completion(BaseModel):
    """The content of one message."""

    userId: str = Field(min_length=1, max_length=256)
    contentId: str = Field(min_length=1, max_length=256)
    completedAt: AwareDatetime


class CompletionRecord(SqsRecordModel):
    """A record whose body is a completion as JSON."""

    body: Json[Completion]


processor = AsyncBatchProcessor(event_type=EventType.SQS, model=CompletionRecord)
logger = Logger()
metrics = Metrics()
client = httpx.AsyncClient(timeout=10)
one_at_a_time = asyncio.Lock()
token = {"value": "", "good_until": 0.0}


async def bearer() -> str:
    """Return the token, renewed shortly before it expires."""
    async with one_at_a_time:
        if time.time() > token["good_until"]:
            secret = parameters.get_secret(SECRET_ID, transform="json", max_age=300)
            form = {"grant_type": "client_credentials", "scope": "api/write"}
            form |= {"client_id": secret["clientId"], "client_secret": secret["clientSecret"]}
            answer = await client.post(f"{BASE_URL}/oauth2/token/{secret['tenantId']}", data=form)
            answer.raise_for_status()
            fields = answer.json()
            token.update(value=fields["access_token"], good_until=time.time() + fields["expires_in"] - 300)
    return token["value"]


async def record_handler(record: CompletionRecord) -> None:
    """Send one completion; an exception makes Lambda deliver its message again."""
    authorization = f"Bearer {await bearer()}"
    started = time.perf_counter()
    answer = await client.post(
        f"{BASE_URL}/rest/v1/learning/completions",
        json=record.body.model_dump(mode="json"),
        headers={"Authorization": authorization},
    )
    milliseconds = (time.perf_counter() - started) * 1000
    metrics.add_metric(name="ApiLatency", unit=MetricUnit.Milliseconds, value=milliseconds)
    answer.raise_for_status()
    metrics.add_metric(name="CompletionsCreated", unit=MetricUnit.Count, value=1)
    logger.info(
        "created",
        message_id=record.messageId,
        status=answer.status_code,
        statement_id=answer.json().get("statementId"),
        user_id=record.body.userId,
        content_id=record.body.contentId,
        duration_ms=round(milliseconds, 1),
    )


@metrics.log_metrics
@logger.inject_lambda_context
def lambda_handler(event: dict, context: LambdaContext) -> dict:
    """Record a batch."""
    return async_process_partial_response(
        event=event, record_handler=record_handler, processor=processor, context=context
    )
