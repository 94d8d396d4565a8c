"""Reading the function's output: JSON log lines, some of them metrics in CloudWatch's embedded metric format (EMF)."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def json_lines(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """Yield every line that is a JSON object; skip other lines, and files that do not exist."""
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
    """Return the sum of every metric in EMF lines, as CloudWatch computes it (a value may be a number or a list)."""
    sums: Counter[str] = Counter()
    for line in lines:
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", []):
            for metric in directive["Metrics"]:
                value = line[metric["Name"]]
                sums[metric["Name"]] += sum(value) if isinstance(value, list) else value
    return sums
