"""Simulated text that nobody scores: its worlds, and what the committed runs show."""

from pathlib import Path

import numpy as np
import pytest

from ouroloop.monitors.bench import cells, unscored
from ouroloop.monitors.decision import guarded
from ouroloop.monitors.decision.blocks import block_scores
from ouroloop.monitors.decision.populations import Design, drawn
from ouroloop.monitors.estimators.stats import clopper_pearson
from ouroloop.monitors.names import Tier

RESULTS = Path(__file__).resolve().parents[3] / "docs" / "validation"
# As many samples as make a mean exact to about a thousandth.
MANY = 400


def quantities(tables):
    return {q.stream.quantity: q for q in guarded.quantities(tables, unscored.RULE)}


def mean_of(pair_side, quantity):
    return float(np.nanmean(block_scores(pair_side, quantity.size, quantity.score)))


@pytest.mark.slow
@pytest.mark.parametrize("tier", [Tier.HALT, Tier.WATCH])
@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("unchanged", ()),
        ("columns", ("open", "texts_open", "answered", "length", "approved/helpful", "judged")),
        ("clusters", ("clusters",)),
        ("canned", ("canned",)),
        ("dying", ("alive_clusters",)),
    ],
)
def test_in_a_boundary_world_exactly_what_is_named_has_lost_what_the_tier_tolerates(
    name, ids, tier
):
    share = 1.0 if tier is Tier.HALT else unscored.RULE.watch_share
    design = Design(0, MANY, MANY, num_free=100)
    rngs = [np.random.default_rng(1)]
    unharmed = drawn(unscored.population(100), design, np.random.default_rng(0), rngs)[0]
    worse = unscored.WORLDS[name](unharmed, np.random.default_rng(2), share)
    before, after = quantities(unharmed), quantities(worse)
    for id, quantity in after.items():
        if quantity.guard().__class__.__name__ == "Missing":
            continue
        # The same score on the same samples with and without the harm: their noise cancels.
        then = mean_of(before[id].pair.now, quantity)
        lost = then - mean_of(quantity.pair.now, quantity)
        tolerated = quantity.tolerance * (then if quantity.relative else abs(quantity.shown[1]))
        if id in ids:
            assert lost == pytest.approx(share * tolerated, rel=0.12), id
        elif name in ("unchanged", "columns"):
            assert lost == pytest.approx(0.0, abs=0.02 * tolerated + 1e-9) or id in (
                "approved/harmless",
            ), id
        else:
            assert lost < share * tolerated, id


def test_a_canned_response_is_called_and_an_unchanged_model_is_not():
    calm = unscored.at_boundary("100x8", "unchanged", Tier.HALT, 1)
    assert (calm.watch, calm.halt) == (0, 0)
    found = unscored.collapse("100x8", 0.2, 1)
    assert 1 <= found.watch <= 2 and found.halt <= 3 and found.watch_driver == "canned"


def test_the_table_counts_runs_by_the_round_of_their_first_call(tmp_path):
    runs = [unscored.Run(0, 1, "canned", 2, "canned"), unscored.Run(1, 3, "canned")]
    cells.write(cells.Cell(tmp_path / unscored.FILE, "100x8/collapse-0.1"), runs)
    cells.write(cells.Cell(tmp_path / unscored.FILE, "100x8/halt-unchanged"), runs)
    (line,) = unscored.collapse_lines(tmp_path)
    watch_and_halt = ("50 %", "50 %", "100 %", "100 %", "2", "0 %", "50 %", "50 %", "50 %", "12")
    assert tuple(line) == ("100x8", "10 %", 2, *watch_and_halt)
    halt, watch = unscored.boundary_lines(tmp_path)
    assert halt[:2] == ["HALT", "100x8"] and halt[3:6] == [2, 1, "50.0 %"]
    assert watch[0] == "WATCH" and watch[3:6] == [2, 2, "100.0 %"]
    page = unscored.write(tmp_path).read_text()
    assert "| HALT | 100x8 | The model of the baseline | 2 | 1 |" in page


def test_committed_boundary_runs_of_unscored_text_alarmed_seldom_enough():
    for tier, size, name in unscored.lines_of(tuple(unscored.SIZES)):
        found = unscored.rows_of(RESULTS, unscored.cell_of(tier, size, name))
        if size == "100x8" and tier is Tier.HALT:
            assert len(found) >= 100, name
        hits, alpha = sum(row[tier] != "0" for row in found), unscored.RULE.alpha
        if tier is Tier.WATCH:
            alpha = unscored.RULE.watch_alpha
        # No evidence of more false alarms than are promised.
        assert not found or clopper_pearson(hits, len(found))[0] <= alpha, (tier, size, name)


def test_committed_runs_called_a_tenth_of_canned_samples_within_two_rounds():
    found = unscored.rows_of(RESULTS, "100x8/collapse-0.1")
    called = [1 <= int(row["watch"]) <= 2 for row in found]
    assert len(found) >= 100 and np.mean(called) >= 0.95


def test_an_unchanged_model_is_weighed_by_both_tiers_and_the_goals_cells_get_all_runs(
    monkeypatch, tmp_path
):
    asked = []
    monkeypatch.setattr(unscored, "run", lambda *given: asked.append(given[-1]))
    unscored.at_boundary("100x8", "unchanged", "watch", 0)
    unscored.at_boundary("100x8", "canned", "watch", 0)
    assert asked == [tuple(Tier), (Tier.WATCH,)]
    num = {cell.name: len(todo) for cell, (_, todo) in unscored.cells(tmp_path, 200).items()}
    assert list(num)[:2] == ["100x8/collapse-0.1", "100x8/halt-unchanged"]
    assert num["200x16/halt-unchanged"] == 200 and num["200x16/watch-clusters"] == 100
