from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ouroloop.evals.errors import DataError
from ouroloop.evals.registry import TASKS, build_task
from ouroloop.evals.tasks import Capability, Problem, Task


def settings(kind: str, folder: Path) -> dict[str, Any]:
    if kind in ("jsonl", "gsm8k", "dataset"):
        path = folder / "problems.jsonl"
        answer = "{} + {} = <<{}+{}={}>>{}\n#### {}" if kind == "gsm8k" else "{6}"
        rows = [
            {
                "question": f"What is {a}+{b}?",
                "answer": answer.format(a, b, a, b, a + b, a + b, a + b),
            }
            for a in range(9)
            for b in range(9)
        ]
        path.write_text("\n".join(map(json.dumps, rows)))
        return {"path": path}
    return {"datasets": {"chain_sum": {}}} if kind == "reasoning_gym" else {}


@pytest.fixture(
    params=[
        pytest.param(kind, marks=[pytest.mark.slow] if kind == "reasoning_gym" else [])
        for kind in TASKS
    ]
)
def task(request: pytest.FixtureRequest, tmp_path: Path) -> Task:
    if request.param == "reasoning_gym":
        pytest.importorskip("reasoning_gym", reason="needs the extra `verify`")
    return build_task(request.param, settings(request.param, tmp_path))


def test_every_task_keeps_the_contract(task: Task) -> None:
    splits = {split: task.problems(split) for split in ("train", "heldout", "reserve")}
    ids = [problem.id for part in splits.values() for problem in part]
    assert splits["train"] and splits["heldout"]
    assert len(set(ids)) == len(ids), "splits are disjoint and ids are unique"
    assert all(
        isinstance(problem, Problem) and problem.question and problem.slice in ("typical", "tail")
        for part in splits.values()
        for problem in part
    )
    assert [problem.id for problem in task.problems("train")] == [
        problem.id for problem in splits["train"]
    ]
    assert task.name in TASKS and set(task.capabilities) <= set(Capability)
    for problem in [*splits["train"][:20], *splits["heldout"][:20]]:
        assert task.grade(problem, f"answer {problem.answer}").correct is True
        assert task.grade(problem, f"answer {problem.answer}1").correct is False
        for text in ("", "\x00", "answer", "answer 9**9**9", "1+1=3 " * 2000):
            assert task.grade(problem, text).correct is False
            task.check_steps(problem, text)
            named = task.strategy(problem, text)
            assert named is None or Capability.STRATEGIES in task.capabilities
    for problem in splits["reserve"]:
        assert problem.solution is None or task.grade(problem, problem.solution).correct is True


def test_every_task_makes_wrong_texts_that_are_wrong_for_certain(task: Task) -> None:
    demonstrations = [p for p in task.problems("reserve") if p.solution][:60]
    made = 0
    for problem in demonstrations:
        text = problem.solution or ""
        wrong, by_a_step = (
            task.corrupt(problem, text, 1, keep_answer=keep) for keep in (False, True)
        )
        assert wrong == task.corrupt(problem, text, 1)
        assert wrong is None or task.grade(problem, wrong).correct is False
        if by_a_step is not None:
            made += 1
            assert task.grade(problem, by_a_step).correct is True
            assert task.check_steps(problem, by_a_step).valid is False
        assert task.corrupt(problem, "no number here", 1) is None
    expected = Capability.CORRUPTIONS in task.capabilities and demonstrations
    assert made > 0.5 * len(demonstrations) if expected else made == 0


def test_an_unknown_kind_and_settings_of_another_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no task is called 'gsm9k'. Did you mean 'gsm8k'\?"):
        build_task("gsm9k")
    with pytest.raises(DataError, match=r"'arithmetic' cannot be made from options \['path'\]"):
        build_task("arithmetic", {"path": tmp_path})
    with pytest.raises(DataError, match=r"'jsonl' cannot be made from.*'path'"):
        build_task("jsonl")
    with pytest.raises(DataError, match="no grader is called 'exakt'"):
        build_task("jsonl", {"path": tmp_path, "grader": "exakt"})
    with pytest.raises(DataError, match=r"no family 'sum4'\. Did you mean 'sum"):
        build_task("arithmetic", {"families": ["sum4"]})
