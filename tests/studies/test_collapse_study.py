"""The arms of the collapse study.

What each may see, that they are comparable, and that what is kept of a run is the run.
"""

import math
import sys
from functools import partial
from pathlib import Path

import pytest

from ouroloop.evals.worlds.arithmetic.task import SHORTCUT, ArithmeticTask
from ouroloop.loop.errors import RunStateError
from ouroloop.loop.experiments import collapse, harness, rounds, tables, worker
from ouroloop.loop.experiments.study import Study
from ouroloop.loop.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.store import Store
from ouroloop.loop.views.figures import save_figure

sys.path.insert(0, str(Path(__file__).parents[1] / "loop"))


def recipe_of(arm, seed):
    keys = collapse.STUDY.keys(arm, seed)
    return resolve({**keys, "model": "arithmetic/base"} if keys["model"] == "$planted" else keys)


@pytest.mark.parametrize("arm", collapse.ARMS)
def test_every_arm_is_a_right_recipe_with_the_same_problems_samples_panel_and_training(arm):
    recipe = recipe_of(arm, 3)
    base = recipe_of("answer_filtered", 3)
    for same in ("sft", "rounds", "seed", "init", "engine"):
        assert getattr(recipe, same) == getattr(base, same), same
    assert recipe.sampling.problems_per_round * recipe.sampling.samples_per_problem == 800
    panel = (500, 16, 128) if arm in collapse.LARGER else (150, 16, 48)
    assert (recipe.probe.problems, recipe.probe.samples, recipe.probe.baseline_samples) == panel
    assert recipe.monitors.guard is arm.startswith("guarded")


@pytest.mark.parametrize("arm", collapse.REGIMES)
def test_under_the_larger_panel_the_same_is_drawn_and_trained_on(arm):
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


@pytest.mark.slow
def test_a_runs_rows_survive_their_file_and_hold_what_the_run_holds(tmp_path):
    from scripted_world import Model, carry, recipe

    _, path = carry(tmp_path, Model(), recipe())
    found = rounds.table(path)
    assert [r["round"] for r in found] == [0, 1, 2, 3] and found[0]["tokens"] == 0
    assert 0 < found[1]["tokens"] < found[2]["tokens"] < found[3]["tokens"]
    assert 0 <= found[2]["pass_1"] <= 1 and found[2]["alive"] >= 1
    assert (
        math.isnan(found[0]["kept_split"])
        and 0 < found[2]["kept_split"] < 1
        and 0 < found[2]["drafted_split"] < 1
    )
    rounds.write(found, tmp_path / "guarded-0.csv")
    again = rounds.read(tmp_path / "guarded-0.csv")
    for one, other in zip(found, again, strict=True):
        assert one.keys() == other.keys()
        for a, b in zip(one.values(), other.values(), strict=True):
            assert a == b or math.isclose(a, b, rel_tol=1e-4) or (math.isnan(a) and math.isnan(b))


def run(dcp, actions, pass_1=(0.5, 0.7, 0.8)):
    others = (f"{family}_pass_k" for family in collapse.STRUCTURES)
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


def test_the_table_tells_means_over_seeds_delays_and_modes(tmp_path):
    rounds.write(
        run((0.2, 0.3, 0.1), ("continue", "reinject", "rollback")), tmp_path / "sharpen-0.csv"
    )
    rounds.write(
        run((0.2, 0.3, 0.2), ("continue", "continue", "continue"), (0.5, 0.7, 0.6)),
        tmp_path / "sharpen-1.csv",
    )
    (tmp_path / "notes-1.csv").write_text("not a run\n")
    told = collapse.page(harness.results(collapse.STUDY, tmp_path))
    assert "| sharpen | 2 | 70.0 [-57.1, 197.1] % |" in told
    assert (
        "| sharpen | 0 | 1 | 2 | - | - | sharpening |" in told
        and "| sharpen | 1 | - | - | - | 2 | - |" in told
    )


