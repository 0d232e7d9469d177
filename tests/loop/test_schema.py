"""The JSON schema of recipes comes from the code, and every key of it is used somewhere."""

import ast
import functools
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ouroloop.loop.__main__ import main
from ouroloop.loop.config.schema import keys, recipe_schema
from ouroloop.loop.recipes.recipe_file import load_recipe, resolve

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted((ROOT / "runs/recipes").glob("*.yaml"))
KEYS = list(keys())
TASKS = {
    "arithmetic": "ArithmeticConfig",
    "jsonl": "JsonlConfig",
    "gsm8k": "Gsm8kConfig",
    "reasoning_gym": "ReasoningGymConfig",
    "custom": "CustomConfig",
}
SHARED_BY_ALL_TASKS = {"kind", "families", "num_problems", "prompts"}
OWN_TASK_KEYS = {
    "arithmetic": {"loophole"},
    "jsonl": {"path", "heldout_path", "grader"},
    "gsm8k": {"path", "heldout_path", "grader"},
    "reasoning_gym": {"datasets"},
    "custom": {"options"},
}


@functools.cache
def whole_schema() -> dict[str, Any]:
    """Made once: making it takes ten times as long as checking a recipe by it."""
    return recipe_schema()


def objects(node: Any) -> Iterator[dict[str, Any]]:
    """Every object schema with properties, at any depth."""
    if isinstance(node, dict):
        if "properties" in node:
            yield node
        for value in node.values():
            yield from objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from objects(value)


def test_the_command_prints_the_schema(capsys):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == recipe_schema()


def test_every_key_has_a_description_and_no_object_takes_unknown_keys():
    found = list(objects(whole_schema()))
    assert len(found) > 12
    for schema in found:
        assert schema["additionalProperties"] is False
        for name, value in schema["properties"].items():
            assert value.get("description"), name


@pytest.mark.parametrize("kind", TASKS)
def test_no_key_of_one_kind_of_task_shows_in_anothers(kind):
    properties = set(whole_schema()["$defs"][TASKS[kind]]["properties"])
    assert properties == SHARED_BY_ALL_TASKS | OWN_TASK_KEYS[kind]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_committed_recipe_fits_the_schema_as_written_and_as_resolved(path, monkeypatch):
    jsonschema = pytest.importorskip("jsonschema", reason="checks the schema from outside")
    monkeypatch.setenv("OUROLOOP_DATA", "/data")
    validator = jsonschema.Draft202012Validator(whole_schema())
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    for recipe in (written, load_recipe(path).to_json()):
        assert [error.message for error in validator.iter_errors(recipe)] == []


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_committed_recipe_is_the_same_again_after_it_was_written_out(path, monkeypatch):
    # A run writes its recipe with every default, and is resumed by what it wrote.
    monkeypatch.setenv("OUROLOOP_DATA", "/data")
    recipe = load_recipe(path)
    assert resolve(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    "wrong",
    [
        {"task": {"kind": "arithmetic", "path": "x"}},
        {"task": {"kind": "jsonl"}},
        {"sampling": {"temprature": 1}},
        {"rounds": 0},
        {"objective": 3},
    ],
)
def test_the_schema_refuses_what_the_loop_refuses(wrong):
    jsonschema = pytest.importorskip("jsonschema", reason="checks the schema from outside")
    assert not jsonschema.Draft202012Validator(whole_schema()).is_valid({"name": "x", **wrong})


@pytest.mark.slow
def test_importing_the_config_loads_neither_torch_nor_pyarrow():
    code = (
        "import sys, ouroloop.loop.config.schema, ouroloop.loop.recipes.recipe_file;"
        "print(*sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    heavy = {"torch", "pyarrow", "numpy", "transformers", "trl", "datasets", "openai"}
    assert heavy & set(child.stdout.split()) == set()


# ----- every key is used: a scan of the recipes and of the other tests -----

SECTIONS = {key.name.split(".")[0] for key in KEYS if "." in key.name}
NAMES = {key.name for key in KEYS}
RECIPE_MAKERS = {"recipe", "small", "made", "own", "free_text"}
"""Helpers of tests that make a recipe from keyword arguments."""
UNKNOWN = object()
"""A value that is computed: the scan cannot say that it is the default."""


def settings_in(recipe: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of a recipe's mapping."""
    for name, value in recipe.items():
        if f"{prefix}{name}" in NAMES:
            yield f"{prefix}{name}", value
        elif isinstance(value, dict):
            yield from settings_in(value, f"{prefix}{name}.")


def settings_written_in(path: Path) -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of every recipe-like literal of a test file.

    `{"probe": {"samples": 4}}`, `recipe(probe={"samples": 4})`, `"probe.samples=4"`, and a section
    that is made directly: `ProbeConfig(samples=4)`.
    """
    classes = {key.section.__name__: key.name.rpartition(".")[0] for key in KEYS}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            pairs = [(literal(k), v) for k, v in zip(node.keys, node.values, strict=True) if k]
            named = {name for name, _ in pairs}
            yield from section_settings(pairs, "name" in named or bool(named & SECTIONS))
        elif isinstance(node, ast.Call):
            pairs = [(word.arg, word.value) for word in node.keywords if word.arg]
            called = node.func.id if isinstance(node.func, ast.Name) else ""
            yield from section_settings(pairs, called in RECIPE_MAKERS)
            if called in classes:
                section = classes[called]
                yield from ((f"{section}.{name}".strip("."), literal(v)) for name, v in pairs)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            name, sep, value = node.value.partition("=")
            if sep and name in NAMES and "." in name:
                yield name, yaml.safe_load(value)


def section_settings(
    pairs: list[tuple[Any, ast.expr]], is_recipe: bool
) -> Iterator[tuple[str, Any]]:
    """is_recipe: the mapping is surely a recipe, so that `seed` and the like are keys of one."""
    for name, value in pairs:
        if name in SECTIONS and isinstance(value, ast.Dict):
            inside = zip(value.keys, value.values, strict=True)
            yield from ((f"{name}.{literal(k)}", literal(v)) for k, v in inside if k)
        elif is_recipe and name in NAMES:
            yield name, literal(value)


def literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return UNKNOWN


def plain(value: Any) -> Any:
    """As YAML would write it."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    return json.loads(json.dumps(value, default=str)) if value is not UNKNOWN else UNKNOWN


@pytest.mark.slow
def test_every_key_is_used_in_a_recipe_or_a_test_with_another_value_than_its_default():
    used = defaultdict(list)
    for path in RECIPES:
        for name, value in settings_in(yaml.safe_load(path.read_text(encoding="utf-8"))):
            used[name].append(plain(value))
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path != Path(__file__).resolve():
            for name, value in settings_written_in(path):
                used[name].append(plain(value))
    defaults = {key.name: plain(key.default) for key in KEYS if not key.required}
    unused = [
        name
        for name in sorted(NAMES)
        if all(name in defaults and value == defaults[name] for value in used[name])
    ]
    assert unused == []
