"""Any data set by its columns: files of every format, folders, the hub's names, conversations."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ouroloop.evals.columns import guessed
from ouroloop.evals.errors import DataError
from ouroloop.evals.registry import build_task
from ouroloop.evals.tasks import Problem, Task

Rows = list[dict[str, Any]]

SUMS: Rows = [
    {"problem": f'Tim has {a} apples, and "{a + 7}" more.\nHow many?', "target": str(2 * a + 7)}
    for a in range(60)
]


def write(path: Path, rows: Rows) -> Path:
    """A file of the format that its name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix in (".csv", ".tsv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            delimiter = "\t" if path.suffix == ".tsv" else ","
            writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def task_of(path: Path | str, **settings: Any) -> Task:
    return build_task("dataset", {"path": str(path), **settings})


def everything(task: Task) -> dict[str, Problem]:
    """All problems by question."""
    found = [*task.problems("train"), *task.problems("heldout"), *task.problems("reserve")]
    return {problem.question: problem for problem in found}


def only(path: Path, rows: Rows, **settings: Any) -> list[Problem]:
    """The problems of a few rows, which are all in training; another file is held out."""
    heldout = [{**rows[0], "question": "Held out?", "q": "Held out?", "id": "held"}]
    other = write(path.with_name(f"heldout{path.suffix}"), heldout)
    task = task_of(write(path, rows), heldout_path=str(other), **settings)
    # A tenth of those with solutions is kept in reserve.
    return [*task.problems("train"), *task.problems("reserve")]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".parquet"])
def test_a_file_of_every_format_gives_the_same_problems(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"problems{suffix}", SUMS)
    task = task_of(path, columns={"question": "problem", "answer": "target"})
    answers = {question: problem.answer for question, problem in everything(task).items()}
    assert answers == {row["problem"]: row["target"] for row in SUMS}
    assert {problem.family for problem in everything(task).values()} == {"default"}


def test_cells_of_a_csv_file_stay_as_they_are_written(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "None", "id": "007"}, {"question": "b", "answer": "1e3"}]
    found = only(tmp_path / "p.csv", rows)
    assert {(p.question, p.answer) for p in found} == {("a", "None"), ("b", "1e3")}
    assert found[0].id == "007"


def test_a_csv_file_with_semicolons_and_a_mark_at_its_start_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    lines = [f"What is {i}, plus 1?;{i + 1}" for i in range(40)]
    path.write_text("\n".join(["question;answer", *lines]), encoding="utf-8-sig")
    assert len(everything(task_of(path))) == 40


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("question,answer\na,b,c\n", r"p\.csv:2: got 3 cells, the header has 2"),
        ("question,answer\na\n", r"p\.csv:2: got 1 cells, the header has 2"),
        ('question,answer\n"a,1\n', r"p\.csv:2: not CSV"),
        ("question,answer\n", "no rows"),
        ("", "no rows"),
    ],
)
def test_a_broken_or_empty_csv_file_is_refused_with_its_place(
    tmp_path: Path, text: str, says: str
) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        task_of(path).problems("train")


