"""Calls and log bytes for a thousand records, from a cold start on, while all is well: batches of 10."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bench import contenders, events
from bench.function import running
from bench.stats import rounded

if TYPE_CHECKING:
    from bench.setting import Setting

WHO = (contenders.OURS, contenders.TAUGHT, contenders.ASYNC, contenders.NODE)
BATCH = 10


def measure(setting: Setting) -> dict[str, Any]:
    """Return for each what the services counted and what it wrote."""
    services, records = setting.services, setting.plan.calls_records
    services.set_latency(0)
    counted = {}
    for contender in setting.field.some(*WHO):
        thrive, aws = services.thrive_calls(), services.aws_calls()
        with running(contender, services, setting.folder, name=f"calls-{contender.name}") as function:
            for _ in range(records // BATCH):
                function.invoke(events.batch(BATCH))
            log_bytes = function.log_bytes()
        thrive_after, aws_after = services.thrive_calls(), services.aws_calls()
        counted[contender.name] = {
            "records": records,
            "completions": thrive_after.get("completion", 0) - thrive.get("completion", 0),
            "tokens": thrive_after.get("token", 0) - thrive.get("token", 0),
            "secrets": _secrets(aws_after) - _secrets(aws),
            "other_aws": sum(aws_after.values()) - _secrets(aws_after) - sum(aws.values()) + _secrets(aws),
            "log_bytes_per_record": rounded(log_bytes / records),
        }
    return counted


def _secrets(counts: dict[str, int]) -> int:
    return counts.get("secretsmanager.GetSecretValue", 0)
