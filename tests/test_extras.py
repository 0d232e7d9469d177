"""What the core does without the extras, and recipes that are named instead of located."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ouroloop.loop import extras
from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import MissingExtraError, RecipeError
from ouroloop.loop.recipes.packaged import RECIPES, find_recipe, recipe_names

ROOT = Path(__file__).resolve().parents[1]

# Run in a new interpreter in which no module of an extra can be found.
CORE_ONLY = f"""
import sys
from importlib.abc import MetaPathFinder

HIDDEN = {sorted(m for modules in extras.MODULES.values() for m in modules)}

class Hide(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hide())
from ouroloop.loop.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def core_only(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CORE_ONLY, *arguments, "--runs", str(folder)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_traces_are_judged_with_the_core_alone(tmp_path: Path) -> None:
    rows = [{"problem": str(p), "correct": True} for p in range(20)]
    paths = []
    for number in range(2):
        path = tmp_path / f"round{number}.jsonl"
        lines = [
            json.dumps({**row, "text": f"{k} + {number} = ?"}) for row in rows for k in range(4)
        ]
        path.write_text("\n".join(lines) + "\n")
        paths.append(str(path))
    done = core_only("monitor", *paths, "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["rounds"]) == 2


@pytest.mark.slow
def test_a_command_that_meets_a_missing_module_says_so_in_one_sentence(tmp_path: Path) -> None:
    done = core_only("pretrain", "arithmetic", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.rstrip().endswith("pip install 'ouroloop[run]'")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_extra_is_a_user_error_and_an_import_error() -> None:
    with pytest.raises(MissingExtraError) as caught:
        extras.MODULES["nothing"] = ("no_such_module", "nor_this_one")
        try:
            extras.require("nothing", "ouroloop nothing")
        finally:
            del extras.MODULES["nothing"]
    assert isinstance(caught.value, ImportError) and caught.value.exit_code == 2
    assert str(caught.value) == (
        "ouroloop nothing needs no_such_module, nor_this_one, which are not installed:"
        " pip install 'ouroloop[nothing]'"
    )


def test_a_module_belongs_to_the_extra_that_brings_it() -> None:
    assert extras.extra_of("torch.nn") == "run"
    assert extras.extra_of("matplotlib") == "report"
    assert extras.extra_of("numpy") is None and extras.extra_of(None) is None


def test_a_module_that_no_extra_brings_is_a_bug_and_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(options: object) -> int:
        raise ModuleNotFoundError("No module named 'typo'", name="typo")

    monkeypatch.setattr("ouroloop.loop.commands.installation._doctor", broken)
    with pytest.raises(ModuleNotFoundError):
        main(["doctor"])


def test_a_recipe_is_found_by_its_name_and_by_its_path_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(Path("demo")) == RECIPES / "demo.yaml"
    assert find_recipe(Path("runs/recipes/demo.yaml")) == RECIPES / "demo.yaml"
    assert "demo" in recipe_names() and "constitution" not in recipe_names()


def test_ones_own_file_is_preferred_to_a_built_in_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("demo").write_text("name: own\n")
    assert find_recipe(Path("demo")) == Path("demo")


@pytest.mark.parametrize("given", ["demoo", "demo.yaml", "elsewhere/demo.yaml", "/demo"])
def test_what_is_neither_is_refused_with_the_names_that_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=r"no such recipe.*demo, demo_real, exposure_bias"):
        find_recipe(Path(given))


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_packaged_recipe_names_no_file_outside_its_own_folder(path: Path) -> None:
    assert "../" not in path.read_text(encoding="utf-8")
