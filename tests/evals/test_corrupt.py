"""Wrong versions of right solutions: one slip, in the place that was asked for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from real_data import GSM8K, needs_gsm8k

from ouroloop.evals.corrupt import _slip
from ouroloop.evals.dataset import gsm8k_task, jsonl_task
from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask

TASK = jsonl_task(Path("nowhere"))
CLIPS = Problem(
    "p", "?", "72", solution="She sold 48/2 = 24 clips in May.\nTogether 48+24 = 72 clips.\n#### 72"
)


def changed(right: str, wrong: str) -> list[tuple[str, str]]:
    return [(a, b) for a, b in zip(right.splitlines(), wrong.splitlines(), strict=True) if a != b]


@pytest.mark.parametrize("seed", range(20))
def test_a_wrong_answer_is_carried_from_the_last_calculation_to_the_end(seed: int) -> None:
    wrong = TASK.corrupt(CLIPS, CLIPS.solution or "", seed) or ""
    grade = TASK.grade(CLIPS, wrong)
    assert grade.correct is False and grade.answer in ("71", "73", "62", "82")
    assert [b for _, b in changed(CLIPS.solution or "", wrong)] == [
        f"Together 48+24 = {grade.answer} clips.",
        f"#### {grade.answer}",
    ]


def test_a_wrong_step_changes_one_line_and_every_step_has_its_turn() -> None:
    texts = [
        TASK.corrupt(CLIPS, CLIPS.solution or "", seed, keep_answer=True) or ""
        for seed in range(40)
    ]
    assert all(
        TASK.grade(CLIPS, text).correct and TASK.check_steps(CLIPS, text).valid is False
        for text in texts
    )
    assert all(len(changed(CLIPS.solution or "", text)) == 1 for text in texts)
    assert {TASK.check_steps(CLIPS, text).first_wrong for text in texts} == {0, 1}


@pytest.mark.parametrize("text", ["", "no numbers", "#### none", "the answer is x"])
def test_a_text_without_a_number_to_change_gives_none(text: str) -> None:
    assert (
        TASK.corrupt(CLIPS, text, 0) is None
        and TASK.corrupt(CLIPS, text, 0, keep_answer=True) is None
    )


def test_a_number_keeps_its_length_and_its_commas() -> None:
    rng = random.Random(0)
    slips = {_slip("1,900.5", rng) for _ in range(200)}
    assert "1,900.5" not in slips and slips >= {"2,900.5", "1,800.5", "1,910.5", "1,900.4"}
    assert all(len(s) == 7 and not s.startswith("0") for s in slips)
    assert {_slip("0", rng) for _ in range(20)} == {"1"}


def test_the_world_slips_as_its_own_strategies_do_and_hides_false_values_in_right_traces() -> None:
    task = ArithmeticTask()
    for problem in task.problems("reserve")[:200]:
        wrong = task.corrupt(problem, problem.solution or "", 3)
        assert wrong is not None and task.grade(problem, wrong).answer not in (None, problem.answer)
        hidden = task.corrupt(problem, problem.solution or "", 3, keep_answer=True)
        assert (hidden is None) == (problem.metadata["strategy"] is None), problem
        if hidden is not None:
            assert len(changed(problem.solution or "", hidden)) == 1


@needs_gsm8k
def test_nearly_every_real_solution_can_be_made_wrong_in_both_ways() -> None:
    task = gsm8k_task(GSM8K / "train_first_1000.jsonl")
    reserve = task.problems("reserve")
    for keep in (False, True):
        texts = [task.corrupt(p, p.solution or "", 0, keep_answer=keep) for p in reserve]
        assert sum(text is not None for text in texts) > 0.95 * len(reserve)
        assert {
            task.grade(p, t).correct for p, t in zip(reserve, texts, strict=True) if t is not None
        } == {keep}
