"""Evaluates resource policies: as much of IAM's language as the policies of queues, topics and keys use."""

from __future__ import annotations

import fnmatch
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# How each condition operator compares. In the Arn and Like ones, * and ? are wildcards.
_OPERATORS = {
    "stringequals": lambda value, pattern: value == pattern,
    "stringlike": fnmatch.fnmatchcase,
    "arnequals": fnmatch.fnmatchcase,
    "arnlike": fnmatch.fnmatchcase,
}


class Policy:
    """A resource policy."""

    def __init__(self, text: str | None) -> None:
        """:param text: JSON, as AWS returns it; None or empty if there is no policy."""
        document = json.loads(text) if text else {}
        self._statements: list[dict[str, Any]] = _listed(document.get("Statement"))

    def admits(self, service: str, action: str, context: Mapping[str, str]) -> bool:
        """Return whether a service may perform an action.

        :param service: such as ``events.amazonaws.com``.
        :param context: the request's condition keys, such as ``aws:SourceArn``, in lower case.
        """
        matching = [
            statement["Effect"]
            for statement in self._statements
            if _names(statement, service) and _acts(statement, action) and _holds(statement, context)
        ]
        return "Allow" in matching and "Deny" not in matching

    def is_open(self, action: str) -> bool:
        """Return whether a statement allows everyone to perform an action, without a condition."""
        return any(
            statement["Effect"] == "Allow"
            and not statement.get("Condition")
            and "*" in _principals(statement)
            and _acts(statement, action)
            for statement in self._statements
        )

    @property
    def requires_tls(self) -> bool:
        """Whether requests without TLS are denied."""
        return any(
            statement["Effect"] == "Deny"
            and str(statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport", "")).lower() == "false"
            for statement in self._statements
        )


def _principals(statement: dict[str, Any]) -> set[str]:
    principal = statement.get("Principal")
    if isinstance(principal, dict):
        return {name for names in principal.values() for name in _listed(names)}
    return set(_listed(principal))


def _names(statement: dict[str, Any], service: str) -> bool:
    return bool(_principals(statement) & {"*", service})


def _acts(statement: dict[str, Any], action: str) -> bool:
    patterns = _listed(statement.get("Action"))
    return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def _holds(statement: dict[str, Any], context: Mapping[str, str]) -> bool:
    """Return whether all conditions hold; an unknown one does not, in an Allow or a Deny."""
    for name, keys in statement.get("Condition", {}).items():
        compare = _OPERATORS.get(name.lower())
        for key, patterns in keys.items():
            value = context.get(key.lower())
            if compare is None or value is None or not any(compare(value, pattern) for pattern in _listed(patterns)):
                return False
    return True


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