def test_the_page_tells_what_a_second_look_said():
    found = run((0.2, 0.2, 0.1), ("continue",) * 3, (0.5, 0.47, 0.45))
    assert collapse.again({"replace": {4: found}}) == []
    found[0] |= {"fresh_tail_pass_k": 0.99}
    found[1] |= {
        "fresh_tail_pass_k": 0.98,
        "fresh_change": -0.013,
        "fresh_change_low": -0.02,
        "fresh_change_high": -0.006,
    }
    assert (
        collapse.again({"replace": {4: found}})[-1]
        == "| replace 4 | 1 | -3.0 | -1.3 [-2.0, -0.6] % | -3.0 | -1.0 |"
    )


def test_what_was_kept_foretells_the_next_rounds_strategies_where_the_next_round_is_made_of_it():
    def row(drafted, kept):
        shares = {"drafted": (drafted, 1 - drafted, 0, 0), "kept": (kept, 1 - kept, 0, 0)}
        return {
            f"{what}_{s}": v
            for what, told in shares.items()
            for s, v in zip(rounds.STRATEGIES, told, strict=True)
        }

    learnt = [row(math.nan, math.nan), row(0.2, 0.5), row(0.5, 0.6), row(0.6, 0.9), row(0.9, 0.9)]
    by_kept, unchanged = collapse.foreseen({"sharpen": {0: learnt}, "guarded": {0: learnt[::-1]}})
    assert by_kept == pytest.approx(1) and 0 < unchanged < 0.9
    nothing_kept = [*learnt, row(0.8, math.nan), row(0.8, 0.8)]
    assert collapse.foreseen({"sharpen": {0: nothing_kept}})[0] > 0.9
    assert all(math.isnan(v) for v in collapse.foreseen({"sharpen": {0: [{"dcp": 1.0}] * 3}}))


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
    assert collapse.above_frontier(found).value == pytest.approx(
        (0.10 - 0.05) / 2
    )  # a seed that lacks the others does not count
    assert math.isnan(collapse.above_frontier({"guarded": found["guarded"]}).value)


def test_what_is_asked_is_met_only_when_every_run_shows_it():
    def met(found):
        return {goal.asks.partition("(")[0].strip(): goal.met for goal in collapse.goals(found)}

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
    assert met(healthy)["healthy runs that were not halted, under either panel"] is False
    guarded = {"guarded": {seed: run((0.2, 0.3, 0.2 + seed / 1000), calm) for seed in range(3)}}
    assert met(guarded)["guarded keeps DCP"] is True
    assert met(guarded)["guarded: the rarest strategy's share"] is True
    guarded["guarded"][1][-1][f"share_{rounds.STRATEGIES[2]}"] = 0.009
    assert met(guarded)["guarded: the rarest strategy's share"] is False


def test_runs_that_ended_early_are_drawn_too(tmp_path):
    found = {
        "guarded": {0: run((0.2, 0.3, 0.1), ("continue",) * 3), 1: run((0.2,), ("halt",), (0.5,))}
    }
    save_figure(partial(collapse.draw, found), tmp_path / "figure.svg", "x")
    assert "guarded" in (tmp_path / "figure.svg").read_text()


def test_what_is_finished_is_not_run_again(tmp_path, capsys):
    rounds.write(run((0.2, 0.3, 0.1), ("continue",) * 3), tmp_path / "replace-0.csv")
    harness.run(collapse.STUDY, ["replace"], [0], tmp_path / "runs", tmp_path)
    assert (
        "1 of 1 runs are finished" in capsys.readouterr().err and not (tmp_path / "runs").exists()
    )


def test_differences_between_arms_are_taken_seed_by_seed():
    found = {
        "a": {0: [{"x": 0.5}], 1: [{"x": 0.7}], 2: [{"x": 9.0}]},
        "b": {0: [{"x": 0.25}], 1: [{"x": 0.35}]},
    }
    assert tables.times(found, "a", "b", tables.last("x"))[:3] == pytest.approx((2, 2, 2))
    gained = tables.gain(found, "a", "b", tables.last("x"))
    assert (
        gained.value == pytest.approx(0.3)
        and gained.num_clusters == 2
        and gained.low < 0.3 < gained.high
    )
    assert math.isnan(tables.gain(found, "a", "c", tables.last("x")).value)


