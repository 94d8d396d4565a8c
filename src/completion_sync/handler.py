"""The Lambda handler: recognises the shape of the event, passes it on, and answers.

This is the one place that decides what leaves the queue: a message is acknowledged when Thrive has answered for it or
when it is in the dead-letter queue, and never otherwise.
"""

from __future__ import annotations

from concurrent.futures import wait
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from . import bootstrap, events, snapstart
from .clock import Deadline, elapsed
from .errors import DeferralError, EventNotRecordedError
from .outcomes import Created, Deferred, Existing, Ignored, Rejected
from .queues import Postponed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from .bootstrap import Application
    from .clock import Instant
    from .events import Message
    from .mapping import Mapping
    from .sync import Result

T = TypeVar("T")

# Reserved out of the invocation's time: for logs and the calls to SQS, after the last call to Thrive, and then for the
# answer. Shares of the whole, as a timeout may be three seconds or fifteen minutes.
_REPORT_SHARE, _REPORT_MAX_SECONDS, _REPORT_SECONDS_PER_MESSAGE = 0.2, 6.0, 0.001
_ANSWER_SHARE, _ANSWER_MAX_SECONDS = 0.05, 0.5


snapstart.register()


def lambda_handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Record the completions in a batch of SQS records or in an EventBridge event.

    :returns: for SQS a partial batch response, ``{"batchItemFailures": [{"itemIdentifier": messageId}, …]}``; for
        EventBridge ``{"outcome", "statementId"?, "reason"?, "detail"?}``.
    :raises SettingError: a variable is missing or has a bad value. Nothing else is ever raised for SQS.
    :raises EventNotRecordedError: a direct EventBridge event is neither in Thrive nor in a queue.
    :raises UnsupportedEventError: the event is neither of the two.

    ``{"completionSync": "check"}``, from the operator's command, is answered by :mod:`completion_sync.check`.
    """
    application = bootstrap.application()
    application.telemetry.begin(context.aws_request_id)
    seconds = context.get_remaining_time_in_millis() / 1000
    if events.is_sqs_event(event):
        return _handle_batch(application, event, seconds)
    if events.is_eventbridge_event(event):
        return _handle_event(application, event, seconds)
    if isinstance(event, dict) and event.get("completionSync") == "check":
        from . import check  # noqa: PLC0415 - only for those who ask

        return check.answer(application, event, _work_deadline(application, seconds, 1))
    raise events.unsupported(event)


def _handle_batch(application: Application, event: dict[str, list[dict[str, Any]]], seconds: float) -> dict[str, Any]:
    """Return the partial batch response: Lambda deletes what it does not name, and SQS delivers the rest again."""
    began = application.clock.now()
    answer_by = _answer_deadline(application, seconds)
    deadline = _work_deadline(application, seconds, len(event["Records"]))
    unsettled = [record["messageId"] for record in event["Records"]]
    try:
        messages = events.read_sqs_records(event, _mapping(application, began, deadline))
        results = application.sync.run(messages, deadline, began)
        pairs = list(zip(messages, results, strict=True))
        unsettled = [message.id for message, result in pairs if not _is_settled(message, result, set())]
        for message, result in pairs:
            application.telemetry.message(message, result, message.age(began))
        dead_lettered = _dispose(application, pairs, began, answer_by)
        unsettled = [message.id for message, result in pairs if not _is_settled(message, result, dead_lettered)]
        _end(application, results, len(unsettled))
    except Exception as error:  # noqa: BLE001 - raising would return the whole batch to the queue, healthy messages too
        application.telemetry.unexpected(error)
    return {"batchItemFailures": [{"itemIdentifier": identifier} for identifier in dict.fromkeys(unsettled)]}


def _is_settled(message: Message, result: Result, dead_lettered: set[str]) -> bool:
    if isinstance(result.outcome, Rejected):
        return message.id in dead_lettered
    return isinstance(result.outcome, (Created, Existing, Ignored))


def _dispose(
    application: Application,
    pairs: Sequence[tuple[Message, Result]],
    began: Instant,
    answer_by: Deadline,
) -> set[str]:
    """Dead-letter what was rejected and postpone what was deferred, as far as time allows.

    :returns: the ids of the messages that are in the dead-letter queue.
    """
    rejected: list[tuple[Message, Rejected]] = []
    postponed: list[Postponed] = []
    passed = elapsed(began, application.clock.now())
    for message, result in pairs:
        outcome = result.outcome
        if isinstance(outcome, Rejected):
            rejected.append((message, outcome))
        elif isinstance(outcome, Deferred):
            postponed.append(Postponed(message, _backoff(application, message, outcome, passed)))
    if not rejected and not postponed:
        return set()
    calls = [*application.queues.dead_letter(rejected), *application.queues.postpone(postponed)]
    return {identifier for sent in _in_time(application, calls, answer_by) for identifier in sent}


def _backoff(application: Application, message: Message, outcome: Deferred, passed: float) -> int:
    if outcome.reason == "unknown_user":
        return application.backoff.for_unknown_person(message.age(application.clock.now()), passed)
    return application.backoff.seconds(message.receive_count, outcome.retry_after, passed)


def _mapping(application: Application, began: Instant, deadline: Deadline) -> Mapping | DeferralError | None:
    """Return the configured mapping, or why there is none now; None if there is no mapping."""
    if application.config is None:
        return None
    # In a thread, as S3 may hang.
    reading = application.reporters().submit(application.config.mapping, began)
    try:
        return reading.result(timeout=deadline.remaining())
    except DeferralError as error:
        return error
    except TimeoutError:
        reading.cancel()
        return DeferralError("unavailable", "the configuration in S3 was not read in time")


def _in_time(application: Application, calls: Sequence[Callable[[], T]], answer_by: Deadline) -> list[T]:
    """Make calls to SQS side by side, and return the results of those that ended in time.

    A call that hangs must not delay the answer: what is not known to be done is reported, or raised.
    """
    executor = application.reporters()
    done, late = wait([executor.submit(call) for call in calls], timeout=answer_by.remaining())
    for future in late:  # a call that has not begun must not begin in a later invocation
        future.cancel()
    return [future.result() for future in done]


def _handle_event(application: Application, event: dict[str, Any], seconds: float) -> dict[str, Any]:
    """Return the answer for an event that invoked the function directly. If this raises, Lambda retries it twice."""
    try:
        return _record_event(application, event, seconds)
    except EventNotRecordedError:
        raise
    except Exception as error:  # noqa: BLE001 - Lambda would log its text, which may quote anything
        application.telemetry.unexpected(error)
        defect = type(error).__name__
    # Raised outside `except`, so that the original is not attached as `__context__`.
    raise EventNotRecordedError(f"unexpected {defect} in this function")


def _record_event(application: Application, event: dict[str, Any], seconds: float) -> dict[str, Any]:
    began = application.clock.now()
    answer_by = _answer_deadline(application, seconds)
    deadline = _work_deadline(application, seconds, 1)
    message = events.read_eventbridge_event(event, _mapping(application, began, deadline))
    [result] = results = application.sync.run([message], deadline, began)
    outcome = result.outcome
    if isinstance(outcome, Rejected):
        settled = any(_in_time(application, application.queues.dead_letter([(message, outcome)]), answer_by))
    elif isinstance(outcome, Deferred):
        wait_seconds = _backoff(application, message, outcome, 0.0)
        settled = any(_in_time(application, [partial(application.queues.requeue, message, wait_seconds)], answer_by))
    else:
        settled = True
    application.telemetry.message(message, result)
    _end(application, results, 0 if settled else 1)
    if not settled:
        # Lambda logs this text, so it leaves out the detail, which may hold Thrive's own words.
        raise EventNotRecordedError(f"{outcome.name}: {outcome.reason}")
    answer = {
        "outcome": outcome.name,
        "statementId": outcome.statement_id,
        "reason": outcome.reason,
        "detail": outcome.detail if isinstance(outcome, (Rejected, Deferred)) else None,
    }
    return {name: value for name, value in answer.items() if value is not None}


def _end(application: Application, results: Sequence[Result], reported: int) -> None:
    """Log and emit the counts of the invocation."""
    if application.config is not None and application.config.has_error():
        # In every invocation, and not only in the one that reads the file: the alarm stays on until it is fixed.
        application.telemetry.count("ConfigErrors")
    application.telemetry.end(results, reported=reported)


def _answer_deadline(application: Application, seconds: float) -> Deadline:
    return Deadline(application.clock, seconds - min(_ANSWER_SHARE * seconds, _ANSWER_MAX_SECONDS))


def _work_deadline(application: Application, seconds: float, messages: int) -> Deadline:
    report = min(_REPORT_SHARE * seconds, _REPORT_MAX_SECONDS + _REPORT_SECONDS_PER_MESSAGE * messages)
    return Deadline(application.clock, seconds - report)