def test_names_in_a_csv_header_lose_their_blanks_and_stand_once(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("question, answer\n" + "".join(f"What is {n}?,{n}\n" for n in range(40)))
    assert {p.answer for p in task_of(path).problems("train")} <= {str(n) for n in range(40)}
    path.write_text("question,answer, answer\nWhat?,1,2\n")
    with pytest.raises(DataError, match=r"x\.csv:1: the header names the column 'answer' twice"):
        task_of(path).problems("train")


@pytest.mark.parametrize("number", ["NaN", "1e400", "-Infinity"])
def test_a_number_that_is_none_is_no_answer(tmp_path: Path, number: str) -> None:
    path = tmp_path / "x.jsonl"
    rows = '{"question": "a?", "answer": 1}\n{"question": "b?", "answer": NUMBER}\n'
    path.write_text(rows.replace("NUMBER", number))
    with pytest.raises(DataError, match=r"x\.jsonl:2: field 'answer' is .*Write null"):
        task_of(path).problems("train")


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    path.write_text("question")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        task_of(path).problems("train")


# ----- columns -----


def test_a_wrong_column_is_named_with_those_that_exist_and_the_nearest(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", SUMS)
    for columns, meant in (
        ({"question": "probem"}, "problem"),  # nearly that name
        ({"question": "zzz", "answer": "target"}, "problem"),  # the usual name for it
    ):
        with pytest.raises(DataError) as error:
            task_of(path, columns=columns).problems("train")
        assert "names; the columns are problem, target. " in str(error.value)
        assert f"Did you mean {meant!r}?" in str(error.value)


def test_without_a_column_of_questions_the_likely_columns_are_proposed(tmp_path: Path) -> None:
    path = write(tmp_path / "p.parquet", SUMS)
    with pytest.raises(
        DataError, match=r"Perhaps `columns: \{question: problem, answer: target\}`"
    ):
        task_of(path).problems("train")


def test_an_empty_question_is_refused_with_its_row_and_column(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", [*SUMS, {"problem": "", "target": "1"}])
    with pytest.raises(DataError, match="column 'problem' is empty"):
        task_of(path, columns={"question": "problem"}).problems("train")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".csv"])
def test_a_blank_text_of_an_optional_column_is_none(tmp_path: Path, suffix: str) -> None:
    rows = [{"question": "a", "answer": "1", "solution": " ", "system": ""}]
    (problem,) = only(tmp_path / f"p{suffix}", rows)
    assert (problem.solution, problem.system) == (None, None)


def test_an_optional_column_may_be_missing_in_some_lines(tmp_path: Path) -> None:
    rows = [{"q": "a", "why": "because"}, {"q": "b"}]
    found = only(tmp_path / "p.jsonl", rows, columns={"question": "q", "solution": "why"})
    assert {p.question: p.solution for p in found} == {"a": "because", "b": None}


def test_a_column_of_another_meaning_with_the_name_of_a_field_is_not_that_field(
    tmp_path: Path,
) -> None:
    rows = [{"q": "a", "answer": "a worked text of 3 lines", "gold": "3", "level": 4}]
    (problem,) = only(tmp_path / "p.jsonl", rows, columns={"question": "q", "answer": "gold"})
    assert problem.answer == "3" and problem.metadata == {"level": 4}


def test_ids_that_were_not_asked_for_are_made_where_they_are_not_unique(tmp_path: Path) -> None:
    rows = [{"question": "a", "id": 1}, {"question": "b", "id": 1}]
    found = only(tmp_path / "p.jsonl", rows)
    assert len({p.id for p in found}) == 2
    with pytest.raises(DataError, match="belongs to another question already"):
        only(tmp_path / "p.jsonl", rows, columns={"id": "id"})


def test_usual_names_are_guessed_in_any_case_of_letters() -> None:
    found = guessed(["Instruction", "Output", "source"])
    assert found.to_json() == {"question": "Instruction", "answer": "Output"}
    assert guessed(["prompt", "messages"]).to_json() == {"messages": "messages"}
    assert guessed(["left", "right"]).to_json() == {}


# ----- answers -----


def test_gsm8ks_solutions_are_split_into_solution_and_answer(tmp_path: Path) -> None:
    rows = [{"question": "a", "answer": "2+3=<<2+3=5>>5\n#### 5"}, {"question": "b", "answer": "7"}]
    found = {p.question: p for p in only(tmp_path / "p.jsonl", rows)}
    assert (found["a"].answer, found["a"].solution) == ("5", "2+3=5\n#### 5")
    assert (found["b"].answer, found["b"].solution) == ("7", None)


def test_without_answers_the_grader_reads_them_in_the_solutions(tmp_path: Path) -> None:
    rows = [
        {"question": "a", "solution": r"So $x = \boxed{4}$."},
        {"question": "b", "solution": "Nobody knows."},
    ]
    found = {p.question: p.answer for p in only(tmp_path / "p.jsonl", rows)}
    assert found == {"a": "4", "b": None}
    unread = only(tmp_path / "p.jsonl", rows, grader="none")
    assert {p.answer for p in unread} == {None}


# ----- folders and the hub -----


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two splits; the cache of `datasets` is the test's own, and no hub is asked."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    path = tmp_path / "sums"
    path.mkdir()
    write(path / "train.parquet", SUMS[:40])
    write(path / "test.parquet", SUMS[40:])
    return path


def test_a_folders_splits_are_training_and_held_out_problems(folder: Path) -> None:
    columns = {"question": "problem", "answer": "target"}
    task = task_of(folder, heldout_split="test", columns=columns)
    assert len(task.problems("train")) == 40 and len(task.problems("heldout")) == 20
    other = task_of(folder, split="test", columns=columns)
    assert len(everything(other)) == 20


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"split": "tset"}, r"Unknown split \"tset\". Should be one of \['train', 'test'\]"),
        ({"name": "hard"}, r"BuilderConfig 'hard' not found. Available: \['default'\]"),
    ],
)
def test_a_wrong_split_or_configuration_is_refused_with_those_that_exist(
    folder: Path, settings: dict[str, str], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        task_of(folder, **settings).problems("train")


def test_where_no_hub_answers_one_sentence_says_what_to_do(folder: Path) -> None:
    with pytest.raises(DataError) as error:
        task_of("nobody/nothing").problems("train")
    assert "nobody/nothing: no such file, and no hub answers" in str(error.value)
    assert "copy its parquet, CSV or JSONL file here" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_split_of_a_single_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", SUMS)
    with pytest.raises(DataError, match="for a file, which has none"):
        task_of(path, split="test", columns={"question": "problem"}).problems("train")
