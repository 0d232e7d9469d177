from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from real_data import GSM8K, needs_gsm8k

from ouroloop.evals.dataset import gsm8k_task, jsonl_task
from ouroloop.evals.errors import DataError
from ouroloop.evals.questions import normalised
from ouroloop.evals.registry import build_task


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows),
        encoding="utf-8",
    )
    return path


def sums(start: int, number: int, **more: Any) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {a}+{a + 7}?", "answer": 2 * a + 7, **more}
        for a in range(start, start + number)
    ]


def test_a_file_is_split_by_hash_into_disjoint_parts_that_cover_it(tmp_path: Path) -> None:
    task = jsonl_task(write(tmp_path / "p.jsonl", sums(0, 500, solution="add them")))
    parts = {
        split: {problem.question for problem in task.problems(split)}
        for split in ("train", "heldout", "reserve")
    }
    assert sum(map(len, parts.values())) == len(set.union(*parts.values())) == 500
    assert 70 <= len(parts["heldout"]) <= 130
    assert 20 <= len(parts["reserve"]) <= 60


def test_a_problem_keeps_its_split_and_id_when_the_file_grows_or_is_shuffled(
    tmp_path: Path,
) -> None:
    small = jsonl_task(write(tmp_path / "small.jsonl", sums(0, 100)))
    large = jsonl_task(write(tmp_path / "large.jsonl", list(reversed(sums(0, 300)))))
    for split in ("train", "heldout"):
        assert {problem.id for problem in small.problems(split)} <= {
            problem.id for problem in large.problems(split)
        }


def test_without_solutions_there_is_no_reserve_and_without_answers_nothing_is_scored(
    tmp_path: Path,
) -> None:
    task = jsonl_task(
        write(tmp_path / "p.jsonl", [{"question": f"Say {n} nicely."} for n in range(50)])
    )
    assert task.problems("reserve") == []
    problem = task.problems("train")[0]
    assert problem.answer is None
    assert task.grade(problem, "The answer is 5").correct is None
    assert task.strategy(problem, "x") is None
    assert task.check_steps(problem, "2+2=5").valid is False


def test_a_heldout_question_is_taken_out_of_training_however_it_is_written(tmp_path: Path) -> None:
    train = write(
        tmp_path / "train.jsonl",
        [
            {"question": "What is  5+3 ?", "answer": "8"},
            {"question": "What is 5-3?", "answer": "2"},
        ],
    )
    heldout = write(tmp_path / "heldout.jsonl", [{"question": "what is 5+3?", "answer": "8"}])
    task = jsonl_task(train, heldout)
    assert [problem.question for problem in task.problems("train")] == ["What is 5-3?"]
    assert len(task.problems("heldout")) == 1


def test_normalising_keeps_what_changes_the_question() -> None:
    assert normalised("What is 1.5 + 2?") == normalised("what is  1.5 + 2")
    assert (
        len(
            {
                normalised(q)
                for q in (
                    "What is 5-3?",
                    "What is 5+3?",
                    "What is 53?",
                    "What is 5.3?",
                    "What is 5*3?",
                    "What is -5*3?",
                )
            }
        )
        == 6
    )


def test_fields_are_read_and_others_become_metadata(tmp_path: Path) -> None:
    row = {
        "id": 7,
        "question": "Q1 2+3?",
        "answer": 5,
        "family": "tiny",
        "slice": "tail",
        "solution": "2+3=5\nanswer 5",
        "source": "me",
    }
    task = jsonl_task(
        write(tmp_path / "p.jsonl", sums(0, 60)), write(tmp_path / "h.jsonl", ["", row])
    )
    (problem,) = task.problems("heldout")
    assert (problem.id, problem.answer, problem.family, problem.slice, problem.metadata) == (
        "7",
        "5",
        "tiny",
        "tail",
        {"source": "me"},
    )
    assert task.grade(problem, problem.solution or "").correct is True
    assert task.grade(problem, "answer 6").correct is False


def test_the_last_number_counts_only_when_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", sums(0, 60))
    strict = build_task("jsonl", {"path": path})
    lenient = build_task("jsonl", {"path": path, "grader": "last_number"})
    problem = strict.problems("train")[0]
    assert strict.grade(problem, f"I get {problem.answer}").correct is False
    assert lenient.grade(problem, f"I get {problem.answer}").correct is True


