"""What a recipe writes under `model`: names stay names, paths become paths."""

from __future__ import annotations

from pathlib import Path

import pytest

from ouroloop.loop.errors import CheckpointError
from ouroloop.loop.models.names import BUILT_IN
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.recipes.recipe_file import resolve


@pytest.mark.parametrize(
    "name", [*BUILT_IN, "org/some-model", "org/some-model@v1.0", "http://127.0.0.1:1/v1#m"]
)
def test_a_name_stays_as_it_is_written(tmp_path: Path, name: str) -> None:
    recipe = resolve({"name": "x", "model": name, "teachers": [name]}, base=tmp_path)
    assert recipe.model == name and recipe.teachers == (name,)


@pytest.mark.parametrize(
    "path", ["./checkpoints/some-model", "checkpoints", "a/b/c", "models/x.gguf", "../m", "/m/x"]
)
def test_a_path_starts_at_the_recipes_folder(tmp_path: Path, path: str) -> None:
    recipe = resolve({"name": "x", "model": path}, base=tmp_path)
    assert recipe.model == str((tmp_path / path).resolve())


def test_ones_own_folder_is_not_hidden_by_a_model_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "org" / "some-model").mkdir(parents=True)
    recipe = resolve({"name": "x", "model": "org/some-model"}, base=tmp_path)
    assert recipe.model == str(tmp_path / "org" / "some-model")


def test_what_is_neither_gets_the_nearest_built_in_name() -> None:
    with pytest.raises(CheckpointError, match=r"no such folder.*Did you mean 'smollm2-135m'\?"):
        resolve_model("smollm-135")
