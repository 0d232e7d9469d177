"""Only what a run has marked is written to or deleted."""

import pytest
import yaml
from scripted_world import recipe

from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import RecipeError, RunStateError
from ouroloop.loop.recipe_file import read_yaml, resolve
from ouroloop.loop.store import RECIPE, Store


@pytest.mark.parametrize("held", ["notes.txt", "recipe.json", "rounds/000/plan.json"])
def test_a_folder_that_no_run_marked_is_neither_deleted_nor_written_to(tmp_path, held):
    path = tmp_path / "scripted" / held
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    for attempt in (
        lambda: Store.delete(tmp_path, "scripted"),
        lambda: Store.create(tmp_path, recipe(), "none"),
    ):
        with pytest.raises(RunStateError, match=r"RUN\.json"):
            attempt()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_a_marked_folder_is_deleted_whole_even_where_its_recipe_is_lost(tmp_path):
    store = Store.create(tmp_path, recipe(), "none")
    store.close()
    (store.path / RECIPE).unlink()
    Store.delete(tmp_path, "scripted")
    assert not store.path.exists()


def test_a_start_that_was_killed_at_once_can_be_repeated(tmp_path):
    (tmp_path / "scripted").mkdir()
    (tmp_path / "scripted" / "LOCK").touch()
    store = Store.create(tmp_path, recipe(), "none")
    store.close()
    (store.path / RECIPE).unlink()
    Store.create(tmp_path, recipe(), "none").close()
    assert (store.path / RECIPE).is_file()


@pytest.mark.parametrize("name", ["recipes", "Recipes", "experiments", "studies", "mlruns"])
def test_names_of_other_folders_are_refused(name):
    with pytest.raises(RecipeError, match="is reserved"):
        resolve({"name": name})


def test_fresh_does_not_delete_the_committed_recipes(tmp_path, capsys):
    recipes = tmp_path / "runs" / "recipes"
    recipes.mkdir(parents=True)
    (recipes / "demo.yaml").write_text("name: demo\n")
    (tmp_path / "r.yaml").write_text("name: recipes\n")
    assert main(["run", str(tmp_path / "r.yaml"), "--fresh", "--runs", str(tmp_path / "runs")]) == 2
    assert "is reserved" in capsys.readouterr().err
    assert (recipes / "demo.yaml").exists()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nrounds: 2\nname: b\n", "key 'name' stands in line 1 and again in line 3"),
        ("sampling:\n  top_p: 1\n  top_p: 0.5\n", "'top_p' stands in line 2 and again in line 3"),
        ("task: {kind: x, kind: y}\n", "'kind' stands in line 1 and again in line 1"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_both_lines(tmp_path, capsys, text, says):
    path = tmp_path / "twice.yaml"
    path.write_text(text)
    assert main(["run", str(path), "--runs", str(tmp_path / "runs")]) == 2
    assert says in capsys.readouterr().err


def test_other_yaml_is_read_as_ever():
    text = "a: &base {x: 1}\nb: {<<: *base, y: 2}\nc: [1, 2.5, true, null]\n"
    assert read_yaml(text) == yaml.safe_load(text)
    with pytest.raises(yaml.YAMLError):
        read_yaml("a: !!python/object:os.system {}")


def test_a_start_that_was_killed_while_it_marked_its_folder_can_be_repeated(tmp_path):
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "LOCK").write_text("1\n")
    # What `atomic` leaves of a file that a kill did not let become RUN.json.
    (folder / ".RUN.json.4711.tmp").write_text('{"na')
    store = Store.create(tmp_path, recipe(), "none")
    assert (folder / "RUN.json").is_file() and (folder / "recipe.json").is_file()
    store.close()
