"""JMESPath expressions over one event, with further functions and bounds on time and memory.

The author of a mapping is trusted, but may make mistakes: an expression must never hang a batch or use up its memory.
So no value may grow beyond ``MAX_VALUE_SIZE``, and the expressions of one message together take ``MAX_STEPS`` steps at
most. Steps, unlike seconds, are the same on every machine: what passes in a test passes in the function. There are no
regular expressions, as a single bad one could do both.

This relies on names of jmespath that its documentation does not mention (``visitor.TreeInterpreter``, the nodes of the
tree); ``test_jmespath_still_has_what_expressions_override`` fails when they change.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import jmespath
from jmespath import ast, functions
from jmespath.exceptions import IncompleteExpressionError, JMESPathError, JMESPathTypeError, ParseError
from jmespath.visitor import Options, TreeInterpreter

from .errors import InvalidExpressionError

MAX_EXPRESSION_LENGTH = 4096
# Levels of an expression's tree, and of a literal in it. Far below Python's own limit, which depends on the caller.
MAX_DEPTH = 100
MAX_VALUE_SIZE = 262_144
MAX_STEPS = 100_000

# Comparing, searching and copying cost a step for so many characters and elements.
_SIZE_PER_STEP = 25
# What builds new values; all other nodes select from existing ones.
_GROWING = frozenset({"function_expression", "multi_select_list", "multi_select_dict", "flatten"})
_NEAR = 20
# RFC 8259, section 6. Python's own int() and float() also take "1_000", "nan" and the digits of other scripts.
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)

_STRING: Any = {"types": ["string"]}


class EvaluationError(Exception):
    """An expression has no value for an event. The text quotes nothing of it."""


class Budget:
    """What the evaluation of one message's expressions may still cost."""

    def __init__(self) -> None:
        self.steps = 0

    def spend(self, steps: int) -> None:
        """Note steps.

        :raises EvaluationError: they are more than are left.
        """
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise EvaluationError(f"takes more than {MAX_STEPS} steps")

    def spend_on(self, value: object) -> None:
        """Note that a value is built or looked through.

        :raises EvaluationError: it is too large, or too few steps are left.
        """
        size = _size(value)
        _check_size(size)
        self.spend(size // _SIZE_PER_STEP)


class Expression:
    """One compiled expression."""

    def __init__(self, text: str) -> None:
        """Compile it.

        :raises InvalidExpressionError: says what is wrong, and where.
        """
        if len(text) > MAX_EXPRESSION_LENGTH:
            raise InvalidExpressionError(f"must be at most {MAX_EXPRESSION_LENGTH} characters long")
        self._tree = _parse(text)
        _check({"type": "expression", "children": [self._tree]}, 0)

    def search(self, value: object, budget: Budget) -> Any:
        """Return what the expression selects in ``value``, None if there is nothing.

        :raises EvaluationError: it cannot be evaluated: a function does not accept what it met, or a limit was reached.
        """
        try:
            return _Interpreter(budget).visit(self._tree, value)
        except EvaluationError:
            raise
        except JMESPathTypeError as error:
            problem = f"calls {error.function_name}() with a value of a type that it does not accept"
        except Exception:  # noqa: BLE001 - a library on data from outside, such as numbers that are too large
            problem = "cannot be evaluated"
        # Raised outside `except`: the original error holds data of the event.
        raise EvaluationError(problem)


class _Functions(functions.Functions):
    """JMESPath's functions, and ours. The interpreter checks results; what can explode is checked here, before."""

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
        if not separator:
            raise EvaluationError("calls split() with an empty separator")
        return text.split(separator)

    @functions.signature(_STRING, _STRING, _STRING)
    def _func_replace(self, text: str, old: str, new: str) -> str:
        _check_size(len(text) + text.count(old) * len(new))
        return text.replace(old, new)

    @functions.signature(_STRING, {"types": ["array-string"]})
    def _func_join(self, separator: str, parts: list[str]) -> str:
        _check_size(len(separator) * len(parts) + sum(map(len, parts)))
        return separator.join(parts)

    @functions.signature({"types": []})
    def _func_to_string(self, value: object) -> str:
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), allow_nan=False)

    @functions.signature({"types": []})
    def _func_to_number(self, value: object) -> float | None:
        if isinstance(value, str):
            number = json.loads(value) if _JSON_NUMBER.fullmatch(value) else None
            return None if isinstance(number, float) and not math.isfinite(number) else number
        return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


