"""The job as the documentation of Powertools for AWS Lambda (Python) teaches it: `BatchProcessor`, one after the other.

- batch, with a pydantic model: https://docs.aws.amazon.com/powertools/python/latest/utilities/batch/#pydantic-integration
- secret: https://docs.aws.amazon.com/powertools/python/latest/utilities/parameters/#fetching-secrets
- logger: https://docs.aws.amazon.com/powertools/python/latest/core/logger/
- metrics: https://docs.aws.amazon.com/powertools/python/latest/core/metrics/
- kept connections: https://requests.readthedocs.io/en/latest/user/advanced/#session-objects
"""

import os
import time

import requests
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities import parameters
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
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


processor = BatchProcessor(event_type=EventType.SQS, model=CompletionRecord)
logger = Logger()
metrics = Metrics()
session = requests.Session()
token = {"value": "", "good_until": 0.0}


def bearer() -> str:
    """Return the token, renewed shortly before it expires."""
    if time.time() > token["good_until"]:
        secret = parameters.get_secret(SECRET_ID, transform="json", max_age=300)
        form = {"grant_type": "client_credentials", "scope": "api/write"}
        form |= {"client_id": secret["clientId"], "client_secret": secret["clientSecret"]}
        answer = session.post(f"{BASE_URL}/oauth2/token/{secret['tenantId']}", data=form, timeout=10)
        answer.raise_for_status()
        fields = answer.json()
        token.update(value=fields["access_token"], good_until=time.time() + fields["expires_in"] - 300)
    return token["value"]


def record_handler(record: CompletionRecord) -> None:
    """Send one completion; an exception makes Lambda deliver its message again."""
    started = time.perf_counter()
    answer = session.post(
        f"{BASE_URL}/rest/v1/learning/completions",
        json=record.body.model_dump(mode="json"),
        headers={"Authorization": f"Bearer {bearer()}"},
        timeout=10,
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
    return process_partial_response(event=event, record_handler=record_handler, processor=processor, context=context)
