"""The recipes for checkpoints (`*_hf.yaml`), as they stand but for model and sizes, on SmolLM2.

The model is SmolLM2 after a warm start on the problems' solutions: as it comes, most of its answers
at T = 1 are cut at these sizes, and a round that learns its own text keeps none. Not here are
`wrong_steps_hf` and `constitutional_hf`, which learn what a model criticises or revises, as this
one writes no readable verdict, and `orca_hf`, whose teacher is a server.
"""

import json
from pathlib import Path

import pytest

from ouroloop.loop.errors import UserError
from ouroloop.loop.recipes.recipe_file import load_recipe
from ouroloop.loop.runner import run
from ouroloop.loop.setup import resolve_model
from ouroloop.loop.views.reader import read_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
RECIPES = Path(__file__).parents[2] / "runs" / "recipes"
MODEL = "smollm2-135m"
SIZES = (
    "rounds=2",
    "teachers=[]",
    "engine.dtype=auto",
    "engine.max_model_len=256",
    "engine.kv_cache_memory_bytes=134217728",
    "sampling.problems_per_round=8",
    "sampling.samples_per_problem=1",
    "sampling.max_tokens=24",
    "refine.max_critique_tokens=16",
    "dataset.min_examples=4",
    "sft.num_train_epochs=1",
    "sft.gradient_accumulation_steps=1",
    # A processor without such units would compute in it a hundred times more slowly.
    "sft.bf16=false",
    "probe.problems=4",
    "probe.family_problems=2",
    "probe.samples=2",
    "probe.baseline_samples=2",
    "probe.pass_at=2",
    "probe.majority=2",
    # Other tests have what else is measured; here every text costs a pass through the model.
    "probe.critiques=0",
    "probe.texts=0",
    "probe.audit_items=0",
    "tracking.mlflow=false",
)
# Short questions, so that a training of eight examples takes seconds on two cores.
PROBLEMS = [
    {"question": f"Sam has {a} pens and buys {b} more. How many?", "a": a, "b": b}
    for a in range(3, 15)
    for b in (4, 9)
]
# Recipe -> what it needs beside model and sizes; WARM is the model again.
WARM = "WARM"
CHANGES = {
    "collapse_hf": (),
    "exposure_bias_hf": (),
    "magister_hf": (f"teachers=[{WARM}]",),
    "rft_hf": (),
    "self_consistency_hf": ("sampling.samples_per_problem=3",),
    "specialisation_hf": (f"teachers=[{WARM}]",),
    "teacher_ceiling_hf": (f"teachers=[{WARM}]",),
}


@pytest.fixture(scope="module")
def model():
    try:
        return resolve_model(MODEL)
    except UserError as error:
        pytest.skip(f"{MODEL} cannot be had: {error}")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Files where the recipes look for theirs."""
    folder = tmp_path_factory.mktemp("data")
    gsm8k = [
        {
            "question": p["question"],
            "answer": f"{p['a']}+{p['b']}={p['a'] + p['b']}\n#### {p['a'] + p['b']}",
        }
        for p in PROBLEMS
    ]
    families = [
        {**row, "answer": row["answer"].split()[-1], "solution": row["answer"], "family": "gsm8k"}
        for row in gsm8k
    ]
    files = {
        "gsm8k/train_first_1000.jsonl": gsm8k[:-6],
        "gsm8k/test_first_660.jsonl": gsm8k[-6:],
        "families/train.jsonl": families[:-6],
        "families/heldout.jsonl": families[-6:],
    }
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def two_rounds(name, model, data, runs, changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUROLOOP_DATA", str(data))
        recipe = load_recipe(RECIPES / f"{name}.yaml", [f"model={model}", *SIZES, *changes])
        return run(recipe, runs)


@pytest.fixture(scope="module")
def warm(model, data, tmp_path_factory):
    """SmolLM2 after a few passes over the solutions."""
    warmer = ("rounds=1", "warm_start={epochs: 3, sft: {learning_rate: 5.0e-5}}")
    outcome = two_rounds("rft_hf", model, data, tmp_path_factory.mktemp("warm"), warmer)
    return outcome.path / "warm_start" / "checkpoint"


@pytest.mark.long
@pytest.mark.parametrize("name", CHANGES)
def test_a_recipe_for_checkpoints_trains_two_rounds(name, warm, data, tmp_path):
    changes = [change.replace(WARM, str(warm)) for change in CHANGES[name]]
    outcome = two_rounds(name, warm, data, tmp_path, changes)
    found = read_run(outcome.path)
    assert [r.number for r in found.rounds] == [0, 1, 2]
    for number in (1, 2):
        assert found.round(number).train["status"] == "trained"
        assert found.round(number).train["num_examples"] >= 4
    assert found.checkpoint(2).exists()
