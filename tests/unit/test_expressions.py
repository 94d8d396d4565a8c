"""JMESPath in a mapping: our functions, what is refused when it is compiled, and the bounds on time and memory."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import jmespath
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jmespath.visitor import TreeInterpreter

from completion_sync import expressions
from completion_sync.errors import InvalidExpressionError
from completion_sync.expressions import MAX_STEPS, MAX_VALUE_SIZE, Budget, EvaluationError, Expression


def search(text: str, value: object) -> Any:
    return Expression(text).search(value, Budget())


FUNCTIONS = {
    "lower('ÀB')": "àb",
    "upper('straße')": "STRASSE",
    "trim('\u00a0 a b\t\n')": "a b",
    "trim_prefix('mailto:a', 'mailto:')": "a",
    "trim_prefix('a', 'mailto:')": "a",
    "trim_suffix('a.xml', '.xml')": "a",
    "trim_suffix('a', '')": "a",
    "split('a/b//c', '/')": ["a", "b", "", "c"],
    "split('a/b', '/')[-1]": "b",
    "split('', '/')": [""],
    "replace('a-b-c', '-', '')": "abc",
    "replace('ab', '', '-')": "-a-b-",
    "join('/', ['a', 'b'])": "a/b",
    "to_string(`12`)": "12",
    'to_string(`[1, "é"]`)': '[1,"\\u00e9"]',
    "to_number('12')": 12,
    "to_number('-1.5e3')": -1500.0,
    "to_number(`7`)": 7,
    "to_number(`true`)": None,
    "to_number(`[1]`)": None,
    "length(`" + "[" * 100 + "1" + "]" * 100 + "`)": 1,
    **{f"to_number('{text}')": None for text in ["1e999", "nan", "inf", "1_000", "\u0661", " 1", "01", ""]},
    f"to_number('{'9' * 3000}')": int("9" * 3000),
}


@pytest.mark.parametrize(("text", "expected"), FUNCTIONS.items())
def test_functions_return_what_the_guide_says(text, expected):
    result = search(text, {})
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize("text", ["lower(a)", "upper(a)", "trim(a)", "length(a)", "sort(a)", "map(&@, a)"])
def test_a_function_that_does_not_accept_what_it_meets_fails_with_its_name_and_without_the_value(text):
    problem = rf"calls {text.partition('(')[0]}\(\) with a value of a type that it does not accept"
    with pytest.raises(EvaluationError, match=problem) as failed:
        search(text, {"a": 7})
    assert failed.value.__context__ is None
    assert failed.value.__cause__ is None


REFUSED = {
    "lower(": "ends too early",
    "a.b.": "ends too early",
    "a b": "is not valid at character 3, near 'b'",
    "a.'b'": "is not valid at character 3, near",
    "a ~ b": "is not valid at character 3, near '~ b'",
    "a ~ " + "b" * 50: f"is not valid at character 3, near '~ {'b' * 18}'",
    "'abc": 'is not valid at character 1, near "\'abc"',
    '`"\\u`': "is not valid at character 1, near",
    "": "is not",
    "unknown(a)": "calls unknown(), which does not exist",
    "lower(a, b)": "calls lower() with 2 arguments; it takes 1",
    "replace(a, b)": "calls replace() with 2 arguments; it takes 3",
    "merge()": "calls merge() with 0 arguments; it takes at least 1",
    "a[::0]": "has a slice with a step of 0",
    "&a": "has a reference (&)",
    "[&a]": "has a reference (&)",
    "to_string(&a)": "has a reference (&)",
    "a || not_null(&b)": "has a reference (&)",
    "sort_by(a, b)": "calls map() or a function ending in _by() without a reference",
    "map(a, b)": "calls map() or a function ending in _by() without a reference",
    "`NaN`": "has a literal that is not JSON",
    'a == `[{"x": [-Infinity]}]`': "has a literal that is not JSON",
    "`1e999`": "has a literal that is not JSON",
    "`" + "[" * 101 + "1" + "]" * 101 + "`": "has a literal that is nested more than 100 levels deep",
    "`" + "[" * 2000 + "]" * 2000 + "`": "is nested",  # which of the two limits is met depends on Python
    "!" * 100 + "a": "must be nested at most 100 levels deep",
    "||".join("a" * 101): "must be nested at most 100 levels deep",
    "[" * 2000 + "a" + "]" * 2000: "is nested too deeply",
    "a" * 4097: "must be at most 4096 characters long",
}


@pytest.mark.parametrize(("text", "problem"), REFUSED.items(), ids=lambda text: text[:30])
def test_a_broken_expression_is_refused_with_what_is_wrong_and_where(text, problem):
    with pytest.raises(InvalidExpressionError) as refused:
        Expression(text)
    assert str(refused.value).startswith(problem)
    assert len(str(refused.value)) < 200


def test_an_expression_as_deep_as_allowed_is_evaluated_far_below_the_limit_of_recursion():
    deep = "a"
    for _ in range(32):
        deep = f"map(&{deep}, [@, @])"
    assert Expression("!" * 99 + "a").search({"a": 1}, Budget()) is False
    with pytest.raises(EvaluationError, match="steps"):
        search(deep, {"a": 1})
    assert search("||".join("a" * 100), {"a": 1}) == 1


# ---- bounds

LONG = "a" * 250_000
EVENT: dict[str, Any] = {
    "text": LONG,
    "wide": "é" * 250_000,
    "pairs": ",".join("😀" for _ in range(50_000)),
    "digits": int("9" * 4000),
    "numbers": list(range(30_000)),
    "items": [{"k": str(i), "v": i} for i in range(8_000)],
    "one": [[i, [i]] for i in range(12_000)],
    "other": [[i, [i]] for i in range(12_000)],
    "object": {str(i): i for i in range(15_000)},
    "keys": {"k" * 4000: 1},
}
DOUBLE = "|[@,@]" * 16
BOMBS = {
    "doubled": f"@{DOUBLE}|to_string(@)",
    "doubled-numbers-of-thousands-of-digits": f"[digits,digits]{DOUBLE}|to_string(@)",
    "doubled-and-flattened": "[digits]" + "|[@,@,@,@,@,@,@,@][]" * 6 + "|to_string(@)",
    "doubled-and-compared": f"[one]{DOUBLE}|[0]==[1]",
    "doubled-objects-with-long-keys": f"[keys,keys]{'|[@,@]' * 13}|to_string(@)",
    "joined-with-a-long-separator": f"join('{'a' * 4000}', split(pairs, ','))",
    "joined-to-itself": "join('', [text, text])",
    "replaced-by-much": f"replace(text, 'a', '{'b' * 1000}')",
    "replaced-nothing-by-something": "replace(text, '', 'aa')",
    "capitals": "upper(wide)|[@,@]",
    "strings-in-a-projection": "items[*].join('', [k,k,k,k,k,k,k,k])|join('',@)|[@,@,@,@,@,@,@,@]",
    "nested-projections": "numbers[*].[@,@]|[*].[@,@]|[*].[@,@]",
    "projections-of-flattened": "numbers[].[@][].[@][].[@][].[@]",
    "map-over-a-literal": f"numbers[*].contains(`{json.dumps(list(range(700)))}`, @)",
    "comparisons": "||".join(["one==other && z"] * 95),
    "searches": "||".join(["contains(one,`1`) && z"] * 95),
    "sorted-by-built-keys": "sort_by(items, &join('', [k,k,k,k,k,k,k,k]))|sort_by(@, &to_string(@))|sort_by(@, &k)",
    "merged": "items[*].merge(@,@,@,@)|[*].merge(@,@,@,@)|[*].to_string(@)",
    "split-again-and-again": "[" + ",".join(["split(pairs,',')"] * 50) + "]",
    "values-of-values": "[object.*.[@,@], object.*.[@,@], object.*.[@,@]]",
    "written-again-and-again": "||".join(["to_string(items)==k"] * 95),
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_an_expression_that_explodes_ends_at_a_limit(text):
    budget = Budget()
    with pytest.raises(EvaluationError, match=r"steps|builds a value of more than"):
        Expression(text).search(EVENT, budget)
    # What had been counted when it ended, and at most one value more.
    assert budget.steps <= MAX_STEPS + MAX_VALUE_SIZE


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in BOMBS
        if name.startswith(("doubled-numbers", "doubled-objects", "joined-with", "replaced-by", "split"))
    ],
)
def test_an_expression_that_explodes_takes_bounded_memory(name):
    expression = Expression(BOMBS[name])
    tracemalloc.start()
    try:
        with pytest.raises(EvaluationError):
            expression.search(EVENT, Budget())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 64_000_000


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sum([digits, `0.5`])", "cannot be evaluated"),
        ("avg([digits])", "cannot be evaluated"),
        ("ceil(huge)", "cannot be evaluated"),
        ("to_string(huge)", "cannot be evaluated"),
        ("split(text, '')", "calls split() with an empty separator"),
    ],
)
def test_what_python_cannot_compute_fails_without_the_value(text, problem):
    with pytest.raises(EvaluationError) as failed:
        search(text, EVENT | {"huge": float("inf")})
    assert str(failed.value) == problem


def test_one_message_has_one_budget():
    expression = Expression("items[?v > `7000`] | length(@)")
    budget = Budget()
    assert expression.search(EVENT, budget) == 999
    assert expression.search(EVENT, budget) == 999
    with pytest.raises(EvaluationError, match=f"takes more than {MAX_STEPS} steps"):
        expression.search(EVENT, budget)


def test_a_usual_mapping_of_a_large_event_is_far_from_the_limit():
    budget = Budget()
    event = {"actors": [{"id": str(i), "mail": f"mailto:{i}@example.com"} for i in range(3000)], "verb": "done"}
    text = "actors[?ends_with(mail, '@example.com') && id == '2999'].mail | [0] | trim_prefix(@, 'mailto:') | upper(@)"
    assert Expression(text).search(event, budget) == "2999@EXAMPLE.COM"
    assert budget.steps < MAX_STEPS / 2


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.floats() | st.sampled_from(["", "a", "ab", "é"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abk"), inner, max_size=3),
    max_leaves=12,
)
ONE_ARGUMENT, TWO_ARGUMENTS = (
    [
        name
        for name, function in expressions._Functions.FUNCTION_TABLE.items()
        if len(function["signature"]) == count and not any("expref" in part["types"] for part in function["signature"])
    ]
    for count in (1, 2)
)
LEAVES = ["@", "a", "b.a", "k[0]", "*", "[]", "a[*]", "[1:]", "[?a]", "`0`", '`[1,"a"]`', "'a'", "a[?@>`1`]", "[-1]"]
EXPRESSIONS = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.builds("({})|({})".format, inner, inner),
        st.builds("[{}, {}]".format, inner, inner),
        st.builds("{{x: {}, y: {}}}".format, inner, inner),
        st.builds("({}) {} ({})".format, inner, st.sampled_from(["==", "!=", "<", ">=", "&&", "||"]), inner),
        st.builds("!({})".format, inner),
        st.builds("{}({})".format, st.sampled_from(ONE_ARGUMENT), inner),
        st.builds("{}({}, {})".format, st.sampled_from(TWO_ARGUMENTS), inner, inner),
        st.builds("replace({}, {}, {})".format, inner, inner, inner),
        st.builds("map(&({}), {})".format, inner, inner),
        st.builds("{}({}, &({}))".format, st.sampled_from(["sort_by", "min_by", "max_by"]), inner, inner),
    ),
    max_leaves=12,
)  # fmt: skip


@given(EXPRESSIONS, JSON_VALUES)
@settings(deadline=None, max_examples=300)
def test_any_expression_on_any_value_returns_json_or_fails(text, value):
    before = repr(value)
    with suppress(EvaluationError):
        json.dumps(search(text, value))
    assert repr(value) == before, "the event has been changed"


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # a literal that is not JSON
@given(st.text(alphabet=st.sampled_from("ab.[]*?@&|!=<>(){},:'`\"\\-019 \n~é\0")) | st.text())
@settings(deadline=None, max_examples=500)
def test_any_text_is_compiled_or_refused(text):
    with suppress(InvalidExpressionError, EvaluationError):
        search(text, {"a": [1, "b"]})


@pytest.mark.parametrize(
    "text", ["a.b[0]", "a[?b > `1`].c", "sort_by(a, &b)[*].c", "{x: a, y: length(a)}", "a[1:]", "*.b"]
)
def test_what_we_override_changes_no_result(text):
    value = {"a": [{"b": 2, "c": "x"}, {"b": 1, "c": "y"}], "z": {"b": 3}}
    assert search(text, value) == jmespath.search(text, value)


def test_jmespath_still_has_what_expressions_override():
    tree = jmespath.compile("a == lower(`1`) || sort_by(@, &b) || a[::2]").parsed
    assert tree["type"] == "or_expression"
    assert {"visit", "visit_function_expression", "visit_comparator"} <= set(dir(TreeInterpreter))
    seen = []

    def walk(node):
        seen.append(node["type"])
        for child in node["children"]:
            if isinstance(child, dict):
                walk(child)

    walk(tree)
    assert {"comparator", "function_expression", "literal", "expref", "slice", "field"} <= set(seen)
    assert {"function", "signature"} == set(expressions._Functions.FUNCTION_TABLE["lower"])
    assert set(jmespath.functions.Functions.FUNCTION_TABLE) < set(expressions._Functions.FUNCTION_TABLE)