GOOD = {"question": "What is 2+3?", "answer": "5"}
BAD = [
    (["{not json"], r"p\.jsonl:1: not JSON .* expected one object per line"),
    ([GOOD, "", '{"question": "x"'], r"p\.jsonl:3: not JSON"),
    ([GOOD, [1, 2]], r"p\.jsonl:2: got a JSON list; expected an object"),
    (
        [GOOD, {"prompt": "x", "answer": "5"}],
        r"p\.jsonl:2: no field 'question', got \['answer', 'prompt'\]",
    ),
    ([{"question": "  ", "answer": "5"}], r"p\.jsonl:1: field 'question' is empty"),
    ([{"question": "x", "answer": ["5"]}], r"p\.jsonl:1: field 'answer' is a list"),
    ([{"question": "x", "answer": True}], r"p\.jsonl:1: field 'answer' is a bool"),
    (
        [{"question": "x", "answer": "9**9**9"}],
        r"p\.jsonl:1: answer '9\*\*9\*\*9' cannot be read by the grader",
    ),
    (
        [{"question": "x", "answer": "5", "slice": "hard"}],
        r"p\.jsonl:1: field 'slice' is 'hard'; expected 'typical' or 'tail'",
    ),
    (
        [{**GOOD, "id": "a"}, {"question": "another", "id": "a"}],
        r"p\.jsonl:2: id 'a' belongs to another question already \(.*p\.jsonl:1\)",
    ),
    ([{**GOOD, "family": "all"}], r"field 'family' is 'all'; .* Rename the family"),
    ([{**GOOD, "family": "others"}], r"field 'family' is 'others'; expected a name other than"),
    ([], r"p\.jsonl: the file holds no problems"),
    (["", "  "], r"p\.jsonl: the file holds no problems"),
    (
        [GOOD],
        (
            r"p\.jsonl: 1 problems give [01] for training and [01] held out; expected at least 1 of"
            r" each"
        ),
    ),
]


@pytest.mark.parametrize(("lines", "message"), BAD)
def test_a_bad_file_is_refused_with_its_place_and_a_remedy(
    tmp_path: Path, lines: list[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        jsonl_task(write(tmp_path / "p.jsonl", lines)).problems("train")


def test_a_missing_file_a_folder_and_a_binary_file_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "b.jsonl"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, message in (
        (tmp_path / "none.jsonl", "no such file"),
        (tmp_path, "JSON parse error"),
        (binary, "not UTF-8"),
    ):
        with pytest.raises(DataError, match=message):
            jsonl_task(path).problems("train")


def test_ids_that_mean_different_questions_in_the_two_files_are_refused(tmp_path: Path) -> None:
    train, heldout = (
        [{**row, "id": number} for number, row in enumerate(sums(start, 5))] for start in (0, 100)
    )
    with pytest.raises(DataError, match="id '0' names different questions"):
        jsonl_task(
            write(tmp_path / "t.jsonl", train), write(tmp_path / "h.jsonl", heldout)
        ).problems("train")


def test_training_that_is_all_held_out_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", sums(0, 20))
    with pytest.raises(DataError, match="0 for training"):
        jsonl_task(path, path).problems("train")


def test_a_gsm8k_row_without_its_last_line_is_refused(tmp_path: Path) -> None:
    for row, message in (
        ({"question": "x", "answer": "5"}, "expected a last line '#### N'"),
        ({"question": "x"}, "no field 'answer'"),
    ):
        with pytest.raises(DataError, match=r"p\.jsonl:1: .*" + message):
            gsm8k_task(write(tmp_path / "p.jsonl", [row])).problems("train")


@needs_gsm8k
def test_gsm8k_is_read_whole_with_plain_solutions_and_disjoint_splits() -> None:
    task = gsm8k_task(GSM8K / "train_first_1000.jsonl", GSM8K / "test_first_660.jsonl")
    train, heldout, reserve = (
        task.problems("train"),
        task.problems("heldout"),
        task.problems("reserve"),
    )
    assert len(train) + len(reserve) == 1000
    assert len(heldout) == 660
    assert 70 <= len(reserve) <= 130
    questions = [
        {normalised(problem.question) for problem in part} for part in (train, heldout, reserve)
    ]
    assert not (
        questions[0] & questions[1] or questions[0] & questions[2] or questions[1] & questions[2]
    )
    for problem in [*train, *heldout, *reserve]:
        assert problem.solution is not None
        assert "<<" not in problem.solution
        assert task.grade(problem, problem.solution).correct is True
        assert task.grade(problem, "I cannot tell.").correct is False
