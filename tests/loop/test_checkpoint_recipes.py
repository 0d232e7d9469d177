"""A recipe for checkpoints (`*_hf.yaml`), as it stands but for model and sizes, on SmolLM2.

RFT's trains on the solutions that come with the problems. The others depend on what so small a
model writes of itself: at T = 1 most of its answers are cut, and a round keeps nothing.
"""

import json
from pathlib import Path

import pytest

from ouroloop.loop.errors import UserError
from ouroloop.loop.recipe_file import load_recipe
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
    {"question": f"Sam has {a} pens and buys {b} more. How many?", "n": a + b, "family": family}
    for a in range(3, 15)
    for b, family in ((4, "red_team"), (9, "helpful"))
]


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
        {"question": p["question"], "answer": f"{p['n'] - 4}+4={p['n']}\n#### {p['n']}"}
        for p in PROBLEMS
    ]
    plain = [{"question": p["question"], "family": p["family"]} for p in PROBLEMS]
    files = {
        "gsm8k/train_first_1000.jsonl": gsm8k[:-6],
        "gsm8k/test_first_660.jsonl": gsm8k[-6:],
        "constitutional/train.jsonl": plain[:-6],
        "constitutional/heldout.jsonl": plain[-6:],
    }
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", ["rft_hf"])
def test_a_recipe_for_checkpoints_trains_two_rounds(name, model, data, tmp_path, monkeypatch):
    monkeypatch.setenv("OUROLOOP_DATA", str(data))
    recipe = load_recipe(RECIPES / f"{name}.yaml", [f"model={model}", *SIZES])
    outcome = run(recipe, tmp_path)
    found = read_run(outcome.path)
    assert [r.number for r in found.rounds] == [0, 1, 2]
    for number in (1, 2):
        assert found.round(number).train["status"] == "trained"
        assert found.round(number).train["num_examples"] >= 4
    assert found.checkpoint(2).exists()
