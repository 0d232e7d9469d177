"""Only what a run has marked is written to or deleted."""

import json
import os
import subprocess

import pytest
import yaml
from scripted_world import Model, carry, recipe, small

from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import DamagedError, RecipeError, RunStateError
from ouroloop.loop.folder import store as store_module
from ouroloop.loop.folder.store import RECIPE, Store
from ouroloop.loop.recipes.plain_yaml import read_yaml
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.trackers import process


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


@pytest.mark.parametrize(
    "name", ["recipes", "Recipes", "experiments", "studies", "mlruns", "mlflow.db"]
)
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


def test_a_start_that_was_killed_before_its_recipe_is_no_run_to_resume(tmp_path, monkeypatch):
    """A resume was refused as of a damaged run, and told to put back what there never was."""
    plain = store_module.write_text

    def dies(path, text):
        if path.name == RECIPE:
            raise KeyboardInterrupt
        plain(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "write_text", dies)
        with pytest.raises(KeyboardInterrupt):
            Store.create(tmp_path, recipe(), "none")
    assert (tmp_path / "scripted" / "RUN.json").exists()
    with pytest.raises(RunStateError, match=r"no run here .*Start one with `ouroloop run RECIPE`"):
        Store.open(tmp_path / "scripted")
    Store.create(tmp_path, recipe(), "none").close()
    Store.open(tmp_path / "scripted").close()


def test_a_run_whose_recipe_was_lost_is_not_begun_anew_with_its_old_rounds(tmp_path):
    store = Store.create(tmp_path, recipe(), "none")
    store.close()
    Round.of(store.path, 0)
    (store.path / RECIPE).unlink()
    with pytest.raises(RunStateError, match=r"recipe\.json is missing"):
        Store.create(tmp_path, recipe(rounds=1), "none")
    with pytest.raises(DamagedError, match=r"recipe\.json: missing"):
        Store.open(store.path)


def test_fresh_that_is_killed_leaves_no_half_of_a_run(tmp_path, monkeypatch):
    store = Store.create(tmp_path, recipe(), "none")
    store.close()

    def dies(path):
        (path / RECIPE).unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store_module.shutil, "rmtree", dies)
        with pytest.raises(KeyboardInterrupt):
            Store.delete(tmp_path, "scripted")
    assert not store.path.exists()
    Store.delete(tmp_path, "scripted")
    assert list(tmp_path.iterdir()) == []


def test_fresh_deletes_a_run_that_a_link_leads_to(tmp_path):
    """A run may lie on another disk."""
    store = Store.create(tmp_path / "elsewhere", recipe(), "none")
    store.close()
    (tmp_path / "scripted").symlink_to(store.path)
    Store.delete(tmp_path, "scripted")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.slow
def test_a_private_run_is_readable_by_its_user_alone(tmp_path):
    before = os.umask(0o022)
    try:
        _, run = carry(tmp_path, Model(), small(rounds=1, private=True, name="hidden"))
        _, other = carry(tmp_path, Model(), small(rounds=1, name="open"))
        child = subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True, check=True)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in [run, *run.rglob("*")]}
    assert modes == {0o600, 0o700}
    # What the process makes from then on is private as well, and so is what its children make.
    assert child.stdout.strip() == "0077" and other.stat().st_mode & 0o077 == 0


def test_a_sync_of_its_own_keeps_a_private_run_private(tmp_path):
    store = Store.create(tmp_path, small(private=False), "none")
    store.close()
    before = os.umask(0o022)
    try:
        process.sync(store.path)
        assert os.umask(0o022) == 0o022
        raw = json.loads((store.path / RECIPE).read_text())
        (store.path / RECIPE).write_text(json.dumps({**raw, "private": True}))
        process.sync(store.path)
        assert os.umask(0o022) == 0o077
    finally:
        os.umask(before)


def test_a_start_that_was_killed_while_it_marked_its_folder_can_be_repeated(tmp_path):
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "LOCK").write_text("1\n")
    # What `atomic` leaves of a file that a kill did not let become RUN.json.
    (folder / ".RUN.json.4711.tmp").write_text('{"na')
    store = Store.create(tmp_path, recipe(), "none")
    assert (folder / "RUN.json").is_file() and (folder / "recipe.json").is_file()
    store.close()


@pytest.mark.slow
def test_a_check_refuses_the_folder_that_a_run_would_refuse(tmp_path, capsys):
    recipe, runs = tmp_path / "taken.yaml", tmp_path / "runs"
    recipe.write_text("rounds: 1\nprobe: {problems: 4}\n")
    (runs / "taken").mkdir(parents=True)
    for name in ("recipe.json", "RUN.json"):
        (runs / "taken" / name).write_text("{}")

    def checked(root, *more):
        code = main(["run", str(recipe), "--check", "--runs", str(root), *more])
        out = capsys.readouterr().out
        return code, "".join(line for line in out.splitlines() if " folder " in line)

    code, said = checked(runs)
    assert code == 2 and "a run of this name exists already" in said
    assert checked(runs, "--fresh")[1] == checked(tmp_path / "new")[1] == ""
    code, said = checked(recipe / "runs")
    assert code == 2 and "is a file, and no folder" in said


def test_a_run_in_an_impossible_folder_ends_in_one_sentence(tmp_path, capsys):
    recipe = tmp_path / "r.yaml"
    recipe.write_text("rounds: 1\n")
    assert main(["run", str(recipe), "--runs", str(recipe / "runs")]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{recipe} is a file, and no folder" in said
