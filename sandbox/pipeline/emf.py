"""Reading what the function wrote: JSON log lines, among them metrics in CloudWatch's embedded metric format (EMF)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def json_lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Give every line that is a JSON object; the runtime's own lines, and files that do not exist, are passed over."""
    for path in paths:
        if path.exists():
            for line in path.read_text(errors="replace").splitlines():
                try:
                    value = json.loads(line)
                except ValueError:
                    continue
                if isinstance(value, dict):
                    yield value


def metric_sums(lines: Iterable[dict[str, Any]]) -> Counter[str]:
    """Add up every metric found in EMF lines, as CloudWatch's Sum would; a metric may hold one value or a list."""
    sums: Counter[str] = Counter()
    for line in lines:
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
            for metric in directive["Metrics"]:
                value = line[metric["Name"]]
                sums[metric["Name"]] += sum(value) if isinstance(value, list) else value
    return sums
