"""The graders that a recipe names, each on what it accepts and what it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hostile_texts import few_texts

from ouroloop.evals.errors import DataError
from ouroloop.evals.registry import GRADERS, build_grader, build_task
from ouroloop.evals.tasks import Capability, Problem

SYMBOLIC = json.loads((Path(__file__).parent / "symbolic_cases.json").read_text(encoding="utf-8"))


def problem(answer: str | None, **metadata) -> Problem:
    return Problem("p", "What?", answer, metadata=metadata)


@pytest.fixture(scope="module")
def symbolic():
    pytest.importorskip("math_verify")
    return build_grader("symbolic")


# In a process of its own, which imports SymPy.
@pytest.mark.slow
@pytest.mark.parametrize(("gold", "answer", "right"), SYMBOLIC)
@pytest.mark.parametrize("frame", ["\\boxed{{{}}}", "So the answer is ${}$."])
def test_mathematical_answers_are_compared_as_mathematics(symbolic, gold, answer, right, frame):
    assert len(SYMBOLIC) >= 40
    text = frame.format(answer)
    assert symbolic.grade(problem(gold), text).correct is right


@pytest.mark.parametrize(
    ("gold", "text", "right"),
    [
        ("Paris", "The answer is Paris.", True),
        ("Paris", "paris", True),
        ("Paris", "It is large.\n\n**PARIS!**", True),
        ("New York", "answer: New \t York", True),
        ("ﬁle", "file", True),
        ("Paris", "The answer is not Paris.", False),
        ("Paris", "Paris, Texas", False),
        ("Paris", "Pari", False),
        ("Paris", "", False),
    ],
)
def test_exact_text_is_equal_but_for_case_blanks_and_punctuation(gold, text, right):
    assert build_grader("exact").grade(problem(gold), text).correct is right


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("(B)", "B"),
        ("B.", "B"),
        ("b", "B"),
        ("The answer is (B)", "B"),
        ("The answer is B.", "B"),
        ("The answer is **B) four**", "B"),
        ("\\boxed{B}", "B"),
        ("\\boxed{\\text{(B)}}", "B"),
        ("A is wrong since 2 is even.\nThe correct option is B", "B"),
        ("Answer: B, because C is odd", "B"),
        ("The answer is (B) Vitamin C", "B"),
        ("answer option B", "B"),
        ("I think A or B", None),
        ("(A) and (B)", None),
        ("The answer is A or B.", None),
        ("The answer is A, B", None),
        ("B/C", None),
        ("The answer is not B", None),
        ("None of them", None),
        ("A dog", None),
        ("", None),
    ],
)
def test_a_choice_is_one_letter_and_several_are_none(text, letter):
    grade = build_grader("choice").grade(problem("(B)"), text)
    assert grade.answer == letter
    assert grade.correct is (letter == "B")


def test_a_wrong_letter_is_wrong():
    assert build_grader("choice").grade(problem("B"), "(C)").correct is False
    assert build_grader("choice").grade(problem("no letter at all"), "(C)").correct is None


OWN = """
def length(text, problem, least=3):
    return len(text) >= least

def score(text, problem):
    return {"good": 0.9, "bad": 0.2, "odd": None}.get(text, "nonsense")

class Always:
    reads_answers = True
    def grade(self, problem, text):
        from ouroloop.evals.tasks import Grade
        return Grade(True, "x", "own")
"""


def test_a_plain_function_of_ones_own_is_a_grader(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    length = build_grader(f"{path}:length", {"least": 5})
    assert [length.grade(problem(None), text).correct for text in ("four", "fives")] == [
        False,
        True,
    ]
    score = build_grader(f"{path}:score")
    graded = [score.grade(problem(None), text).correct for text in ("good", "bad", "odd")]
    assert graded == [True, False, None]
    with pytest.raises(TypeError, match="expected a bool"):
        score.grade(problem(None), "else")
    assert build_grader(f"{path}:Always").grade(problem(None), "").correct is True


def test_every_grader_is_made_from_a_recipes_words_and_says_what_it_can_do(tmp_path):
    path = tmp_path / "problems.jsonl"
    rows = [{"question": f"What is {i}+1?", "answer": str(i + 1)} for i in range(30)]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    for name in GRADERS:
        options = {"model": "http://127.0.0.1:1/v1#m"} if name == "judge" else {}
        settings = {"path": path, "grader": name, "grader_options": options}
        task = build_task("jsonl", settings)
        assert (Capability.ANSWERS in task.capabilities) is task.grader.reads_answers


QUICK = [name for name in GRADERS if name not in ("code", "judge", "symbolic")]


@pytest.mark.parametrize("name", QUICK)
def test_no_grader_raises_on_a_hostile_text_or_calls_it_right(name):
    grader = build_grader(name)
    for text in few_texts(20):
        for gold in ("qqq", None, text):
            grade = grader.grade(problem(gold), text)
            assert grade.correct is None or isinstance(grade.correct, bool)
            if gold != text:
                assert grade.correct is not True


def test_a_judges_address_is_checked_before_anything_is_asked():
    for address in ("folder/model", "http://127.0.0.1:8000/v1", "http://u:p@host/v1#m"):
        with pytest.raises(DataError, match="judge"):
            build_grader("judge", {"model": address})
    judge = build_grader("judge", {"model": "http://127.0.0.1:1/v1#m", "seconds": 1.0})
    with pytest.raises(DataError, match="Start the server"):
        judge.grade(problem("4"), "4")


NUMPY = """
import numpy as np


def score(text, problem, low=0.0):
    return np.float64(low) if "no" in text else np.bool_(True)
"""


def test_a_function_may_answer_in_numpys_numbers_and_its_options_are_checked(tmp_path):
    (tmp_path / "own.py").write_text(NUMPY)
    name = f"{tmp_path}/own.py:score"
    grader = build_grader(name, {"low": 0.25})
    assert grader.grade(problem("1"), "yes").correct is True
    assert grader.grade(problem("1"), "no").correct is False
    with pytest.raises(DataError, match=r"task\.grader: .*Did you mean 'low'"):
        build_grader(name, {"lwo": 0.25})
