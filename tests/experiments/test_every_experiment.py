"""What holds for all experiments of this repository.

Their recipes are right, their pages say what their results files hold, and the index counts them.
"""

import ast
import subprocess
from pathlib import Path

import pytest

from ouroloop.loop.experiments import index, loading, report, results
from ouroloop.loop.experiments.report import FINDINGS
from ouroloop.loop.recipes.recipe_file import load_recipe, resolve

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / loading.HOME
RECIPES = ROOT / "runs" / "recipes"
EXPERIMENTS = {path.name: loading.load(path) for path in loading.available(HOME)}
PUBLISHED = [name for name, made in EXPERIMENTS.items() if made.paper]
FINISHED = [name for name in EXPERIMENTS if (HOME / name / results.NAME).exists()]
ARMS = [(name, arm) for name, made in EXPERIMENTS.items() for arm in made.study.arms]
DATA_FILES = (".csv", ".parquet", ".jsonl", ".tsv", ".npz", ".arrow")
MOST_DATA_FILES = 40


def keys_without_references(study, arm, seed, quick):
    """An arm's recipe with a built-in checkpoint in the place of every one that is made first."""

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
    task = keys.get("task", {})
    if "$" in str(task):  # a problem file that is made first
        task = {"kind": "arithmetic"}
    return stand_in({**keys, "task": task})


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_every_arm_is_a_right_recipe_also_when_quick(name, arm):
    study = EXPERIMENTS[name].study
    for quick in (False, True):
        recipe = resolve(keys_without_references(study, arm, 1, quick))
        assert recipe.name == f"{arm}-1"
        assert not recipe.tracking.mlflow, "runs of a study are recorded together, at their end"
    assert all(need in study.arms for need in study.needs(arm))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_says_what_it_is(name):
    made = EXPERIMENTS[name]
    assert made.study.name == name and made.claim.endswith(".")
    assert set(made.study.quick_arms or ()) <= set(made.study.arms)
    assert all(goal.met is None for goal in made.goals({}))
    if name in PUBLISHED:
        assert "arXiv" in made.paper and made.differs.endswith(".") and made.published
        assert len(made.seeds) >= 3


@pytest.mark.parametrize("name", FINISHED)
def test_the_committed_page_is_what_the_results_file_gives(name):
    folder, made = HOME / name, EXPERIMENTS[name]
    words = folder / FINDINGS
    text = words.read_text(encoding="utf-8") if words.exists() else ""
    found = results.read(made.study, folder / results.NAME)
    shown = (loading.HOME / name).as_posix()
    assert (folder / report.PAGE).read_text(encoding="utf-8") == report.page(
        made, found, shown, text
    ), f"`ouroloop study {shown} --table` writes it"
    assert made.draw is None or (folder / report.FIGURE).exists()


def test_the_index_and_readmes_count_are_those_of_the_results_files():
    found = index.lines(HOME)
    assert {line.folder.name for line in found} == set(FINISHED)
    assert (ROOT / index.PAGE).read_text(encoding="utf-8") == index.page(found, ROOT)
    readme = (ROOT / index.README).read_text(encoding="utf-8")
    assert index.MARKED.search(readme) and readme == index.counted(readme, found)


def test_results_are_few_files():
    """One results file an experiment; hundreds of small tables hide what there is."""
    command = ["git", "-c", "safe.directory=*", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip(f"not a checkout: {listed.stderr.strip()}")
    data = [name for name in listed.stdout.splitlines() if name.endswith(DATA_FILES)]
    assert 10 < len(data) <= MOST_DATA_FILES


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_system_comes_as_a_recipe_for_the_small_world_and_one_for_a_gpu(name):
    for path in (RECIPES / f"{name}.yaml", RECIPES / f"{name}_hf.yaml"):
        text = path.read_text(encoding="utf-8")
        assert text.startswith("#"), "a comment says what the recipe does"
        if path.stem.endswith("_hf"):
            assert "docs/memory.md" in text, "memory and time of what was not run are estimates"


def test_recipes_of_the_small_world_load():
    for name in PUBLISHED:
        recipe = load_recipe(RECIPES / f"{name}.yaml")
        assert recipe.name == name and recipe.model.startswith(("arithmetic/", "/")), name


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_find_each_other_from_any_folder(name):
    # `ouroloop study` finds a study by its path; the repository need not be on Python's.
    for path in sorted((HOME / name).glob("*.py")):
        if path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            module = node.module if isinstance(node, ast.ImportFrom) and not node.level else ""
            assert not (module or "").startswith("runs"), f"{path}: import {module} relatively"