def test_a_table_too_wide_to_read_is_turned():
    found = {"a": {0: [{"x": 0.5}]}, "b": {0: [{"x": 0.25}]}}
    few, many = (
        {f"c{i}": (tables.last("x"), "%") for i in range(n)} for n in (2, tables.WIDEST + 1)
    )
    lines = [
        "| arm | seeds | c0 | c1 |",
        "|---|---|---|---|",
        "| a | 1 | 50.0 % | 50.0 % |",
        "| b | 1 | 25.0 % | 25.0 % |",
    ]
    assert tables.arm_table(found, few) == lines
    turned = tables.arm_table(found, many)
    assert (
        turned[:3] == ["| arm | a | b |", "|---|---|---|", "| seeds | 1 | 1 |"]
        and turned[3] == "| c0 | 50.0 % | 25.0 % |"
        and len(turned) == 14
    )


def test_an_arm_that_starts_from_anothers_checkpoint_comes_after_it_and_gets_its_last_one_of_the_same_seed(
    tmp_path,
):
    arms = {
        "late": {"model": "@early", "teachers": ["@other"]},
        "early": {"model": "$thing"},
        "other": {"seed": 100},
    }
    study = Study(
        "s",
        {"model": "arithmetic/base", "rounds": 1},
        arms,
        made={"thing": lambda folder: folder / "made"},
    )
    assert study.in_order(["late"]) == ["early", "other", "late"]
    assert study.recipe("early", 2, tmp_path)["model"] == str(tmp_path / "made" / "thing" / "made")
    assert study.recipe("other", 2, tmp_path)["seed"] == 102
    with pytest.raises(RunStateError, match="early-2"):
        study.recipe("late", 2, tmp_path)
    for name in ("early-2/rounds/001", "early-2/rounds/003", "other-2/rounds/001"):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
    found = study.recipe("late", 2, tmp_path)
    assert found["model"] == str(tmp_path / "early-2" / "rounds" / "003" / "checkpoint")
    assert found["teachers"] == [str(tmp_path / "other-2" / "rounds" / "001" / "checkpoint")]


@pytest.mark.slow
def test_arms_that_begin_alike_share_the_first_probe_and_come_to_the_same_rounds(tmp_path):
    from scripted_world import Model, carry, recipe

    def begun(name, **changes):
        settings = recipe(name=name, rounds=1, **changes)
        Store.create(tmp_path, settings, "none").close()
        return worker.lend_beginning(tmp_path / name, settings)

    model, other = (
        Model(),
        {
            "dataset": {"replay_fraction": 0.5},
            "sampling": {"temperatures": [0.7]},
            "sft": {"num_train_epochs": 2},
        },
    )
    carry(tmp_path, model, recipe(name="first-3", rounds=1))
    assert begun("second-3", **other)
    assert not worker.lend_beginning(tmp_path / "second-3", recipe(name="second-3")), (
        "a run that has begun keeps what it has"
    )
    for name, changes in (
        ("a-3", {"seed": 1}),
        ("b-3", {"probe": {"samples": 12}}),
        ("c-3", {"refine": {"revisions": 0}}),
        ("d-4", {}),
    ):
        assert not begun(name, **changes), name
    model.engine.requests.clear()
    carry(tmp_path, model, recipe(name="second-3", rounds=1, **other))
    assert not any(
        request.id.startswith("000/") and "/probe/" in request.id
        for request in model.engine.requests
    )
    _, alone = carry(tmp_path / "alone", Model(), recipe(name="second-3", rounds=1, **other))
    for file in (
        "000/probe.parquet",
        "000/readings.json",
        "001/samples.jsonl",
        "001/decision.json",
    ):
        assert (tmp_path / "second-3" / "rounds" / file).read_bytes() == (
            alone / "rounds" / file
        ).read_bytes(), file


@pytest.mark.slow
def test_the_planted_base_has_learnt_from_a_few_shortcuts_and_is_made_once(tmp_path):
    from ouroloop.loop.experiments import planted
    from ouroloop.loop.store import read_rows

    checkpoint = planted.plant(tmp_path / "planted")
    texts = [row["text"] for row in read_rows(tmp_path / "planted" / "examples.parquet")]
    assert texts.count(SHORTCUT) == planted.SHARE * len(texts) == 40
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert (
        planted.plant(tmp_path / "planted") == checkpoint
        and (checkpoint / "model.safetensors").stat().st_mtime_ns == before
    )
