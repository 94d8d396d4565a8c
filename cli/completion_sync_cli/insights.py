"""Searches the function's log with CloudWatch Logs Insights."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from .aws_errors import is_temporary
from .errors import WRONG, CommandError
from .formats import json_object

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mypy_boto3_logs import CloudWatchLogsClient

    from completion_sync.clock import Clock

# The most that one call of GetQueryResults returns.
MAX_LINES = 10_000
_START_WAITS = (1.0, 2.0, 5.0, 10.0)
_POLL_SECONDS, _PATIENCE_SECONDS = 1.0, 900.0
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_-]")
_ENDED = {"Failed": "it failed", "Cancelled": "someone cancelled it", "Timeout": "it took too long"}


class Log:
    """One log group."""

    def __init__(self, logs: CloudWatchLogsClient, group: str, clock: Clock) -> None:
        self._logs = logs
        self._group = group
        self._clock = clock
        # Whether a query reached the limit of lines that it returns.
        self.is_cut_off = False

    def lines(self, key: str, values: Iterable[str], since: datetime, until: datetime) -> list[dict[str, Any]]:
        """Return the log lines of messages whose ``key`` is one of these values, each with its ``time``.

        :raises CommandError: the query failed.
        """
        wanted = set(values)
        # In the query's regular expression, "." replaces every special character. The lines that it finds are compared
        # with the values below.
        pattern = "|".join(sorted(_NOT_PLAIN.sub(".", json.dumps(value)[1:-1]) for value in wanted))
        query = f'fields @timestamp, @message | filter @message like /"{key}": ?"({pattern})"/ | sort @timestamp asc'
        found = []
        for result in self._run(f"{query} | limit {MAX_LINES}", since, until):
            fields = {item.get("field"): item.get("value", "") for item in result}
            line = json_object(fields.get("@message", ""))
            if line.get(key) in wanted and "outcome" in line:
                found.append({**line, "time": _moment(fields["@timestamp"])})
        return found

    def _run(self, query: str, since: datetime, until: datetime) -> list[Any]:
        started = self._start(query, since, until)
        waited = 0.0
        try:
            while True:
                answer = self._logs.get_query_results(queryId=started)
                status = answer["status"]
                if status == "Complete":
                    self.is_cut_off = self.is_cut_off or len(answer["results"]) >= MAX_LINES
                    return answer["results"]
                if status in _ENDED or waited > _PATIENCE_SECONDS:
                    reason = _ENDED.get(status, "it takes too long")
                    text = f"The log query returned no result: {reason}."
                    raise CommandError(text, "Choose a shorter time, such as --since 24h.", status=WRONG)
                self._clock.sleep(_POLL_SECONDS)
                waited += _POLL_SECONDS
        except KeyboardInterrupt:
            # A query that keeps running keeps costing.
            self._logs.stop_query(queryId=started)
            raise

    def _start(self, query: str, since: datetime, until: datetime) -> str:
        for wait in (*_START_WAITS, None):
            try:
                return self._logs.start_query(
                    logGroupName=self._group,
                    startTime=int(since.timestamp()),
                    # Both ends are included.
                    endTime=int(until.timestamp()),
                    queryString=query,
                    limit=MAX_LINES,
                )["queryId"]
            except ClientError as error:
                # Too many queries are running in the account.
                if wait is None or not is_temporary(error):
                    raise
                self._clock.sleep(wait)
        raise AssertionError  # the last attempt has returned or raised


def _moment(text: str | None) -> datetime:
    """Parse ``2026-01-31 09:00:00.000``, which is UTC."""
    return datetime.fromisoformat(text or "").replace(tzinfo=UTC)
