"""JMESPath expressions over one event, with further functions and a bound on time and memory.

Whoever writes a mapping is trusted, but may be wrong: an expression must never hang a batch or use up its memory. So no
value may grow beyond ``MAX_VALUE_SIZE``, and no evaluation takes more than ``MAX_STEPS`` steps. There are no regular
expressions, as a single bad one could do both.

This relies on two names of jmespath that its documentation does not mention, ``visitor.TreeInterpreter`` and
``ParsedResult.parsed``; ``test_jmespath_still_has_what_expressions_override`` fails when they change.
"""

from __future__ import annotations

from typing import Any

import jmespath
from jmespath import functions
from jmespath.exceptions import JMESPathError
from jmespath.visitor import Options, TreeInterpreter

from .errors import InvalidExpressionError

MAX_EXPRESSION_LENGTH = 4096
# Characters of strings and numbers, plus one for each element: about 256 KB as JSON.
MAX_VALUE_SIZE = 262_144
MAX_STEPS = 100_000

_STRING: Any = {"types": ["string"]}


class Expression:
    """One compiled expression."""

    def __init__(self, text: str) -> None:
        """Compile it.

        :raises InvalidExpressionError: says what is wrong, and where.
        """
        if len(text) > MAX_EXPRESSION_LENGTH:
            raise InvalidExpressionError(f"must be at most {MAX_EXPRESSION_LENGTH} characters long")
        try:
            self._tree: Any = jmespath.compile(text).parsed
            _check_functions(self._tree)
        except JMESPathError as error:
            raise InvalidExpressionError(" ".join(str(error).split())) from None
        except RecursionError:
            raise InvalidExpressionError("is nested too deeply") from None

    def search(self, value: object) -> Any:
        """Return what the expression selects in ``value``, None if there is nothing.

        :raises EvaluationError: it cannot be evaluated: a function does not accept what it met, or a limit was reached.
        """
        try:
            return _Interpreter().visit(self._tree, value)
        except EvaluationError:
            raise
        except Exception:  # noqa: BLE001 - a library on data from outside; its texts quote the data
            error = EvaluationError("cannot be evaluated")
        raise error


class EvaluationError(Exception):
    """An expression has no value for an event. The text quotes nothing of it."""


class _Functions(functions.Functions):
    """JMESPath's functions, and ours. Results are checked by the interpreter; those that can explode, before."""

    @functions.signature(_STRING)
    def _func_lower(self, text: str) -> str:
        return text.lower()

    @functions.signature(_STRING)
    def _func_upper(self, text: str) -> str:
        return text.upper()

    @functions.signature(_STRING)
    def _func_trim(self, text: str) -> str:
        return text.strip()

    @functions.signature(_STRING, _STRING)
    def _func_trim_prefix(self, text: str, prefix: str) -> str:
        return text.removeprefix(prefix)

    @functions.signature(_STRING, _STRING)
    def _func_trim_suffix(self, text: str, suffix: str) -> str:
        return text.removesuffix(suffix)

    @functions.signature(_STRING, _STRING)
    def _func_split(self, text: str, separator: str) -> list[str]:
        return text.split(separator)

    @functions.signature(_STRING, _STRING, _STRING)
    def _func_replace(self, text: str, old: str, new: str) -> str:
        _check_size(len(text) + text.count(old) * len(new))
        return text.replace(old, new)

    @functions.signature(_STRING, {"types": ["array-string"]})
    def _func_join(self, separator: str, parts: list[str]) -> str:
        _check_size(len(separator) * len(parts) + sum(map(len, parts)))
        return separator.join(parts)


class _Interpreter(TreeInterpreter):
    def __init__(self) -> None:
        super().__init__(Options(custom_functions=_Functions()))
        self._steps = 0

    def visit(self, node: Any, *arguments: Any, **options: Any) -> Any:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise EvaluationError(f"takes more than {MAX_STEPS} steps")
        result = super().visit(node, *arguments, **options)
        if node["type"] in _GROWING:
            size = _size(result)
            _check_size(size)
            self._steps += size // _SIZE_PER_STEP
        return result


# What builds new values; all other nodes select from existing ones. Large values count as several steps.
_GROWING = frozenset({"function_expression", "multi_select_list", "multi_select_dict", "flatten"})
_SIZE_PER_STEP = 100


def _check_size(size: int) -> None:
    if size > MAX_VALUE_SIZE:
        raise EvaluationError(f"a value grows beyond {MAX_VALUE_SIZE} characters")


def _size(value: Any) -> int:
    """Return how large a value is when written out, or a little more than the limit if it is larger."""
    size, left = 0, [value]
    while left and size <= MAX_VALUE_SIZE:
        item = left.pop()
        size += 1
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, dict):
            size += sum(map(len, item))
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)
    return size


def _check_functions(node: Any) -> None:
    """Check names and numbers of arguments, which jmespath itself finds out only when it evaluates."""
    if not isinstance(node, dict):
        return
    if node["type"] == "function_expression":
        function = _Functions.FUNCTION_TABLE.get(node["value"])
        if function is None:
            raise InvalidExpressionError(f"there is no function {node['value']}()")
        expected = function["signature"]
        is_variadic = bool(expected) and bool(expected[-1].get("variadic"))
        count = len(node["children"])
        if count < len(expected) or (count > len(expected) and not is_variadic):
            raise InvalidExpressionError(f"{node['value']}() takes {len(expected)} arguments, not {count}")
    for child in node["children"]:
        _check_functions(child)
