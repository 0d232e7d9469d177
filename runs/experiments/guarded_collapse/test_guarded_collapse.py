"""The arms of the collapse study.

What each may see, that they are comparable, and that what is kept of a run is the run.
"""

import math
from functools import partial

import pytest

from ouroloop.evals.worlds.arithmetic.task import SHORTCUT, ArithmeticTask
from ouroloop.loop.experiments import report, results, rounds
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.svg import save_figure
from runs.experiments.guarded_collapse import arms, findings, notes
from runs.experiments.guarded_collapse.figure import draw
from runs.experiments.guarded_collapse.study import EXPERIMENT, STUDY


def recipe_of(arm, seed):
    keys = STUDY.keys(arm, seed)
    return resolve({**keys, "model": "arithmetic/base"} if keys["model"] == "$planted" else keys)


@pytest.mark.parametrize("arm", arms.ARMS)
def test_every_arm_is_a_right_recipe_with_the_same_problems_samples_probe_set_and_training(arm):
    recipe = recipe_of(arm, 3)
    base = recipe_of("answer_filtered", 3)
    for same in ("sft", "rounds", "seed", "init", "engine"):
        assert getattr(recipe, same) == getattr(base, same), same
    assert recipe.sampling.problems_per_round * recipe.sampling.samples_per_problem == 800
    sizes = (500, 16, 128) if arm in arms.LARGER else (150, 16, 48)
    assert (recipe.probe.problems, recipe.probe.samples, recipe.probe.baseline_samples) == sizes
    assert recipe.monitors.guard is arm.startswith("guarded")


ONE, *OTHERS = arms.REGIMES


@pytest.mark.parametrize("arm", [ONE, *(pytest.param(a, marks=pytest.mark.slow) for a in OTHERS)])
def test_under_the_larger_probe_set_the_same_is_drawn_and_trained_on(arm):
    small, large = recipe_of(arm, 3), recipe_of(f"{arm}_500", 3)
    for same in ("task", "sampling", "refine", "filters", "dataset", "sft", "seed"):
        assert getattr(small, same) == getattr(large, same), same
    assert [p.id for p in prepare(small).problems] == [p.id for p in prepare(large).problems]


def test_arms_without_gold_answers_never_see_one():
    for arm in ("replace", "sharpen", "critic_filtered", "shortcut"):
        filters = recipe_of(arm, 0).filters
        assert not filters.gold, arm
    assert recipe_of("critic_filtered", 0).filters.critic


def test_no_arm_trains_on_what_it_is_measured_on():
    setting = prepare(recipe_of("healthy", 0))
    asked = {p.question for p in setting.probe_set.problems}
    assert not asked & {p.question for p in (*setting.problems, *setting.demonstrations)}


def test_the_hole_in_the_verifier_is_there_only_when_the_recipe_says_so():
    item = ArithmeticTask().problems("train")[0]
    assert ArithmeticTask().check_steps(item, SHORTCUT).valid is False
    holed = ArithmeticTask(loophole=True)
    assert holed.check_steps(item, SHORTCUT).valid is True
    assert holed.check_steps(item, "answer 99").valid is False
    assert holed.grade(item, SHORTCUT).correct is (item.answer == "100")
    setting = prepare(recipe_of("shortcut", 0))
    assert setting.task.check_steps(item, SHORTCUT).valid is True


def run(dcp, actions, pass_1=(0.5, 0.7, 0.8)):
    others = (f"{family}_pass_k" for family in findings.STRUCTURES)
    keys = (
        "pass_1",
        "greedy",
        "maj_k",
        "tail_pass_k",
        "overconfidence",
        "alive",
        "tokens",
        *others,
        *(f"share_{s}" for s in rounds.STRATEGIES),
    )
    return [
        {
            **dict.fromkeys(keys, 0.5),
            "round": float(i),
            "dcp": d,
            "action": a,
            "mode": "sharpening" if a == "rollback" else "",
            "pass_1": p,
            "tail_pass_k": p,
        }
        for i, (d, a, p) in enumerate(zip(dcp, actions, pass_1, strict=True))
    ]


def test_the_page_shows_means_over_seeds_delays_and_modes(tmp_path):
    runs = {
        0: run((0.2, 0.3, 0.1), ("continue", "reinject", "rollback")),
        1: run((0.2, 0.3, 0.2), ("continue",) * 3, (0.5, 0.7, 0.6)),
    }
    for seed, rows in runs.items():
        rounds.write(rows, tmp_path / f"sharpen-{seed}.csv")
    (tmp_path / "notes-1.csv").write_text("not a run\n")
    results.collect(STUDY, tmp_path, tmp_path / "results.csv")
    shown = report.page(EXPERIMENT, results.read(STUDY, tmp_path / "results.csv"), "here")
    # Two seeds have a mean, and no interval that says anything: [-57, 197] %.
    assert "| sharpen | 2 | 70.0 % |" in shown
    assert "| sharpen | 0 | 1 | 2 | - | - | sharpening |" in shown
    assert "| sharpen | 1 | - | - | - | 2 | - |" in shown


def test_the_page_shows_the_second_looks_measurements():
    found = run((0.2, 0.2, 0.1), ("continue",) * 3, (0.5, 0.47, 0.45))
    assert notes.again({"replace": {4: found}}) == []
    found[0] |= {"fresh_tail_pass_k": 0.99}
    found[1] |= {
        "fresh_tail_pass_k": 0.98,
        "fresh_change": -0.013,
        "fresh_change_low": -0.02,
        "fresh_change_high": -0.006,
    }
    assert (
        notes.again({"replace": {4: found}})[-1]
        == "| replace 4 | 1 | -3.0 | -1.3 [-2.0, -0.6] % | -3.0 | -1.0 |"
    )


