"""How good the names are, where strategies are known and on hand-labelled real solutions.

docs/strategy-quality.md holds the full measurement; these are its floors.
"""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from ouroloop.monitors.strategies.strategy import CANONICALISERS
from tools.strategy_measures import (
    CHECKPOINT,
    MIXES,
    PAIRS,
    SOLUTIONS,
    draw,
    fitted,
    information,
    judge,
    pairs,
    sample,
    solutions,
    within_problems,
)

PLAN, DATAFLOW = CANONICALISERS["plan"], CANONICALISERS["dataflow"]
needs_solutions = pytest.mark.skipif(
    not SOLUTIONS.exists(),
    reason="no GSM8K files: point OUROLOOP_DATA at a folder with gsm8k/ in it",
)


@pytest.mark.slow
@pytest.mark.parametrize("slips", [0.0, 0.5, 1.0])
def test_the_plan_names_the_strategies_of_two_digit_sums(slips):
    assert (
        np.mean([information(draw(MIXES["sum2"], 400, seed, slips), PLAN) for seed in range(2)])
        >= 0.95
    )


@pytest.mark.slow
@pytest.mark.parametrize(("slips", "least"), [(0.0, 0.95), (0.5, 0.95), (1.0, 0.94)])
def test_the_plan_names_the_strategies_of_all_families(slips, least):
    assert (
        np.mean(
            [information(draw(MIXES["all families"], 1000, seed, slips), PLAN) for seed in range(5)]
        )
        >= least
    )


@pytest.mark.slow
@pytest.mark.parametrize("mix", MIXES)
def test_free_text_fitted_on_other_problems_names_the_strategies(mix):
    found = [
        information(draw(MIXES[mix], 300, seed, 0.3), fitted(MIXES[mix], seed)) for seed in range(2)
    ]
    assert np.mean(found) >= 0.85


def test_the_measure_can_fail():
    traces = draw(MIXES["sum2"], 300, 0, 0.0)
    assert information(traces, CANONICALISERS["calculations"]) < 0.2
    assert information(traces, lambda question, text: "the same") == 0
    assert information(
        traces,
        lambda question, text: next(t.program for t in traces if t.text == text),
    ) == pytest.approx(1)


@pytest.mark.slow
def test_on_the_small_models_own_samples_different_strategies_of_a_problem_have_different_names():
    if not (CHECKPOINT / "model.safetensors").exists():
        pytest.skip("the arithmetic world's checkpoint is absent")
    traces = sample(CHECKPOINT, ["sum2"], 30, 8, seed=0)
    same, other = within_problems(traces, PLAN)
    assert same >= 0.85 and other >= 0.98
    assert information(traces, PLAN) >= 0.88


def test_the_labels_are_two_samples_of_distinct_questions_about_half_of_them_the_same():
    both = [*pairs(1), *pairs(2)]
    assert [len(pairs(1)), len(pairs(2))] == [100, 50]
    assert max(Counter(pair["problem"] for pair in both).values()) == 1
    assert 0.4 <= np.mean([pair["same"] for pair in both]) <= 0.6
    assert all(pair["reason"] and len(pair["reason"]) < 120 for pair in both)
    assert not re.search(r"<<|####", PAIRS.read_text(encoding="utf-8"))


@needs_solutions
@pytest.mark.parametrize("annotated", [True, False], ids=["with notes", "without notes"])
@pytest.mark.parametrize("number", [1, 2])
def test_the_dataflow_agrees_with_the_hand_labels_on_real_solutions(number, annotated):
    rows = solutions()
    assert (
        np.mean([judge(DATAFLOW, pair, rows, annotated) == pair["same"] for pair in pairs(number)])
        >= 0.95
    )


@needs_solutions
def test_the_dataflow_beats_the_published_lists_of_equations_on_real_solutions():
    rows, both = solutions(), [*pairs(1), *pairs(2)]
    agreement = {
        key: np.mean([judge(CANONICALISERS[key], p, rows) == p["same"] for p in both])
        for key in ("dataflow", "calculations", "operators")
    }
    assert agreement["dataflow"] > agreement["operators"] > agreement["calculations"]
