from __future__ import annotations

import ast
import json
import re
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from real_data import needs_gsm8k, rows

from ouroloop.evals.steps import calculation_key, calculations, check
from ouroloop.monitors.arith.numbers import spell

CASES = json.loads(
    (Path(__file__).parents[1] / "monitors" / "arith_cases.json").read_text(encoding="utf-8")
)["equations"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:40])
def test_every_known_text_is_checked_as_its_case_says(case: dict[str, Any]) -> None:
    got = check(case["text"])
    assert calculations(case["text"]) == tuple(case["equations"]), case["why"]
    assert (got.valid, got.num_steps) == (case["valid"], len(case["equations"])), case["why"]


def test_the_first_wrong_step_is_named_with_what_it_should_be() -> None:
    got = check("2+2=4\n3*3=9, so 9-1=7\n7+1=9")
    assert (got.valid, got.num_steps, got.first_wrong) == (False, 4, 2)
    assert "9-1=7" in got.reason
    assert "8" in got.reason


def test_order_spacing_commas_and_words_do_not_make_a_new_path_but_another_calculation_does() -> (
    None
):
    one = "She has 1,000 + 5 = 1005 apples. Then 2 x 3 = $6."
    two = "2*3=6\n1000+5=1005"
    assert calculation_key(one) == calculation_key(two) != ""
    assert calculation_key(one) != calculation_key(two + "\n2*3=6")
    assert calculation_key(one) != calculation_key("3*2=6\n1000+5=1005")
    assert calculation_key("I do not know.") == ""


def exact(node: ast.expr) -> Fraction:
    """The value of a parsed expression, by Python's own grammar."""
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp):
        return -exact(node.operand)
    assert isinstance(node, ast.BinOp)
    left, right = exact(node.left), exact(node.right)
    return (
        {ast.Add: left + right, ast.Sub: left - right, ast.Mult: left * right}[type(node.op)]
        if not isinstance(node.op, ast.Div)
        else left / right
    )


numbers = st.one_of(st.integers(0, 9999).map(str), st.decimals(0, 99, places=2).map(str))
expressions = st.recursive(
    numbers,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/"), inner).map(" ".join),
        inner.map(lambda e: f"({e})"),
    ),
    max_leaves=8,
).filter(lambda text: any(sign in text for sign in "+-*/"))


@given(expressions)
@example("(0) + 0")
@example("(0) / 0")
def test_the_parser_agrees_with_pythons_grammar_on_fractions(text: str) -> None:
    try:
        value = exact(ast.parse(text, mode="eval").body)
    except ZeroDivisionError:
        assert check(f"{text} = 1").valid is False
        return
    if len(spell(value)) > 25 or "/" in spell(value):
        return
    assert check(f"{text} = {spell(value)}").valid is True
    assert check(f"{text} = {spell(value + 1)}").valid is False


@given(st.text(alphabet="0123456789+-*/()=. ,%$xXab\n<>^", max_size=200))
def test_any_text_is_read_without_an_error(text: str) -> None:
    got = check(text)
    assert got.num_steps == len(calculations(text))
    assert (got.valid is None) == (got.num_steps == 0)


@pytest.mark.parametrize(
    "hostile",
    [
        "1+" * 10000,
        "(" * 20000,
        "1=1+1=" * 3000,
        "9" * 20000 + "=9+0",
        "1 a " * 5000,
        "1*" * 999 + "1=1",
        "<<" * 10000,
        "**" * 10000,
        "1 1/" * 5000,
        "1+1=2\n" * 9000,
    ],
)
def test_a_hostile_text_is_read_within_a_second_of_processor_time(hostile: str) -> None:
    start = time.process_time()
    assert check(hostile).num_steps <= 500
    assert time.process_time() - start < 1


@pytest.mark.slow
@needs_gsm8k
def test_real_solutions_are_read_and_found_right_but_for_their_own_slips() -> None:
    data = rows("train_first_1000.jsonl") + rows("test_first_660.jsonl")
    checked = [check(row["answer"]) for row in data]
    wrong = [got.reason for got in checked if got.valid is False]
    print(
        f"{sum(got.num_steps for got in checked)} steps; {len(wrong)} solutions with a wrong one:"
        f" {wrong}"
    )
    assert sum(got.valid is None for got in checked) <= 0.02 * len(data)
    assert len(wrong) <= 0.01 * len(data)


@pytest.mark.slow
@needs_gsm8k
def test_nine_in_ten_annotated_calculations_are_found_in_the_plain_prose_too() -> None:
    found = total = 0
    for row in rows("train_first_1000.jsonl"):
        for line in row["answer"].splitlines():
            noted = Counter(
                step for note in re.findall("<<(.*?)>>", line) for step in calculations(note)
            )
            read = Counter(calculations(re.sub("<<.*?>>", "", line)))
            total += noted.total()
            found += (noted & read).total()
    print(f"{found} of {total}")
    assert found >= 0.9 * total


@needs_gsm8k
def test_a_changed_result_is_caught_in_every_real_annotation() -> None:
    missed = []
    for row in rows("train_first_1000.jsonl"):
        for left, right in re.findall(r"<<([^<>=]+)=([0-9]+)>>", row["answer"]):
            wrong = f"<<{left}={int(right) + 3}>>"
            if check(wrong).valid is True:
                missed.append(wrong)
    assert not missed
