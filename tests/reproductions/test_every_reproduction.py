"""What holds for all reproductions.

Their recipes are right, nothing that is measured is trained on, and the report says what was found.
"""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from ouroloop.loop.__main__ import main
from ouroloop.loop.experiments import collapse, registry, rounds
from ouroloop.loop.experiments.goals import Goal, one_sided_low
from ouroloop.loop.experiments.study import Study, merge
from ouroloop.loop.experiments.tables import gain, last
from ouroloop.loop.recipe_file import load_recipe, resolve
from ouroloop.loop.reproductions import report
from ouroloop.loop.reproductions.base import Reproduction
from ouroloop.loop.reproductions.registry import NAMES, REPRODUCTIONS
from ouroloop.monitors.estimators.stats import Estimate

RECIPES = Path(__file__).parents[2] / "runs" / "recipes"
ARMS = [(name, arm) for name in NAMES for arm in REPRODUCTIONS[name]().study.arms]


def keys_without_references(study, arm, seed, quick):
    """An arm's recipe with built-in checkpoints in the place of those that are made or trained first."""

    def stand_in(value):
        if isinstance(value, dict):
            return {key: stand_in(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [stand_in(v) for v in value]
        refers = isinstance(value, str) and (
            value.startswith("@") or value.removeprefix("$") in study.made
        )
        return "arithmetic/base" if refers else value

    keys = study.keys(arm, seed, quick)
    task = (
        {"kind": "arithmetic"} if "$" in str(keys.get("task", "")) else keys.get("task", {})
    )  # a problem file that is made first
    return stand_in({**keys, "task": task})


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_every_arm_is_a_right_recipe_also_when_quick(name, arm):
    study = REPRODUCTIONS[name]().study
    for quick in (False, True):
        recipe = resolve(keys_without_references(study, arm, 1, quick))
        assert recipe.name == f"{arm}-1" and not recipe.tracking.mlflow, (
            "runs of a study are recorded together, at their end"
        )
    assert all(need in study.arms for need in study.needs(arm))


@pytest.mark.parametrize("name", NAMES)
def test_every_reproduction_says_what_it_is(name):
    made = REPRODUCTIONS[name]()
    assert (
        made.study.name == name
        and "arXiv" in made.paper
        and made.claim.endswith(".")
        and made.differs.endswith(".")
        and made.published
    )
    assert set(made.study.quick_arms or ()) <= set(made.study.arms) and len(made.seeds) >= 3
    assert not list(made.goals({})) or all(goal.met is None for goal in made.goals({}))


@pytest.mark.parametrize("name", NAMES)
def test_a_worker_finds_the_study_by_its_name(name):
    study = REPRODUCTIONS[name]().study
    assert registry.study(study.name) is study
    assert registry.study(collapse.STUDY.name) is collapse.STUDY


@pytest.mark.parametrize("name", NAMES)
def test_the_system_comes_as_a_recipe_for_the_small_world_and_one_for_a_gpu(name):
    for path in (RECIPES / f"{name}.yaml", RECIPES / f"{name}_hf.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("#"), "a comment says what the recipe does"
        assert "estimate" in text.lower() or not path.stem.endswith("_hf"), (
            "memory and time of what was not run are estimates"
        )


def test_recipes_of_the_small_world_load():
    for name in NAMES:
        recipe = load_recipe(RECIPES / f"{name}.yaml")
        assert recipe.name == name and recipe.model.startswith(("arithmetic/", "/")), name


def made(tmp_path, goals):
    study = Study("toy", {"model": "arithmetic/base", "rounds": 1}, {"plain": {}, "trace": {}})
    for arm, scores in {"plain": (0.1, 0.2), "trace": (0.4, 0.6)}.items():
        for seed, score in enumerate(scores):
            rounds.write(
                [{"round": 0, "x": 0.1}, {"round": 1, "x": score}], tmp_path / f"{arm}-{seed}.csv"
            )
    return Reproduction(
        study,
        "A toy",
        "Nobody, arXiv 0000.00000",
        "Traces help.",
        ("| published |", "|---|", "| 1 -> 2 |"),
        "everything.",
        {"accuracy": (last("x"), "%")},
        goals,
        draw=lambda results, figure: figure.add_subplot().plot([1, 2]),
    )


def test_the_report_holds_the_published_numbers_ours_and_what_was_not_met(tmp_path):
    toy = made(
        tmp_path,
        lambda r: [
            Goal.above("gain above 0", gain(r, "trace", "plain", last("x")), unit="%"),
            Goal.at_least("twenty times", Estimate(3.5, 1, 9, 2), 20),
            Goal.above("not run", gain(r, "trace", "absent", last("x"))),
        ],
    )
    told = report.write(toy, tmp_path, None)
    assert (
        "(`ouroloop reproduce toy`;" in told
        and "(`ouroloop reproduce toy --seeds 0 1`;"
        in report.write(replace(toy, seeds=(0,)), tmp_path, None)
    )
    rounds.write([{"round": 1, "x": 0.5}], tmp_path / "trace-2.csv")
    each = (
        "(`ouroloop reproduce toy --arms plain` and `ouroloop reproduce toy --arms trace --seeds 0"
        " 1 2`;"
    )
    assert each in report.write(replace(toy, seeds=(0, 1)), tmp_path, None)
    assert (
        "| 1 -> 2 |" in told and "| plain | 2 | 15.0 [" in told and "| trace | 2 | 50.0 [" in told
    )
    assert (
        "| twenty times | 3.50 [1.00, 9.00] | **not met** |" in told
        and "| not run | - | not known yet |" in told
    )
    found = json.loads((tmp_path / "results.json").read_text())
    assert (
        found["arms"]["trace"]["columns"]["accuracy"]["value"] == pytest.approx(0.5)
        and found["goals"][2]["found"]["value"] is None
    )
    assert (tmp_path / "figure.svg").read_text().startswith("<?xml")


def test_without_finished_runs_there_is_no_report(tmp_path):
    toy = made(tmp_path / "elsewhere", lambda r: [])
    assert (
        "nothing is finished" in report.write(toy, tmp_path / "empty", None)
        and not (tmp_path / "empty").exists()
    )


def test_a_goal_is_met_only_when_the_interval_says_so():
    met = [Goal.above("", Estimate(0.5, low, 0.9, 3)).met for low in (0.1, 0.0, -0.1, math.nan)]
    assert met == [True, False, False, None]
    same = [Goal.above("", Estimate(value, value, value, 3)).met for value in (0.2, -0.2)]
    assert same == [None, False], "three times the same value is no interval above 0"
    told = [(0.0, -0.01), (0.0, -0.028), (0.0, -0.03), (-0.03, -0.2), (math.nan, math.nan)]
    met = [Goal.not_below("", Estimate(value, low, 1, 3), -0.02).met for value, low in told]
    assert met == [
        True,
        True,
        None,
        False,
        None,
    ], "the one-sided limit of three seeds lies at 0.68 of the two-sided one"
    assert one_sided_low(Estimate(0, -4.303, 4.303, 3)) == pytest.approx(-2.920, abs=1e-3)
    assert Goal.at_least("", Estimate(2.8, 1.0, 5.0, 3), 2.75).met is True


def test_the_page_is_written_from_the_reports_in_the_registrys_order(tmp_path):
    for name in ("rft", "magister"):
        (tmp_path / "docs" / name).mkdir(parents=True)
        (tmp_path / "docs" / name / "report.md").write_text(f"## {name}\n![x](figure.svg)\n")
    for name in ("rft", "orca"):
        (tmp_path / "docs" / name / "quick").mkdir(parents=True)
        (tmp_path / "docs" / name / "quick" / "report.md").write_text(
            f"## {name} quick\n\nclaim\n\n![x](figure.svg)\n"
        )
    report.write_page(tmp_path / "docs", tmp_path / "PAGE.md")
    page = (tmp_path / "PAGE.md").read_text()
    assert (
        "## rft quick" not in page
        and f"## orca quick\n\n*{report.QUICK}*\n\nclaim" in page
        and "](docs/orca/quick/figure.svg)" in page
    )
    assert page.index("## magister") < page.index("## rft") and "](docs/rft/figure.svg)" in page


def test_the_command_names_what_there_is(capsys):
    assert main(["reproduce", "--list"]) == 0
    assert all(name in capsys.readouterr().out for name in ["magister"])
    assert main(["reproduce", "magicker"]) == 2
    assert "There are magister, rft" in capsys.readouterr().err


def test_merging_keys_keeps_what_is_not_named():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}, "e": [1]}) == {
        "a": {"b": 5, "c": 2},
        "d": 3,
        "e": [1],
    }
