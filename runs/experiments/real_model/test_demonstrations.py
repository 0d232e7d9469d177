"""Demonstrations in several ways: what each writes, that all are right, and what is turned away."""

import json
import random
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest

from ouroloop.evals.grading import grade
from ouroloop.evals.steps import check
from ouroloop.monitors.strategies.plans import Dataflow
from runs.experiments.real_model import data, demonstrations, ways

needs_data = pytest.mark.skipif(
    not data.TRAIN.exists(),
    reason="no word problems: point OUROLOOP_DATA at a folder with wordproblems/ in it",
)


def row(formula, answer, question="A question with 36 and 73 in it?", name="p"):
    solution = f"{formula} = {answer}. The answer is {answer}."
    return {"id": name, "question": question, "answer": answer, "solution": solution}


# -- ways -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "operation", "equations"),
    [
        ("by_place", "36+73", "36+70 = 106, 106+3 = 109"),
        ("by_place", "84-46", "84-40 = 44, 44-6 = 38"),
        ("by_place", "34*6", "6*30 = 180, 6*4 = 24, 180+24 = 204"),
        ("both_by_place", "36+73", "30+70 = 100, 6+3 = 9, 100+9 = 109"),
        ("both_by_place", "84-46", ""),
        ("over_round_number", "84-46", "84-50 = 34, 34+4 = 38"),
        ("over_round_number", "48-46", ""),
        ("over_round_number", "8+5", "8+2 = 10, 10+3 = 13"),
        ("over_round_number", "13-5", "13-3 = 10, 10-2 = 8"),
        ("over_round_number", "7+2", ""),
        ("repeated", "6*3", "6+6+6 = 18"),
        ("repeated", "6*1", ""),
        ("repeated", "1.5*2", "1.5+1.5 = 3"),
        ("backwards", "10-8", "8+2 = 10"),
        ("backwards", "48/12", "12*4 = 48"),
        ("backwards", "7/2", ""),
        ("in_parts", "276/12", "240/12 = 20, 36/12 = 3, 20+3 = 23"),
        ("in_parts", "48/12", ""),
    ],
)
def test_each_way_writes_its_own_equations_or_none_where_it_does_not_fit(way, operation, equations):
    tree = ways.parse(operation)
    found = ways.WAYS[way](tree.sign, tree.left, tree.right)
    assert ", ".join(f"{left} = {ways.spell(amount)}" for left, amount in found) == equations


@pytest.mark.parametrize("text", ["3(75+15)", "2**3", "abc", "12,000+1", "f(3)", "1+", "-3+5", ""])
def test_what_is_no_plain_formula_is_not_read(text):
    assert ways.parse(text) is None


def random_tree(rng, depth):
    if depth == 0 or rng.random() < 0.3:
        return Fraction(rng.randint(1, 60))
    return ways.Operation(
        rng.choice("+-*/"), random_tree(rng, depth - 1), random_tree(rng, depth - 1)
    )


def test_a_formula_is_written_with_the_brackets_that_keep_its_value():
    rng = random.Random(1)
    for _ in range(500):
        tree = random_tree(rng, 3)
        assert ways.parse(ways.write(tree)) is not None
        try:
            wanted = ways.value(tree)
        except ZeroDivisionError:
            continue
        assert ways.value(ways.parse(ways.write(tree))) == wanted


def test_another_order_has_the_same_value_and_takes_no_term_away_first():
    rng = random.Random(2)
    seen = Counter()
    for _ in range(500):
        tree = random_tree(rng, 3)
        try:
            wanted = ways.value(tree)
            assert ways.value(demonstrations.reordered(tree, rng)) == wanted
        except ZeroDivisionError:
            continue
    for _ in range(50):
        seen[ways.write(demonstrations.reordered(ways.parse("9-4+2"), rng))] += 1
    assert set(seen) == {"9-4+2", "9+2-4", "2+9-4", "2-4+9"}


# -- demonstrations ---------------------------------------------------------------------------


def test_a_problem_gets_several_checked_solutions_the_same_for_the_same_seed():
    problem = row("(13-4)*4", "36")
    found = demonstrations.demonstrations(problem, seed=0)
    assert found == demonstrations.demonstrations(problem, seed=0)
    assert any(found != demonstrations.demonstrations(problem, seed=s) for s in range(1, 6))
    assert 2 < len(found) <= demonstrations.MOST
    for each in found:
        assert check(each.text).valid and grade("36", each.text).correct


def test_steps_are_written_with_their_results():
    texts = {
        each.text
        for seed in range(20)
        for each in demonstrations.demonstrations(row("(13-4)*4", "36"), seed)
    }
    assert "13-4 = 9. 9*4 = 36. The answer is 36." in texts
    assert "(13-4)*4 = 36. The answer is 36." in texts
    assert "First, 13-4 = 9. Then 9*4 = 36. The answer is 36." in texts


@pytest.mark.parametrize(
    "problem",
    [
        row("36+73", "110"),  # the formula does not give the answer
        row("3(75+15)", "270"),
        row("7/3", "2.33"),  # no finite decimals, so no exact step
        row("4-9", "-5"),
        row("5/0", "0"),
        {"id": "p", "question": "How many?", "answer": "3"},
    ],
)
def test_a_problem_without_a_sound_formula_has_no_demonstration_and_stays_a_question(problem):
    assert demonstrations.demonstrations(problem, 0) == []
    (written,) = demonstrations.rows([json.dumps(problem)], seed=0)
    assert written["question"] == problem["question"] and "solution" not in written


def test_a_wrong_step_or_a_wrong_answer_is_turned_away():
    assert demonstrations.is_right("3+4 = 7. The answer is 7.", "7")
    assert not demonstrations.is_right("3+4 = 8. 8-1 = 7. The answer is 7.", "7")
    assert not demonstrations.is_right("3+4 = 7. The answer is 7.", "8")
    assert not demonstrations.is_right("It is seven. The answer is 7.", "7")


@pytest.mark.slow
@needs_data
def test_asdiv_gets_ways_that_dataflow_tells_apart(tmp_path):
    written = data.write_file(data.TRAIN, tmp_path / "problems.jsonl")
    rows = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()]
    shown = [each for each in rows if "solutions" in each]
    assert len(rows) == 1758 and len(shown) > 1200
    names = [
        len({Dataflow()(each["question"], text) for text in each["solutions"]}) for each in shown
    ]
    assert np.mean(names) > 2, "formulas alone leave one way for each problem"
    assert all(each["solution"] in each["solutions"] for each in shown)
