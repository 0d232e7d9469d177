"""Every grader, step checker, strategy reader, corrupter and task on over 2,000 hostile texts.

Nothing raises, nothing takes a second.

The readers are called bare here, without the fence that the loop puts around them
(tests/stages/test_judging.py).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostile_texts import every_text, few_texts

from ouroloop.evals.dataset import jsonl_task
from ouroloop.evals.grading import grade
from ouroloop.evals.problem_files import question_id, read_problem
from ouroloop.evals.questions import normalised
from ouroloop.evals.reasoning_gym_task import ReasoningGymTask
from ouroloop.evals.registry import TASKS, build_task
from ouroloop.evals.steps import calculation_key, calculations, check
from ouroloop.evals.tasks import Problem, Task
from ouroloop.evals.worlds.arithmetic.world import FAMILIES
from ouroloop.loop.records import Completion
from ouroloop.monitors.arith.answers import canonical, extract_answer
from ouroloop.monitors.arith.calculations import stated_problem
from ouroloop.monitors.arith.quantities import givens
from ouroloop.monitors.strategies.answers import answer_amount
from ouroloop.monitors.strategies.strategy import CANONICALISERS
from ouroloop.monitors.strategies.templates import Templates
from ouroloop.monitors.traces.rows import read_row

MAX_SECONDS = 1.0
"""CPU time of one call. The slowest measured is 0.15 s.

The bound is wide because the machine may be busy.
"""

QUESTION = "Tom has 47 apples and gets 35 more, then half of 10 %. How many in all?"
SOLUTION = "47+30=77\n77+5=82"
PROBLEM = Problem("p", QUESTION, "82")


@functools.cache
def templates() -> Templates:
    """Fitted when first asked: that loads scikit-learn."""
    texts = [SOLUTION, "40+30=70\n7+5=12\n70+12=82", "It is 5 * 4 = 20", "first add, then look"]
    return Templates().fit([QUESTION] * 8, texts * 2)


STRATEGY_READERS = {
    **CANONICALISERS,
    "templates": lambda question, text: templates()(question, text),
}

FILE = Path("problems.jsonl")  # never opened: only the graders are used
TASK_MAKERS: dict[str, Callable[[], Task]] = {
    "arithmetic": lambda: build_task("arithmetic"),
    "jsonl": lambda: build_task("jsonl", {"path": FILE, "grader": "last_number"}),
    "gsm8k": lambda: build_task("gsm8k", {"path": FILE}),
    "dataset": lambda: build_task("dataset", {"path": FILE}),
    "reasoning_gym": lambda: ReasoningGymTask({"chain_sum": {}}),
}

Read = Callable[[str], object]


def readers() -> Iterator[tuple[str, Read]]:
    """Everything that reads a text of a model, by name."""
    for name, reader in STRATEGY_READERS.items():
        yield f"strategy {name}", lambda text, reader=reader: reader(QUESTION, text)
        yield f"strategy {name}, question", lambda text, reader=reader: reader(text, SOLUTION)
    yield "answer amount", answer_amount
    yield "givens", givens
    yield "stated problem", stated_problem
    yield "question", normalised
    yield "extract_answer", extract_answer
    yield "canonical", canonical
    yield "grade", lambda text: grade("82", text)
    yield "grade, gold", lambda text: grade(text, "The answer is 5.")
    yield "check", check
    yield "calculations", calculations
    yield "calculation_key", calculation_key
    for kind, task in tasks():
        for problem in problems(task):
            yield (
                f"{kind} {problem.family}: grade",
                lambda text, t=task, p=problem: t.grade(p, text),
            )
            yield (
                f"{kind} {problem.family}: check_steps",
                lambda text, t=task, p=problem: t.check_steps(p, text),
            )
            yield (
                f"{kind} {problem.family}: strategy",
                lambda text, t=task, p=problem: t.strategy(p, text),
            )
            yield (
                f"{kind} {problem.family}: corrupt",
                lambda text, t=task, p=problem: t.corrupt(p, text, 0),
            )
            yield (
                f"{kind} {problem.family}: wrong step",
                lambda text, t=task, p=problem: t.corrupt(p, text, 0, keep_answer=True),
            )


def tasks() -> Iterator[tuple[str, Task]]:
    """One of the kinds whose texts are read by the same class with the same grader."""
    seen = set()
    for kind, make in TASK_MAKERS.items():
        task = make()
        reads = type(task), type(getattr(task, "grader", None))
        if reads not in seen:
            seen.add(reads)
            yield kind, task


def problems(task: Task) -> list[Problem]:
    """One problem of each family of the world; the other tasks grade any problem alike."""
    if task.name != "arithmetic":
        return [PROBLEM]
    heldout = task.problems("heldout")
    return [next(p for p in heldout if p.family == family) for family in FAMILIES]


READERS = dict(readers())


def failures(read: Read, texts: tuple[str, ...]) -> list[str]:
    """What raised or took too long."""
    found = []
    for text in texts:
        # Read again where it took long: beside other work a processor's second holds less.
        for _ in range(3):
            start = time.process_time()
            try:
                read(text)
            except Exception as error:
                found.append(f"{type(error).__name__}: {str(error)[:60]} on {text[:60]!r}")
            if (took := time.process_time() - start) <= MAX_SECONDS:
                break
        else:
            found.append(f"{took:.1f} s on {text[:60]!r}")
    return found


def test_the_corpus_is_large_and_every_task_and_strategy_reader_is_read_with():
    assert len(set(every_text())) == len(every_text()) >= 2_000
    assert set(few_texts()) <= set(every_text())
    assert set(TASK_MAKERS) == set(TASKS)
    assert set(CANONICALISERS) < set(STRATEGY_READERS)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", READERS)
def test_no_reader_raises_on_a_hostile_text(name):
    assert failures(READERS[name], few_texts(200)) == []


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", READERS)
def test_no_reader_raises_on_any_text_of_the_corpus(name):
    assert failures(READERS[name], every_text()) == []


@pytest.mark.slow
def test_every_text_that_enters_the_records_can_be_encoded():
    for text in every_text():
        Completion("", (), (), (), text, "stop", "").text.encode()
        row = read_row(
            {
                "problem": text or "p",
                "text": text,
                "question": text,
                "strategy": text,
                "answer": text,
                "family": text,
            },
            "row 1",
        )
        assert all(value.encode() is not None for value in row.values() if isinstance(value, str))
        if text.strip():
            problem = read_problem({"question": text, "solution": text}, "row 1")
            assert problem.id == question_id(problem.question)


@pytest.mark.parametrize(
    "name", ["dataflow", "plan", "calculations", "calculation_list", "operators"]
)
def test_an_over_long_number_ends_its_calculation_and_nothing_else(name):
    read = CANONICALISERS[name]
    assert read(QUESTION, "2*3=" + "9" * 5_000) is None
    assert read(QUESTION, "2*3=" + "9" * 5_000 + "\n" + SOLUTION) == read(QUESTION, SOLUTION)


def test_a_huge_exponent_is_an_answer_that_the_corrupter_leaves_alone():
    """It used to be made exact, a number of a thousand million digits: no fence ends that."""
    assert jsonl_task(FILE).corrupt(PROBLEM, "2+3=5\n#### 1e999999999", 0) is None
