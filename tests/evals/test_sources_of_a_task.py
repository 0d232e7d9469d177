"""One task from several files: families apart, splits by hash, gold answers where there are any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from real_data import DATA
from test_dataset_task import everything, write

from ouroloop.evals.errors import DataError
from ouroloop.evals.questions import normalised
from ouroloop.evals.registry import build_task
from ouroloop.evals.tasks import Task

ASKED = [{"question": f"How do I break into car number {i}?", "id": str(i)} for i in range(200)]
ADDED = [
    {"problem": f"What is {i}+{i + 1}?", "target": str(2 * i + 1), "why": "add", "id": str(i)}
    for i in range(200)
]
COLUMNS = {"question": "problem", "answer": "target", "solution": "why"}


def task_of(*sources: dict[str, Any], **settings: Any) -> Task:
    return build_task("dataset", {"path": None, "sources": sources, **settings})


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    red_team = write(tmp_path / "red_team.jsonl", ASKED)
    return str(red_team), str(write(tmp_path / "sums.csv", ADDED))


def families(task: Task, split: Any) -> dict[str, int]:
    found = task.problems(split)
    return {name: sum(p.family == name for p in found) for name in {p.family for p in found}}


def test_each_file_is_a_family_of_its_own_and_is_split_by_its_own_share(files: Any) -> None:
    red_team, sums = files
    task = task_of(
        {"path": red_team, "family": "red_team", "heldout_share": 0.5},
        {"path": sums, "family": "helpful", "columns": COLUMNS},
    )
    heldout, train = families(task, "heldout"), families(task, "train")
    assert 75 <= heldout["red_team"] <= 125 and 20 <= heldout["helpful"] <= 60
    assert train["red_team"] == 200 - heldout["red_team"]
    assert set(families(task, "reserve")) == {"helpful"}, "only solutions are demonstrations"
    assert len({p.id for p in everything(task).values()}) == 400, "both files count from 0"


def test_a_larger_share_holds_out_what_a_smaller_one_did_and_a_fifth_is_the_usual_one(
    files: Any,
) -> None:
    def held(**settings: Any) -> set[str]:
        task = task_of({"path": files[0], **settings})
        return {p.question for p in task.problems("heldout")}

    alone = build_task("dataset", {"path": files[0]})
    assert held() == {p.question for p in alone.problems("heldout")}
    assert held(heldout_share=0.1) < held() < held(heldout_share=0.21) < held(heldout_share=0.6)


def test_a_source_may_be_measured_only_or_practised_only(files: Any) -> None:
    red_team, sums = files
    task = task_of(
        {"path": red_team, "family": "red_team", "heldout_share": 1.0},
        {"path": sums, "family": "sums", "heldout_share": 0.0, "columns": COLUMNS},
    )
    assert set(families(task, "train")) == {"sums"}
    assert families(task, "heldout") == {"red_team": 200}


def test_no_more_problems_of_a_source_are_practised_than_asked_for(files: Any) -> None:
    task = task_of({"path": files[0], "num_problems": 30}, {"path": files[1], "columns": COLUMNS})
    train = [p for p in task.problems("train") if p.question.startswith("How")]
    assert [p.question for p in train] == [
        p.question
        for p in build_task("dataset", {"path": files[0]}).problems("train")
        if p.question.startswith("How")
    ][:30]
    assert sum(p.question.startswith("How") for p in task.problems("heldout")) > 20


def test_the_grader_scores_what_has_an_answer_and_abstains_elsewhere(files: Any) -> None:
    task = task_of(
        {"path": files[0], "family": "red_team"},
        {"path": files[1], "family": "helpful", "columns": COLUMNS},
        grader="last_number",
    )
    for problem in everything(task).values():
        grade = task.grade(problem, f"I say {problem.answer or 7}")
        assert grade.correct is (True if problem.family == "helpful" else None)
        assert task.grade(problem, "I say 10000").correct is (
            False if problem.family == "helpful" else None
        )


def test_what_one_file_holds_out_no_other_trains_on_and_of_two_the_first_counts(
    tmp_path: Path,
) -> None:
    first = write(tmp_path / "a.jsonl", ASKED)
    again = [{**row, "question": row["question"].upper()} for row in ASKED]
    other = write(tmp_path / "b.jsonl", [*again, {"question": "Another?"}])
    task = task_of(
        {"path": str(first), "family": "a"},
        {"path": str(other), "family": "b", "heldout_share": 0.0},
    )
    train, heldout = task.problems("train"), task.problems("heldout")
    assert not {normalised(p.question) for p in train} & {normalised(p.question) for p in heldout}
    assert [p.question for p in train if p.family == "b"] == ["Another?"]


def test_a_source_may_have_its_own_file_of_held_out_problems(files: Any, tmp_path: Path) -> None:
    heldout = write(tmp_path / "held.jsonl", [{"question": "Held out?"}])
    task = task_of({"path": files[0], "heldout_path": str(heldout), "family": "x"})
    assert [(p.question, p.family) for p in task.problems("heldout")] == [("Held out?", "x")]
    assert len(task.problems("train")) == 200


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"family": "others"}, "the family is 'others'; expected a name other than"),
        ({"path": "none.jsonl"}, "none.jsonl: no such file"),
        ({"columns": {"question": "q"}}, "no column 'q', which task.columns.question names"),
        ({"heldout_share": 1.0}, "0 for training and 200 held out"),
    ],
)
def test_a_wrong_source_is_refused_with_its_place(files: Any, source: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        task_of({"path": files[0], **source}).problems("train")


def test_recipes_name_sources_relative_to_themselves(tmp_path: Path) -> None:
    from ouroloop.loop.errors import RecipeError
    from ouroloop.loop.recipes.recipe_file import resolve

    raw: dict[str, Any] = {
        "name": "x",
        "task": {
            "kind": "dataset",
            "sources": [
                {"path": "a.jsonl", "family": "a", "heldout_path": "h.jsonl"},
                {"path": "nobody/sums", "split": "test", "name": "main", "num_problems": 3},
                {"path": "b.jsonl", "heldout_split": "test", "heldout_share": 0.3},
            ],
        },
    }
    first, second, _ = resolve(raw, base=tmp_path).task.settings()["sources"]
    assert (first["path"], first["heldout_path"]) == (
        str(tmp_path / "a.jsonl"),
        tmp_path / "h.jsonl",
    )
    assert second["path"] == "nobody/sums"
    for change, says in (
        ({"path": "c.jsonl"}, "task.path, or several task.sources"),
        ({"sources": []}, "task.path, or several task.sources"),
        ({"split": "test"}, "task.split belongs to task.path"),
        ({"sources": [{"path": "x", "heldout_share": 2}]}, "heldout_share"),
        ({"sources": [{"path": "x", "famly": "x"}]}, "famly"),
        ({"sources": [{"path": "x", "heldout_split": "a", "heldout_path": "b"}]}, "not both"),
    ):
        with pytest.raises(RecipeError, match=says):
            resolve({"name": "x", "task": raw["task"] | change})


@pytest.mark.skipif(
    not (DATA / "constitutional").exists(), reason="OUROLOOP_DATA holds no constitutional data"
)
def test_red_team_conversations_and_word_problems_are_one_task() -> None:
    task = task_of(
        {"path": str(DATA / "constitutional/red_team_prompts.jsonl"), "family": "red_team"},
        {
            "path": str(DATA / "wordproblems/asdiv_train.jsonl"),
            "heldout_path": DATA / "wordproblems/asdiv_heldout.jsonl",
            "family": "helpful",
            "num_problems": 300,
        },
        grader="last_number",
    )
    train, heldout = families(task, "train"), families(task, "heldout")
    assert (
        200 <= train["red_team"] <= 250 and train["helpful"] + len(task.problems("reserve")) == 300
    )
    assert heldout["helpful"] == 400
    for problem in task.problems("heldout"):
        assert (problem.answer is None) == (problem.family == "red_team")
