"""What names a strategy: learned on round 0, frozen from then on, read back on resume."""

import random
import sys
from pathlib import Path

import pytest

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.stages.naming import Learned, strategist

sys.path.insert(0, str(Path(__file__).parents[1] / "loop"))
TASK = ArithmeticTask()


def traces(count, seed=0):
    rng = random.Random(seed)
    items = [world.draw("sum2", "train", rng) for _ in range(count)]
    return [
        (item, world.demonstrate(item, world.pick_strategy("sum2", item.metadata["a"], rng)))
        for item in items
    ]


def test_what_is_learned_once_stays_and_comes_back_from_its_file(tmp_path):
    learned = Learned()
    learned.keep_in(tmp_path / "strategies.json")
    with pytest.raises(RunStateError, match="round 0"):
        learned(*traces(1)[0])
    learned.learn(traces(300))
    names = [learned(*pair) for pair in traces(100, 1)]
    assert len(set(names)) >= 3
    learned.learn(traces(300, 2)[:150])
    again = Learned()
    again.keep_in(tmp_path / "strategies.json")
    assert (
        names
        == [learned(*pair) for pair in traces(100, 1)]
        == [again(*pair) for pair in traces(100, 1)]
    )


def test_the_recipes_choice_names_the_strategies():
    item, text = traces(1)[0]
    assert strategist(TASK, "task")(item, text) == TASK.strategy(item, text)
    assert strategist(TASK, "calculations")(item, text) != strategist(TASK, "operators")(item, text)
    assert isinstance(strategist(TASK, "templates"), Learned)


@pytest.mark.slow
def test_a_run_whose_strategies_are_learned_names_every_round_by_round_0(tmp_path):
    from scripted_world import Model, carry, recipe

    from ouroloop.loop.folder.store import read_rows

    settings = recipe(rounds=1, monitors={"canonicaliser": "templates"})
    _, path = carry(tmp_path, Model(), settings)
    assert (path / "strategies.json").exists()
    names = [
        {
            r["strategy"]
            for r in read_rows(path / f"rounds/{n:03d}/probe.parquet")
            if r["family"] == "sum2"
        }
        for n in (0, 1)
    ]
    assert len(names[0]) >= 3 and len(names[0] & names[1]) >= 3