class _Interpreter(TreeInterpreter):
    def __init__(self, budget: Budget) -> None:
        super().__init__(Options(custom_functions=_FUNCTIONS))
        self._budget = budget

    def visit(self, node: Any, *arguments: Any, **options: Any) -> Any:
        self._budget.spend(1)
        result = super().visit(node, *arguments, **options)
        if node["type"] in _GROWING:
            self._budget.spend_on(result)
        return result

    def visit_function_expression(self, node: Any, value: object) -> Any:
        arguments = [self.visit(child, value) for child in node["children"]]
        self._budget.spend_on(arguments)
        return _FUNCTIONS.call_function(node["value"], arguments)

    def visit_comparator(self, node: Any, value: object) -> Any:
        operands = [self.visit(child, value) for child in node["children"]]
        self._budget.spend_on(operands)
        evaluated: Any = {**node, "children": [ast.literal(operand) for operand in operands]}
        return super().visit_comparator(evaluated, value)


_FUNCTIONS = _Functions()


def _check_size(size: int) -> None:
    if size > MAX_VALUE_SIZE:
        raise EvaluationError(f"builds a value of more than {MAX_VALUE_SIZE} characters")


def _size(value: object) -> int:
    """Return about how long a value is when written out: characters of strings, keys and integers, one for each value.

    A little more than the limit is returned for whatever is larger. A value that occurs twice counts twice.
    """
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
        elif isinstance(item, int):
            size += item.bit_length() * 3 // 10  # its digits, without writing out thousands of them
    return size


# ---- compiling


def _parse(text: str) -> Any:
    try:
        return jmespath.compile(text).parsed
    except IncompleteExpressionError:
        problem = "ends too early"
    except ParseError as error:
        at = error.lex_position
        near = text[at : at + _NEAR]
        problem = f"is not valid at character {at + 1}, near {near!r}" if near else "ends too early"
    except RecursionError:
        problem = "is nested too deeply"
    except (JMESPathError, ValueError, Warning):  # numbers of thousands of digits; a deprecated form, if it is refused
        problem = "is not a JMESPath expression"
    raise InvalidExpressionError(problem)


def _check(node: Any, depth: int) -> None:
    """Check what jmespath itself finds out only when it evaluates, and the depth."""
    if depth > MAX_DEPTH:
        raise InvalidExpressionError(f"must be nested at most {MAX_DEPTH} levels deep")
    kind, children = node["type"], node["children"]
    if kind == "literal":
        _check_literal(node["value"])
    if kind == "slice":
        if children[2] == 0:
            raise InvalidExpressionError("has a slice with a step of 0")
        return
    if kind == "function_expression":
        allows_reference = _check_call(node["value"], children)
    else:
        allows_reference = [False] * len(children)
    for child, is_reference in zip(children, allows_reference, strict=True):
        if is_reference != (child["type"] == "expref"):
            raise InvalidExpressionError(_REFERENCE_MISSING if is_reference else _REFERENCE_MISPLACED)
        _check(child, depth + 1)


_REFERENCE_MISSING = "calls map() or a function ending in _by() without a reference such as &name"
_REFERENCE_MISPLACED = "has a reference (&) that is no argument of map() or of a function ending in _by()"


def _check_call(name: str, arguments: list[Any]) -> list[bool]:
    """Return for each argument whether it has to be a reference to an expression."""
    function = _Functions.FUNCTION_TABLE.get(name)
    if function is None:
        raise InvalidExpressionError(f"calls {name[:64]}(), which does not exist")
    expected = function["signature"]
    is_variadic = bool(expected[-1].get("variadic"))
    if len(arguments) < len(expected) or (len(arguments) > len(expected) and not is_variadic):
        least = "at least " if is_variadic else ""
        raise InvalidExpressionError(f"calls {name}() with {len(arguments)} arguments; it takes {least}{len(expected)}")
    return [index < len(expected) and "expref" in expected[index]["types"] for index in range(len(arguments))]


def _check_literal(value: object, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise InvalidExpressionError(f"has a literal that is nested more than {MAX_DEPTH} levels deep")
    if isinstance(value, float) and not math.isfinite(value):
        raise InvalidExpressionError("has a literal that is not JSON: NaN, Infinity or a number that is too large")
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_literal(child, depth + 1)
