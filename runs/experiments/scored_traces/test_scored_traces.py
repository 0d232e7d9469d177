"""What is kept of a run that scored traces, and when its signals speak, on made-up rows."""

import math

import pytest
from scripted_world import Model, carry, recipe

from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from runs.experiments.scored_traces import afterwards, findings, measure, study

STUDY = study.EXPERIMENT.study


def run(retained, scored_dcp, dcp, watch):
    """Rows of a run, round by round."""
    return [
        {
            "round": float(i),
            "retained": kept,
            "retained_token": 0.9,
            "text_retained": 0.9,
            "scored_dcp": scored,
            "dcp": sampled,
            "pass_k": 0.9,
            "tail_pass_k": 0.8,
            "watch_share": share,
            "halt_share": 0.0,
        }
        for i, (kept, scored, sampled, share) in enumerate(
            zip(retained, scored_dcp, dcp, watch, strict=True)
        )
    ]


COLLAPSING = run([1, 0.8, 0.5, 0.3], [0.2, 0.3, 0.17, 0.1], [0.2, 0.4, 0.2, 0.1], [0, 0, 0, 1.2])
HEALTHY = run([1, 0.9, 0.8, 0.8], [0.2, 0.3, 0.3, 0.3], [0.2, 0.4, 0.4, 0.4], [0, 0, 0, 0])


def test_both_arms_draw_as_much_and_nobody_steers():
    for arm in STUDY.arms:
        made = resolve(STUDY.keys(arm, 1))
        assert made.monitors.guard is False and made.probe.traces == 8
        assert made.sampling.problems_per_round == 100
    assert resolve(STUDY.keys("fixed_30", 0)).dataset.replay_fraction == 0.3


def test_a_signal_speaks_in_the_first_round_in_which_it_is_so():
    assert findings.dcp_lost(COLLAPSING) == 3 and findings.watched(COLLAPSING) == 3
    assert findings.retained_fell(COLLAPSING) == findings.scored_dcp_fell(COLLAPSING) == 2
    assert all(math.isnan(signal(HEALTHY)) for signal in findings.SIGNALS.values())


def test_goals_are_met_by_early_signals_in_collapse_and_silence_in_health_and_only_by_these():
    bad, good = dict.fromkeys(range(3), COLLAPSING), dict.fromkeys(range(3), HEALTHY)
    right = findings.goals({"sharpen": bad, "fixed_30": good})
    assert [goal.met for goal in right] == [True] * 5
    wrong = findings.goals({"sharpen": bad, "fixed_30": bad})
    assert [goal.met for goal in wrong] == [True, True, False, False, True]


def test_what_one_run_shows_is_not_known_yet_but_one_miss_is_a_miss():
    once = findings.goals({"sharpen": {0: COLLAPSING}, "fixed_30": {0: COLLAPSING}})
    assert [goal.met for goal in once] == [None, None, False, False, None]
    assert [goal.met for goal in findings.goals({})] == [None] * 5


@pytest.mark.slow
def test_the_rows_hold_what_the_rounds_readings_say_and_scoring_afterwards_gives_the_same(tmp_path):
    model = Model()
    model.engine.surprise = lambda prompt, text: (-0.1 - 0.1 * model.round, 0.2)
    _, path = carry(tmp_path, model, recipe(rounds=2))
    rows = measure.measure(path)
    assert [row["round"] for row in rows] == [0, 1, 2]
    for row in rows:
        readings = {r.name: r.value for r in Round.of(path, row["round"]).readings}
        assert row["retained"] == pytest.approx(readings["traces/retained:all:all:traces"])
        assert row["scored_dcp"] == pytest.approx(readings["traces/dcp:all:all:traces"])
    assert rows[0]["retained"] == 1.0 > rows[1]["retained"] > rows[2]["retained"]
    assert rows[2]["text_retained_token"] == pytest.approx(math.exp(-0.2))
    scores = {number: Round.of(path, number).traces for number in range(3)}
    afterwards.keep({path: scores}, tmp_path / "demo.csv")
    kept = (tmp_path / "demo.csv").read_text().splitlines()
    assert len(kept) == 4 and kept[0].startswith("label,round") and kept[1].startswith("scripted,0")
