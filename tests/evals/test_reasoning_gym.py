from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

pytest.importorskip("reasoning_gym", reason="needs the extra `verify`")

from ouroloop.evals.errors import DataError
from ouroloop.evals.questions import normalised
from ouroloop.evals.reasoning_gym_task import SEEDS, ReasoningGymTask

# The library takes seconds to import, here and in the worker.
pytestmark = pytest.mark.slow
SETS = {
    "chain_sum": {"min_digits": 1, "max_digits": 2, "max_terms": 3},
    "gsm_symbolic": {},
    "word_sorting": {},
    "fraction_simplification": {},
    "countdown": {},
}


@pytest.fixture(scope="module")
def task() -> Iterator[ReasoningGymTask]:
    made = ReasoningGymTask(SETS, train_size=60, heldout_size=20, reserve_size=20)
    yield made
    made._sandbox.close()


def test_no_question_occurs_twice_and_splits_are_far_apart(task: ReasoningGymTask) -> None:
    problems = [problem for split in SEEDS for problem in task.problems(split)]
    assert (
        len({normalised(problem.question) for problem in problems})
        == len(problems)
        == len({problem.id for problem in problems})
        > 400
    )
    starts = sorted(SEEDS.values())
    assert all(later - earlier >= 10**7 for earlier, later in itertools.pairwise(starts))
    assert [problem.id for problem in task.problems("train")] == [
        problem.id for problem in ReasoningGymTask(SETS, 60, 20, 20).problems("train")
    ]


def test_small_sets_do_not_leak_between_splits() -> None:
    problems = ReasoningGymTask(
        {"chain_sum": {"min_digits": 1, "max_digits": 1, "min_terms": 2, "max_terms": 2}},
        500,
        100,
        50,
    )
    train, heldout = (
        {p.question for p in problems.problems(split)} for split in ("train", "heldout")
    )
    assert train and heldout and not train & heldout


def test_every_gold_answer_is_accepted(task: ReasoningGymTask) -> None:
    for problem in task.problems("heldout"):
        assert (
            task.grade(problem, f"Let me see.\nThe answer is: {problem.answer}").correct is True
        ), problem


def test_partial_credit_lost_signs_and_first_numbers_are_not_accepted(
    task: ReasoningGymTask,
) -> None:
    for problem in task.problems("train"):
        if problem.family in ("chain_sum", "gsm_symbolic"):
            value = int(float(problem.answer or "nan"))
            assert task.grade(problem, f"answer {value:,}").correct is True
            for wrong in (
                f"1{abs(value)}",
                str(-value - 1),
                str(value + 1),
                f"{value} {value + 1} {value + 2}",
                "1 2 3 4 5 6 7 8 9",
            ):
                assert task.grade(problem, f"answer {wrong}").correct is False, (
                    problem.answer,
                    wrong,
                )
            if value:
                assert task.grade(problem, f"answer {-value}").correct is False


def test_another_right_answer_than_the_stored_one_is_accepted_by_the_sets_own_rule(
    task: ReasoningGymTask,
) -> None:
    problem = next(p for p in task.problems("train") if p.family == "countdown")
    assert task.grade(problem, f"<answer>0 + {problem.answer}</answer>").method == "reasoning_gym"
    assert task.grade(problem, f"<answer>({problem.answer})</answer>").correct is True
    assert task.grade(problem, "<answer>1+1</answer>").correct is False


def test_hostile_and_empty_texts_are_wrong(task: ReasoningGymTask) -> None:
    for problem in task.problems("heldout")[::20]:
        for text in (
            "",
            "answer 9**9**9",
            "<answer>__import__('os').abort()</answer>",
            "<answer>(99999**9999)+(1)</answer>",
            "#### " + "9" * 5000,
        ):
            assert task.grade(problem, text).correct is False


@pytest.mark.parametrize(
    ("datasets", "message"),
    [
        ({"chain_sums": {}}, "no data set is called 'chain_sums'"),
        ({"chain_sum": {"terms": 3}}, "refuses its settings"),
        ({"chain_sum": {"seed": 3}}, "sets \\['seed'\\]"),
        ({"chain_sum": {"min_terms": -1}}, "refuses its settings"),
        ({}, "at least one data set"),
    ],
)
def test_wrong_settings_are_a_users_error(datasets: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        ReasoningGymTask(datasets).problems("train")
