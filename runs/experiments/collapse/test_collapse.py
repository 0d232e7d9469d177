"""The workflows of the collapse literature: what each arm may see, and what is asked of them."""

import pytest

from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from runs.experiments.collapse.findings import COLUMNS, goals
from runs.experiments.collapse.study import STUDY
from runs.experiments.guarded_collapse.findings import STRUCTURES


def recipe(arm, seed=0):
    return resolve(STUDY.keys(arm, seed))


@pytest.mark.parametrize("arm", STUDY.arms)
def test_arms_draw_the_same_problems_as_often_and_are_measured_and_trained_alike(arm):
    one, base = recipe(arm, 3), recipe("replace", 3)
    for same in ("model", "rounds", "seed", "init", "engine", "task"):
        assert getattr(one, same) == getattr(base, same), same
    assert {**one.sft, "num_train_epochs": 2} == base.sft and (one.sft == base.sft) is (
        arm != "accumulate"
    )
    assert one.rounds >= 15 and one.probe.model_copy(update={"critiques": 0}) == base.probe
    assert (
        one.sampling.model_copy(update={"temperatures": base.sampling.temperatures})
        == base.sampling
    )
    assert one.monitors.guard is (arm == "guarded")


def test_the_published_workflows_filter_nothing_and_differ_in_the_policy_alone():
    found = {arm: recipe(arm) for arm in ("replace", "accumulate", "accumulate_subsample")}
    for arm, one in found.items():
        assert (
            one.dataset.policy == arm
            and not one.filters.gold
            and not one.filters.steps
            and one.filters.duplicates == "none"
        )
        assert one.sampling.temperatures == (1.0,)
        alike = {"dataset": None, "name": "", "sft": None}
        assert one.model_copy(update=alike) == found["replace"].model_copy(update=alike)
    assert (
        recipe("replay_30").dataset.replay_fraction == 0.3
        and recipe("answer_filtered").dataset.replay_fraction == 0
    )
    assert (
        recipe("answer_filtered").filters
        == recipe("replay_30").filters
        == recipe("guarded").filters
    )


def test_no_arm_trains_on_what_it_is_measured_on():
    setting = prepare(recipe("replay_30"))
    asked = {p.question for p in setting.probe_set.problems} | {
        p.question for p in setting.held_out.texts
    }
    assert not asked & {p.question for p in (*setting.problems, *setting.demonstrations)}


def run(pass_1, text, dcp=(0.2, 0.2), greedy=0.9):
    return [
        {"pass_1": p, "greedy": greedy, "text_cross_entropy": t, "dcp": d}
        for p, t, d in zip((0.5, pass_1), (0.1, text), dcp, strict=True)
    ]


def test_goals_are_met_by_the_published_order_and_by_nothing_else():
    good = {
        "replace": {s: run(0.40 + s / 100, 0.9 + s / 50) for s in range(3)},
        "accumulate": {s: run(0.55 + s / 90, 0.2) for s in range(3)},
        "answer_filtered": {s: run(0.95, 0.5, (0.2, 0.01 + s / 1000)) for s in range(3)},
        "guarded": {
            s: run(0.90, 0.1, (0.2, 0.4 + s / 100), greedy=0.89 + s / 1000) for s in range(3)
        },
    }
    assert [goal.met for goal in goals(good) if goal.has_result] == [True, True, True, True]
    turned = {
        **good,
        "accumulate": good["replace"],
        "replace": good["accumulate"],
        "guarded": good["answer_filtered"],
    }
    assert [goal.met for goal in goals(turned) if goal.has_result] == [False, False, False, True]
    worse = {
        **good,
        "guarded": {s: run(0.8, 0.1, (0.2, 0.4), greedy=0.80 + s / 1000) for s in range(3)},
    }
    assert [goal.met for goal in goals(worse) if goal.has_result][3] is False


def test_columns_read_what_a_run_keeps():
    kept = {
        "pass_1": 0.5,
        "pass_k": 0.9,
        "alive": 4.0,
        "dcp": 0.2,
        "entropy": 0.1,
        "text_cross_entropy": 0.3,
        "overconfidence": 0.0,
    }
    rows = [{**kept, **{f"{family}_pass_k": 0.6 for family in STRUCTURES}} for _ in range(2)]
    found = {name: column(rows) for name, (column, _) in COLUMNS.items()}
    assert (
        found["DCP kept"] == 1
        and found["other structures, pass@8"] == pytest.approx(0.6)
        and found["pass@1"] == 0.5
    )
