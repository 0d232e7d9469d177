"""LoRA, and trainings that explode, through the whole loop on the embedded model."""

import json
from pathlib import Path

import pytest
import yaml

from ouroloop.loop.__main__ import main
from ouroloop.loop.folder.store import read_json
from ouroloop.loop.setup import resolve_model
from ouroloop.loop.views.reader import read_run

pytestmark = pytest.mark.slow

RECIPE = {
    "task": {"kind": "arithmetic"},
    "engine": {"kind": "transformers"},
    "sampling": {"problems_per_round": 16, "samples_per_problem": 2, "max_tokens": 80},
    "refine": {"critique": False, "revisions": 0},
    "dataset": {"min_examples": 1},
    "probe": {
        "problems": 8,
        "family_problems": 2,
        "samples": 4,
        "baseline_samples": 4,
        "pass_at": 4,
        "majority": 4,
        "critiques": 0,
        "texts": 0,
        "audit_items": 0,
    },
    # So few samples make evidence of anything; here only the training ends a run.
    "monitors": {"guard": True, "min_yield": 0.0},
    "tracking": {"mlflow": False},
}
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
SFT = {"learning_rate": 1e-3, "max_steps": 2, "per_device_train_batch_size": 8}


def run_of(folder, **keys):
    path = folder / "x.yaml"
    path.write_text(yaml.safe_dump({**RECIPE, "sft": SFT, **keys}))
    code = main(["run", str(path), "--runs", str(folder)])
    return code, read_run(folder / "x"), folder / "x" / "rounds"


@pytest.mark.parametrize("init", ["previous", "base"])
def test_an_adapter_goes_on_from_the_last_rounds_or_begins_anew_on_the_base(tmp_path, init):
    code, run, rounds = run_of(tmp_path, rounds=2, peft=LORA, init=init)
    base = resolve_model("arithmetic/base").resolve()
    assert code == 0 and [r.train.get("status") for r in run.rounds[1:]] == ["trained"] * 2
    first = rounds / "001" / "checkpoint"
    start = {"previous": first, "base": base}[init]
    assert Path(read_json(rounds / "002" / "job.json")["init"]).resolve() == start
    for number in ("001", "002"):
        folder = rounds / number / "checkpoint"
        # An adapter is always of the base itself, never of another adapter.
        named = read_json(folder / "adapter_config.json")["base_model_name_or_path"]
        assert Path(named).resolve() == base
        assert not (folder / "model.safetensors").exists()
    one, two = (directions(rounds / number / "checkpoint") for number in ("001", "002"))
    # A matrices are drawn at random, and two steps turn them little: the same ones, or others.
    is_same = float(one @ two) > 0.9 * float(one.norm() * two.norm())
    assert is_same is (init == "previous")


def directions(folder):
    """All numbers of an adapter's A matrices."""
    import torch
    from safetensors.torch import load_file

    tensors = load_file(folder / "adapter_model.safetensors")
    return torch.cat([t.flatten() for name, t in sorted(tensors.items()) if "lora_A" in name])


def test_a_run_whose_trainings_explode_says_why_and_halts_after_the_second(tmp_path, capsys):
    code, run, rounds = run_of(tmp_path, rounds=4, sft={**SFT, "learning_rate": 1e9})
    assert code == 3
    assert [r.number for r in run.rounds] == [0, 1, 2]
    assert [r.train.get("status") for r in run.rounds[1:]] == ["rejected"] * 2
    assert all((rounds / f"{n:03d}" / "MANIFEST.json").exists() for n in range(3))
    reason = run.rounds[2].decision["reasons"][0]
    assert "the training was rejected: " in reason and "at step 2 of 2" in reason
    assert "sft.learning_rate" in reason
    assert "the training was rejected" in capsys.readouterr().out
    lines = (tmp_path / "x" / "events.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["event"] for line in lines]
    assert kinds.count("training_rejected") == 2 and kinds[-1] == "run_finished"
    # Resumed, a finished run stays as it is.
    assert main(["resume", "x", "--runs", str(tmp_path)]) == 3
