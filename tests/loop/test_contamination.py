"""A held-out question that reaches the training data is found, left out, counted, and limited."""

import json
import random
import sys
from pathlib import Path

import pytest
import yaml
from scripted_world import Model, carry, recipe

from ouroloop.evals.near import Copies
from ouroloop.loop.__main__ import main
from ouroloop.loop.checks import Level, copies
from ouroloop.loop.controller import Campaign
from ouroloop.loop.recipes.recipe_file import load_recipe
from ouroloop.loop.rows import Example
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages.dataset import Screen
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import read_run

sys.path.insert(0, str(Path(__file__).parents[1] / "evals"))
from transformations import all_of_them, number_word, zero_width

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

STORY = "Ann has {a} red pens and her brother has {b} blue ones. How many pens have they together?"


def problems(first, count):
    return [
        {"question": STORY.format(a=n, b=n + 7), "answer": str(2 * n + 7)}
        for n in range(first, first + count)
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def leaky(tmp_path):
    """leaky(n, **dataset) -> the recipe's file; n of 50 training problems are held-out ones."""

    def make(num_leaks, **dataset):
        held, rng = problems(500, 20), random.Random(0)
        leaks = [{**row, "question": all_of_them(row["question"], rng)} for row in held[:num_leaks]]
        write(tmp_path / "train.jsonl", [*problems(1, 50 - num_leaks), *leaks])
        write(tmp_path / "held.jsonl", held)
        raw = {
            "name": "leaky",
            "task": {"kind": "jsonl", "path": "train.jsonl", "heldout_path": "held.jsonl"},
            "probe": {"problems": 10},
            "dataset": dataset,
        }
        (tmp_path / "leaky.yaml").write_text(yaml.safe_dump(raw))
        return tmp_path / "leaky.yaml"

    return make


@pytest.mark.parametrize(
    ("num_leaks", "dataset", "level"),
    [
        (0, {}, Level.OK),
        (2, {}, Level.WARNING),
        (3, {}, Level.ERROR),
        (1, {"max_copies": 0.0}, Level.ERROR),
    ],
)
def test_the_share_of_copies_decides_and_is_said(leaky, num_leaks, dataset, level):
    (found,) = copies.check(prepare(load_recipe(leaky(num_leaks, **dataset))), Path())
    assert found.level is level
    if num_leaks:
        assert found.what.startswith(f"{num_leaks} of 50 training problems")


def test_a_recipe_may_allow_more_copies(leaky):
    allowed = load_recipe(leaky(10), ["dataset.max_copies=0.5"])
    (found,) = copies.check(prepare(allowed), Path())
    assert found.level is Level.WARNING


def test_a_run_on_too_many_copies_does_not_start(leaky, tmp_path, capsys):
    path = leaky(10)
    assert main(["run", str(path), "--runs", str(tmp_path / "runs")]) == 2
    said = capsys.readouterr().err
    assert "10 of 50 training problems (20.0%)" in said and "dataset.max_copies allows 5.0%" in said
    assert not (tmp_path / "runs").exists()
    assert main(["run", str(path), "--runs", str(tmp_path / "runs"), "--check"]) == 2


HELD = STORY.format(a=500, b=507)


@pytest.mark.parametrize("origin", ["kept", "earlier", "gold", "demonstration", "archive"])
@pytest.mark.parametrize(
    ("question", "text", "by"),
    [
        (HELD, "500+507", "question"),
        (all_of_them(HELD, random.Random(1)), "500+507", "near"),
        ("What is 2 + 2?", f"As in: {HELD} 500+507=1007. So it is 4.", "text"),
        (STORY.format(a=501, b=508), "501+508", None),
    ],
)
def test_every_source_of_examples_is_screened_by_question_and_by_text(origin, question, text, by):
    from ouroloop.evals.questions import normalised

    example = Example("p", (1,), (2,), text, origin, 1)
    screen = Screen({"p": (question,)}, {normalised(HELD)}, Copies.of([HELD]))
    kept, screened = screen.clean([example])
    assert screened.num_examples == 1
    assert [copy.by for copy in screened.copies] == ([by] if by else [])
    assert kept == ([] if by else [example])


def test_a_planted_leak_is_counted_in_the_round_and_in_the_table(tmp_path, monkeypatch):
    """A training problem that the held-out questions know in other words reaches no training."""
    settings = recipe(rounds=1)
    plain = Campaign.begin

    def planted(self):
        asked = [problem.question for problem in self.setting.problems]
        rng = random.Random(0)
        held_out = [zero_width(number_word(question, rng), rng) for question in asked[::4]]
        object.__setattr__(self.setting, "copies", Copies.of(held_out))
        plain(self)

    monkeypatch.setattr(Campaign, "begin", planted)
    _, path = carry(tmp_path, Model(lambda number: 0.9), settings)
    run = read_run(path)
    screened = run.rounds[1].screened
    assert screened["copies"] and {copy["by"] for copy in screened["copies"]} == {"near"}
    assert screened["num_examples"] == len(run.rounds[1].examples) + len(screened["copies"])
    trained = set(run.rounds[1].examples["problem_id"])
    assert trained.isdisjoint(copy["problem_id"] for copy in screened["copies"])
    said = (
        f"round 1: {len(screened['copies'])} of {screened['num_examples']} examples held a held-out"
    )
    assert said in rounds_table(run)
