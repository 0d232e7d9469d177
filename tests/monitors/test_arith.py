"""The one reader of arithmetic: its cases, and what holds for any text."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as draw

from ouroloop.evals import steps
from ouroloop.monitors.arith.calculations import (
    calculation_key,
    calculations,
    equations,
    stated_problem,
)
from ouroloop.monitors.arith.expressions import Number, Sum, operators, parse, spelling, value
from ouroloop.monitors.arith.numbers import spell
from ouroloop.monitors.arith.tokens import Kind, tokens
from ouroloop.monitors.strategies.answers import Answer, answer_amount
from ouroloop.monitors.strategies.strategy import CANONICALISERS

CASES = json.loads((Path(__file__).parent / "arith_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", CASES["equations"], ids=lambda case: case["text"][:40])
def test_every_known_text_is_read_as_its_case_says(case):
    assert [str(found) for found in equations(case["text"])] == case["equations"], case["why"]
    own = case.get("calculations", case["equations"])
    assert [str(found) for found in calculations(case["text"])] == own, case["why"]


@pytest.mark.parametrize("case", CASES["answers"], ids=lambda case: case["text"][:40])
def test_every_known_answer_is_read_as_its_case_says(case):
    assert Answer()("", case["text"]) == case["answer"], case["why"]


def test_the_filter_and_the_strategies_ask_the_same_function_for_the_same_calculations():
    assert steps.calculation_key is calculation_key
    for case in CASES["equations"]:
        text = case["text"]
        assert CANONICALISERS["calculations"]("", text) == (calculation_key(text) or None)


def test_the_calculations_in_order_and_their_operators_come_from_the_same_reading():
    text = "first 7+5=12, then (4+3)*2=14 and 20% of 50 = 10"
    assert CANONICALISERS["calculation_list"]("", text) == "7+5=12;(4+3)*2=14;20%*50=10"
    assert CANONICALISERS["operators"]("", text) == "+|+*|*"


def test_a_note_does_not_change_what_is_calculated():
    noted = "She pays 1/2 x $10 = $<<10/2=5.0>>5. Then 5 + 20% = <<5+20*.01=5.2>>5.2"
    assert calculation_key(noted) == calculation_key(re.sub("<<.*?>>", "", noted))


def test_claimed_results_take_percent_signs_and_scale_words_for_units():
    (share,) = calculations("100% - 25% = 75%")
    assert (share.amount, spelling(share.tree)) == (75, "100-25")
    (total,) = calculations("1.5 + 2 = 3.5 million")
    assert (total.amount, str(total)) == (Fraction(7, 2), "1.5+2=3.5million")


def test_the_problem_in_signs_is_the_first_line_without_words_and_result():
    assert stated_problem("47+35\n40+30=70") == (47, 35)
    assert stated_problem("47+?=82\n47+3=50") == (47, 82)
    assert stated_problem("47+35=82") == stated_problem("add 47+35") == ()
    assert stated_problem("1,200 × 3\nx") == (1200, 3)


def test_an_answer_that_is_no_number_has_no_amount():
    assert answer_amount(r"\boxed{\frac{1}{3}}") == Fraction(1, 3)
    assert answer_amount(r"\boxed{x+1}") is None


@pytest.mark.parametrize(
    ("line", "kinds"),
    [
        ("at 6:30 a semi-automatic x-y", ["word", "clock", "word", "word", "word", "sign", "word"]),
        ("48/2=<<48/2=24>>24", ["number", "sign", "number", "sign", "note", "number"]),
        ("= 5 1/2 = 2", ["sign", "number", "number", "sign", "number", "sign", "number"]),
        ("x = 5 1/2", ["word", "sign", "number"]),
        ("$1,000.50^2", ["number", "other", "number"]),
    ],
)
def test_a_line_falls_into_tokens(line, kinds):
    assert [token.kind for token in tokens(line)] == [Kind(kind) for kind in kinds]


amounts = draw.integers(0, 999).map(lambda number: [Number(Fraction(number, 4))])
items = draw.recursive(
    amounts,
    lambda inner: draw.one_of(
        draw.tuples(inner, draw.sampled_from("+-*/"), inner).map(lambda t: [*t[0], t[1], *t[2]]),
        inner.map(lambda found: ["(", *found, ")"]),
    ),
    max_leaves=8,
)


@given(items)
def test_the_spelling_of_an_expression_is_shorter_or_equal_and_is_read_as_the_same_value(found):
    tree = parse(found)
    written = "".join(spell(i.value) if isinstance(i, Number) else i for i in found)
    assert len(spelling(tree)) <= len(written)
    result = value(tree)
    if isinstance(tree, Number) or result is None:
        return
    (equation,) = equations(f"{spelling(tree)} = 0")
    assert equation.left.values == (result,)
    assert spelling(equation.left.tree) == spelling(tree)
    assert operators(tree) == re.sub(r"[^+*/-]", "", re.sub(r"(^|[(+*/-])-", r"\1", written))


def test_brackets_that_change_nothing_leave_no_trace():
    two = Number(Fraction(2))
    assert parse([two, "+", "(", two, "+", two, ")"]) == Sum(((1, two), (1, two), (1, two)))


@given(draw.text(alphabet="0123456789+-*/()=. ,%$xXab\n<>^:½×−is plus", max_size=200))
def test_any_text_is_read_and_a_calculation_is_never_read_without_an_equation(text):
    assert len(calculations(text)) <= len(equations(text))
    assert all(operators(step.left) for step in calculations(text))
