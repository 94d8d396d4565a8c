"""What CloudWatch makes of an alarm and its metrics, minute by minute.

After three pages of the CloudWatch user guide: "Alarm evaluation" (every minute, over periods that end at that minute),
"Configuring how CloudWatch alarms treat missing data" (more periods are read than evaluated, and the newest existing
datapoints count), and "Using math expressions with CloudWatch metrics" (only what the template uses). Metrics are taken
to arrive at once; in AWS everything happens some minutes later.
"""

from __future__ import annotations

import ast
import json
import operator
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

DAY = 86_400

_STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "Average": lambda values: sum(values) / len(values),
    "Maximum": max,
    "Minimum": min,
    "SampleCount": lambda values: float(len(values)),
    "Sum": sum,
}
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanOrEqualToThreshold": operator.le,
    "LessThanThreshold": operator.lt,
}


class Change(NamedTuple):
    """A change of state, at the end of the given number of minutes."""

    minute: int
    state: str


class _Point(NamedTuple):
    """A datapoint; ``origin`` is the index of the oldest period that it was computed from."""

    value: float
    origin: int


_Series = list["_Point | None"]


@dataclass
class Metrics:
    """Values by metric and by the minute in which they were reported."""

    _values: dict[str, dict[int, list[float]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def report(self, minute: int, namespace: str, name: str, dimensions: Mapping[str, Any], *values: float) -> None:
        """Report values of a metric; dimensions are values or references, as in the transformed template."""
        self._values[_key(namespace, name, dimensions)][minute].extend(values)

    def datapoints(self, metric: Mapping[str, Any], stat: str, period: int, phase: int, minutes: int) -> _Series:
        """Return the statistic of each period of ``period`` minutes, the first one ending at minute ``phase``."""
        dimensions = {item["Name"]: item["Value"] for item in metric.get("Dimensions", [])}
        reported = self._values.get(_key(metric["Namespace"], metric["MetricName"], dimensions), {})
        series: _Series = []
        for end in range(phase, minutes + 1, period):
            values = [value for minute in range(end - period, end) for value in reported.get(minute, ())]
            series.append(_Point(_STATISTICS[stat](values), len(series)) if values else None)
        return series


def changes(alarm: Mapping[str, Any], metrics: Metrics, minutes: int, *, extra: int = 2) -> list[Change]:
    """Return every change of an alarm's state within ``minutes``, from OK or INSUFFICIENT_DATA on.

    :param alarm: the properties of an ``AWS::CloudWatch::Alarm``, references to resources unresolved
    :param extra: how many periods CloudWatch reads beyond the evaluated ones. AWS gives the number for one example only
        (2 for 3 periods of 5 minutes)
    """
    periods = int(alarm["EvaluationPeriods"])
    needed = int(alarm.get("DatapointsToAlarm", periods))
    seconds = _period(alarm)
    if periods * seconds > DAY:
        raise ValueError("an alarm over more than a day is evaluated once an hour, which this does not do")
    period = seconds // 60
    breaches, threshold = _COMPARISONS[alarm["ComparisonOperator"]], float(alarm["Threshold"])
    series = [_watched(alarm, metrics, period, phase, minutes) for phase in range(period)]
    state, found = "OK", []
    for minute in range(1, minutes + 1):
        newest = minute // period  # the index, in its phase, of the period that ends now
        oldest = max(0, newest - periods - extra + 1)
        read = series[minute % period][oldest : newest + 1]
        existing = [breaches(point.value, threshold) for point in read if point and point.origin >= oldest]
        after = _state(existing, periods, needed, alarm.get("TreatMissingData", "missing"), state)
        if after != state:
            found.append(Change(minute, after))
            state = after
    return found


def _state(existing: list[bool], periods: int, needed: int, missing: str, state: str) -> str:
    """Return the state that follows from the existing datapoints, oldest first; True is a breaching one."""
    if len(existing) >= periods:
        return "ALARM" if sum(existing[-periods:]) >= needed else "OK"
    if missing == "notBreaching":
        return "ALARM" if sum(existing) >= needed else "OK"
    if missing == "breaching":
        return "ALARM" if sum(existing) + periods - len(existing) >= needed else "OK"
    if missing == "ignore":
        if sum(existing) >= needed:
            return "ALARM"
        return state if all(existing) else "OK"
    raise ValueError(f"TreatMissingData {missing} is not evaluated here")


def _period(alarm: Mapping[str, Any]) -> int:
    """Return an alarm's period in seconds."""
    if "Metrics" not in alarm:
        return int(alarm["Period"])
    (seconds,) = {int(query["MetricStat"]["Period"]) for query in alarm["Metrics"] if "MetricStat" in query}
    return seconds


def _watched(alarm: Mapping[str, Any], metrics: Metrics, period: int, phase: int, minutes: int) -> _Series:
    """Return the datapoints that an alarm compares with its threshold."""
    if "Metrics" not in alarm:
        return metrics.datapoints(alarm, alarm["Statistic"], period, phase, minutes)
    queries = {query["Id"]: query for query in alarm["Metrics"]}

    def named(name: str) -> Any:
        query = queries[name]
        if "Expression" in query:
            return _computed(ast.parse(query["Expression"], mode="eval").body, named)
        stat = query["MetricStat"]
        return metrics.datapoints(stat["Metric"], stat["Stat"], period, phase, minutes)

    (watched,) = (query["Id"] for query in alarm["Metrics"] if query["ReturnData"])
    series: _Series = named(watched)
    return series


def _computed(node: ast.expr, named: Callable[[str], Any]) -> Any:
    """Return the value of an expression, a series or a number; metric math's syntax is Python's as far as used here."""
    result: Any
    match node:
        case ast.Constant(value=int(number)):
            result = float(number)
        case ast.Name(id=name):
            result = named(name)
        case (
            ast.BinOp(left=left, op=operation, right=right)
            | ast.Compare(left=left, ops=[operation], comparators=[right])
        ):
            result = _pointwise(_OPERATORS[type(operation)], _computed(left, named), _computed(right, named))
        case ast.Call(func=ast.Name(id="IF"), args=arguments):
            result = _if(*(_computed(argument, named) for argument in arguments))
        case ast.Call(func=ast.Name(id="FILL"), args=[filled, ast.Name(id="REPEAT")]):
            result = _repeat(_computed(filled, named))
        case _:
            raise ValueError(f"not evaluated here: {ast.unparse(node)}")
    return result


_OPERATORS: dict[type[ast.AST], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Div: operator.truediv,
    ast.Gt: operator.gt,
    ast.Mult: operator.mul,
    ast.Sub: operator.sub,
}


def _pointwise(operation: Callable[[float, float], float], left: Any, right: Any) -> Any:
    """Combine two values; where one of two series has no datapoint, it counts as 0."""
    if isinstance(left, float) and isinstance(right, float):
        return float(operation(left, right))
    length = len(left if isinstance(left, list) else right)
    result: _Series = []
    for index in range(length):
        one, other = _at(left, index), _at(right, index)
        existing = [point.origin for side, point in ((left, one), (right, other)) if isinstance(side, list) and point]
        combined = operation(one.value if one else 0.0, other.value if other else 0.0)
        result.append(_Point(float(combined), min(existing)) if existing else None)
    return result


def _if(condition: _Series, then: Any, otherwise: Any = None) -> _Series:
    """Choose by a series; without a third argument, or where it has no datapoint, there is none in the result."""
    result: _Series = []
    for index, point in enumerate(condition):
        chosen = None
        if point:
            chosen = (_at(then, index) or _Point(0.0, index)) if point.value else _at(otherwise, index)
        result.append(_Point(chosen.value, min(point.origin, chosen.origin)) if point and chosen else None)
    return result


def _repeat(series: _Series) -> _Series:
    """Fill each gap with the datapoint before it."""
    result: _Series = []
    for point in series:
        result.append(point or (result[-1] if result else None))
    return result


def _at(value: Any, index: int) -> _Point | None:
    if isinstance(value, float):
        return _Point(value, index)
    return value[index] if value else None


def _key(namespace: str, name: str, dimensions: Mapping[str, Any]) -> str:
    return json.dumps([namespace, name, sorted(dimensions.items(), key=lambda item: item[0])])