def test_what_was_kept_foretells_the_next_rounds_strategies_where_the_next_round_is_made_of_it():
    def row(drafted, kept):
        shares = {"drafted": (drafted, 1 - drafted, 0, 0), "kept": (kept, 1 - kept, 0, 0)}
        return {
            f"{what}_{s}": v
            for what, values in shares.items()
            for s, v in zip(rounds.STRATEGIES, values, strict=True)
        }

    learnt = [row(math.nan, math.nan), row(0.2, 0.5), row(0.5, 0.6), row(0.6, 0.9), row(0.9, 0.9)]
    by_kept, unchanged = notes.foreseen({"sharpen": {0: learnt}, "guarded": {0: learnt[::-1]}})
    assert by_kept == pytest.approx(1) and 0 < unchanged < 0.9
    nothing_kept = [*learnt, row(0.8, math.nan), row(0.8, 0.8)]
    assert notes.foreseen({"sharpen": {0: nothing_kept}})[0] > 0.9
    assert all(math.isnan(v) for v in notes.foreseen({"sharpen": {0: [{"dcp": 1.0}] * 3}}))


def test_the_guarded_arm_is_held_against_the_line_through_fixed_shares_seed_by_seed():
    def ended(pass_1, dcp):
        return [{"pass_1": 0.5, "dcp": 0.2}, {"pass_1": pass_1, "dcp": dcp}]

    fixed = {
        "answer_filtered": (0.9, 0.1),
        "fixed_10": (0.8, 0.2),
        "fixed_30": (0.7, 0.3),
        "fixed_50": (0.6, 0.3),
    }
    found = {arm: {0: ended(*at), 1: ended(*at)} for arm, at in fixed.items()}
    found["guarded"] = {0: ended(0.85, 0.25), 1: ended(0.75, 0.2), 2: ended(0.8, 0.9)}
    assert findings.above_frontier(found).value == pytest.approx(
        (0.10 - 0.05) / 2
    )  # a seed that lacks the others does not count
    assert math.isnan(findings.above_frontier({"guarded": found["guarded"]}).value)


def test_what_is_asked_is_met_only_when_every_run_shows_it():
    def met(found):
        return {goal.asks.partition("(")[0].strip(): goal.met for goal in findings.goals(found)}

    assert set(met({}).values()) == {None}
    calm, alarmed = ("continue",) * 3, ("continue", "reinject", "rollback")
    fell = run((0.2, 0.2, 0.1), calm, (0.5, 0.6, 0.4))
    late = "unsteered runs 2 points below round 0 that were warned at most one round later"
    assert (
        met(
            {
                "replace": {
                    0: run((0.2, 0.2, 0.1), alarmed, (0.5, 0.6, 0.4)),
                    1: run((0.2, 0.2, 0.2), calm),
                }
            }
        )[late]
        is True
    )
    assert (
        met({"replace_500": {0: fell}})[late] is None and met({"replace": {0: fell}})[late] is False
    )
    assert met({"guarded": {0: fell}})[late] is None
    healthy = {
        "healthy": {0: run((0.2, 0.2, 0.2), calm)},
        "healthy_500": {0: run((0.2, 0.2, 0.2), alarmed)},
    }
    assert met(healthy)["healthy runs that were not halted, under either probe set"] is False
    guarded = {"guarded": {seed: run((0.2, 0.3, 0.2 + seed / 1000), calm) for seed in range(3)}}
    assert met(guarded)["guarded keeps DCP"] is True
    assert met(guarded)["guarded: the rarest strategy's share"] is True
    guarded["guarded"][1][-1][f"share_{rounds.STRATEGIES[2]}"] = 0.009
    assert met(guarded)["guarded: the rarest strategy's share"] is False


def test_less_confidence_is_no_merit_below_zero():
    def ended(overconfidence):
        rows = run((0.2, 0.3, 0.3), ("continue",) * 3)
        rows[-1]["overconfidence"] = overconfidence
        return rows

    def met(unguarded, guarded):
        results = {
            "answer_filtered": {i: ended(unguarded + i / 1000) for i in range(3)},
            "guarded": {i: ended(guarded - i / 2000) for i in range(3)},
        }
        (goal,) = [g for g in findings.accuracy(results) if "calibrated" in g.asks]
        return goal.met

    assert met(0.09, 0.02) is True
    # Further below zero than the other is above it: 7 points less confident, and no closer.
    assert met(0.02, -0.05) is False and met(0.02, -0.01) is True


def test_runs_that_ended_early_are_drawn_too(tmp_path):
    found = {
        "guarded": {0: run((0.2, 0.3, 0.1), ("continue",) * 3), 1: run((0.2,), ("halt",), (0.5,))}
    }
    save_figure(partial(draw, found), tmp_path / "figure.svg", "x")
    assert "guarded" in (tmp_path / "figure.svg").read_text()


@pytest.mark.slow
@pytest.mark.long
def test_the_planted_base_has_learnt_from_a_few_shortcuts_and_is_made_once(tmp_path):
    from ouroloop.loop.folder.store import read_rows
    from runs.experiments.guarded_collapse import planted

    checkpoint = planted.plant(tmp_path / "planted")
    texts = [row["text"] for row in read_rows(tmp_path / "planted" / "examples.parquet")]
    assert texts.count(SHORTCUT) == planted.SHARE * len(texts) == 40
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert (
        planted.plant(tmp_path / "planted") == checkpoint
        and (checkpoint / "model.safetensors").stat().st_mtime_ns == before
    )
