"""Further draws of the probe set in a run: when, how many, resumed, and said in the decision."""

import re
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path

import pytest

from ouroloop.loop.drawn import Stopped
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.round import Round
from ouroloop.loop.stages import further

pytestmark = pytest.mark.slow

sys.path[:0] = [str(Path(__file__).parents[1] / "loop")]
scripted = import_module("scripted_world")
carry, small = scripted.carry, scripted.small

PROBE = {"problems": 12, "samples": 4, "baseline_samples": 16, "pass_at": 4, "majority": 4}
MADE = ("drawn.json", "readings.json", "decision.json")


def settings(**changes):
    monitors = {"baselines": [0], "guard": False, "budget": 0.9} | changes.pop("monitors", {})
    probe = {**PROBE, "draws": 3, **changes.pop("probe", {})}
    return small(rounds=2, probe=probe, monitors=monitors, **changes)


def collapsing():
    return scripted.Model(skill=lambda number: (0.9, 0.9, 0.7)[number])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    model = collapsing()
    _, path = carry(tmp_path_factory.mktemp("runs"), model, settings())
    return model, path


def test_a_collapse_is_drawn_again_and_a_baseline_or_a_calm_round_once(run):
    drawn = [Round.of(run[1], number).drawn for number in range(3)]
    assert [d.num_draws for d in drawn[:2]] == [1, 1] and 1 < drawn[2].num_draws <= 3
    assert [d.stopped for d in drawn[:2]] == [Stopped.BASELINE, Stopped.CALM]
    assert drawn[2].stopped in (Stopped.DRAWS, Stopped.HALT)
    assert len(drawn[2].begun) == drawn[2].num_draws and drawn[2].begun[0] > drawn[1].begun[0]
    assert drawn[1].further_tokens == 0 < drawn[2].further_tokens


def test_every_draw_asks_every_problem_with_seeds_of_its_own(run):
    model, path = run
    found = Round.of(path, 2)
    num = found.drawn.num_draws
    each = Counter((row.problem, row.draw) for row in found.further)
    first = Counter(row.problem for row in found.probe if row.kind == "sample")
    assert set(each.values()) == {4} == set(first.values())
    assert set(each) == {(problem, draw) for problem in first for draw in range(1, num)}
    probes = [r for r in model.engine.requests if r.id.startswith("002/") and "/probe" in r.id]
    assert len({r.seed for r in probes}) == len(probes) > 0


def test_readings_and_decision_are_of_all_draws_and_say_how_many_samples(run):
    found = Round.of(run[1], 2)
    num = found.drawn.num_draws
    assert len(found.view.probe) == num * len(found.view.draws[0])
    right = [row.correct for row in (*found.probe, *found.further) if row.kind == "sample"]
    main = [r for r in found.readings if r.name.startswith("accuracy/pass@1")]
    assert len(right) == len(found.view.probe) and main
    said = f"drawn {num} times ({num * 4} samples a problem) because the evidence was near a limit"
    assert any(said in reason for reason in found.decision.reasons)
    assert not any("drawn" in r for r in Round.of(run[1], 1).decision.reasons)


@pytest.mark.parametrize("lost", [MADE, ("further.parquet", *MADE)])
def test_an_interrupted_round_makes_the_same_rows(tmp_path, run, lost):
    _, path = carry(tmp_path, collapsing(), settings())
    before = {
        name: (path / "rounds/002" / name).read_bytes() for name in ("further.parquet", *MADE)
    }
    scripted.uncommit(path, 2, *lost)
    carry(tmp_path, collapsing(), settings())
    for name, content in before.items():
        assert (path / "rounds/002" / name).read_bytes() == content, name


def test_the_budget_bounds_what_further_draws_cost(tmp_path):
    _, path = carry(tmp_path, collapsing(), settings(monitors={"budget": 0.001}))
    drawn = Round.of(path, 2).drawn
    assert drawn.stopped is Stopped.BUDGET and drawn.num_draws == 1 and drawn.begun[0] > 2.25
    assert not (path / "rounds/002/further.parquet").exists()


def test_without_further_draws_a_run_has_none_of_their_files(tmp_path):
    _, path = carry(tmp_path, collapsing(), settings(probe={"draws": 1}))
    assert not list(path.glob("rounds/*/drawn.json"))
    with pytest.raises(RunStateError, match=r"drawn\.json"):
        _ = Round.of(path, 2).drawn


def test_a_plan_says_what_further_draws_cost_and_show():
    (sentence,) = further.promised(settings(), 0.031)
    assert re.search(r"up to 3 times, within 90%.*12 samples a problem.*pass@1 of 0\.031", sentence)
    (sentence,) = further.promised(settings(probe={"draws": 2}), None)
    assert "up to 2 times" in sentence and "not even a complete fall" in sentence
    assert further.promised(settings(probe={"draws": 1}), 0.031) == ()
