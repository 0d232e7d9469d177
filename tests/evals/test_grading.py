from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from real_data import GSM8K, MODELS, needs_gsm8k, rows

from ouroloop.evals.grading import grade
from ouroloop.evals.problem_files import read_gsm8k
from ouroloop.monitors.arith.answers import canonical, extract_answer, is_number

CASES = json.loads((Path(__file__).parent / "grader_cases.json").read_text(encoding="utf-8"))
EXPLAINED = json.loads(
    (Path(__file__).parent / "grader_disagreements.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", CASES, ids=[case["why"] for case in CASES])
def test_a_known_case_is_graded_as_before(case: dict) -> None:
    got = grade(case["gold"], case["text"], last_number=case.get("last_number", False))
    assert got.correct is case["correct"]
    if "answer" in case:
        assert got.answer == case["answer"]


@pytest.mark.slow
@given(st.integers(-(10**30), 10**30))
def test_an_integer_is_read_back_however_it_is_written(number: int) -> None:
    for written in (
        f"{number}",
        f"{number:,}",
        f"{number}.00",
        f"${number:,}",
        f"{number} apples",
        f"\\boxed{{{number}}}",
        f"**{number}**.",
    ):
        assert canonical(written) == str(number), written
        assert canonical(str(number + 1)) != canonical(written)


@given(st.integers(-999, 999), st.integers(1, 999))
def test_a_fraction_equals_its_multiples_and_nothing_else(top: int, bottom: int) -> None:
    read = canonical(f"{top}/{bottom}")
    assert read is not None and read == canonical(f"{7 * top}/{7 * bottom}")
    assert read == canonical(f"\\frac{{{top}}}{{{bottom}}}") or top < 0
    assert read != canonical(f"{top * 1000 + 1}/{bottom * 1000}")


@pytest.mark.slow
@given(st.text(max_size=300), st.text(max_size=20))
def test_any_text_gets_a_verdict_and_a_canonical_answer_reads_as_itself(
    text: str, gold: str
) -> None:
    for written in (text, f"The answer is {text}", f"#### {text}"):
        answer = grade(gold, written, last_number=True).answer
        assert answer is None or not is_number(answer) or canonical(answer) == answer
    assert grade(None, text).correct is None


@pytest.mark.parametrize(
    "hostile",
    [
        "answer " * 3000,
        "1 " * 10000,
        "<answer>" * 2500,
        "\\boxed{" * 2800,
        "(" * 20000,
        "9" * 20000,
        "answer: " + "-" * 500,
        "#### 5" + " " * 500 + "x",
        "#### " + "1,111" * 100,
        "answer 5 " + "aa." * 160 + "!x",
        "answer: " + "= " * 255 + "x",
        "answer 9**9**9**9",
        "#### 10^(10^(10^10))",
        "answer 1e999999",
        "\\frac{" * 3000,
        "\\boxed{" + "{" * 600,
        "answer is " * 2000,
        "#### " + "9!" * 100,
        "A:\n" * 6000,
        ">" * 20000,
        "answer " + "1/" * 250,
    ],
)
def test_a_hostile_text_is_wrong_within_a_second(hostile: str) -> None:
    start = time.perf_counter()
    assert grade("72", hostile, last_number=True).correct is False
    assert time.perf_counter() - start < 1


@needs_gsm8k
def test_the_grader_agrees_with_the_labels_of_real_models_solutions() -> None:
    disagreements, total = [], 0
    for number, row in enumerate(rows("model_solutions_first_660.jsonl"), start=1):
        gold = extract_answer(row["ground_truth"])
        for model in MODELS:
            total += 1
            if grade(gold, row[model]["solution"]).correct is not row[model]["is_correct"]:
                disagreements.append(
                    {"line": number, "model": model, "label": row[model]["is_correct"]}
                )
    print(f"{total - len(disagreements)} of {total} agree; disagreements: {disagreements}")
    assert total == 2640
    assert len(disagreements) <= 0.002 * total
    assert disagreements == [
        {key: known[key] for key in ("line", "model", "label")} for known in EXPLAINED
    ], "list and explain each one"


@pytest.mark.slow
@needs_gsm8k
def test_the_verdict_does_not_depend_on_how_a_real_answer_is_marked() -> None:
    for row in rows("model_solutions_first_660.jsonl"):
        gold = extract_answer(row["ground_truth"])
        for model in MODELS:
            body, mark, stated = row[model]["solution"].rpartition("\nA: ")
            if not mark:
                continue
            for marked in (
                f"#### {stated}",
                f"answer {stated}",
                f"The answer is {stated}.",
                f"So it is $\\boxed{{{stated}}}$.",
                f"**Final answer:** {stated}",
            ):
                assert grade(gold, f"{body}\n{marked}").correct is row[model]["is_correct"], (
                    marked,
                    gold,
                )


@needs_gsm8k
@pytest.mark.parametrize("name", ["train_first_1000.jsonl", "test_first_660.jsonl"])
def test_every_gold_answer_is_accepted_and_its_neighbours_are_not(name: str) -> None:
    for number, row in enumerate(rows(name), start=1):
        problem = read_gsm8k(row, f"{GSM8K / name}:{number}")
        assert problem.answer is not None
        assert grade(problem.answer, row["answer"]).correct is True, row["answer"]
        assert grade(problem.answer, problem.solution or "").correct is True, problem.solution
        value = int(problem.answer.replace(",", ""))
        for wrong in (value + 1, value * 10 + 1, -value - 1):
            assert grade(problem.answer, f"#### {wrong}").correct is False


STATEMENTS = json.loads((Path(__file__).parent / "number_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("marker", ["The answer is {}.", "answer {}", "#### {}", "A: {}"])
@pytest.mark.parametrize("statement", STATEMENTS["right"])
def test_a_unit_or_a_remark_leaves_a_number_what_it_is(statement: str, marker: str) -> None:
    assert grade("72", marker.format(statement)).correct is True


@pytest.mark.parametrize("marker", ["The answer is {}.", "answer {}", "#### {}", "A: {}", "So {}."])
@pytest.mark.parametrize("statement", STATEMENTS["wrong"])
def test_a_multiplier_a_negation_or_a_comparative_is_no_unit(statement: str, marker: str) -> None:
    assert grade("72", marker.format(statement)).correct is False


@pytest.mark.parametrize(
    "text",
    [
        "The answer cannot be 72.",
        "answer 72 is wrong",
        "The answer is not 72.",
        "I know that it is more than 72",
        "It isn't 72",
        "It can't possibly be 72!",
    ],
)
def test_the_last_number_is_no_answer_where_it_is_denied(text: str) -> None:
    assert grade("72", text, last_number=True).correct is False
    assert grade("72", "So there are 72 of them in all.", last_number=True).correct is True
