"""Stale weights of a real model, served on purpose after a real, short training.

SmolLM2-135M-Instruct comes from the cache of models, ASDiv's problems from OUROLOOP_DATA. Here
bfloat16 is simulated (`rounding.py`), since the test must also run where it has no units;
`test_real_bfloat16` runs where it has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import swapping
from real_data import DATA
from real_model import SMOLLM2 as BASE
from real_model import needs_smollm2

from ouroloop.loop.engines import weight_sync, weight_sync_truth
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.weight_sync_proof import compare
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.training import train

PROBLEMS = DATA / "wordproblems" / "asdiv_train.jsonl"
# Few steps with the change of more: AdamW moves every weight by the learning rate at each.
FULL = {"learning_rate": 6e-5, "max_steps": 4, "per_device_train_batch_size": 4}
ADAPTER = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(1800),
    needs_smollm2,
    pytest.mark.skipif(
        not PROBLEMS.exists(), reason=f"real data not found in {DATA}: set OUROLOOP_DATA"
    ),
]


@dataclass
class Trained:
    """A round's folder with its examples; `check(dtype)` is the checkpoint's weight-sync check."""

    folder: Path

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint"

    def check(self, dtype: str) -> Path:
        path = self.folder / f"{dtype}.json"
        if not path.exists():
            rows = pq.read_table(self.folder / "examples.parquet").to_pylist()
            texts = [[*row["prompt_token_ids"], *row["completion_token_ids"]] for row in rows]
            made = weight_sync_truth.make_trained(self.checkpoint, BASE, texts, dtype)
            weight_sync.write(made, path)
        return path

    def base_check(self, dtype: str) -> Path:
        path = self.folder / f"base-{dtype}.json"
        if not path.exists():
            weight_sync.write(weight_sync_truth.make(BASE, dtype), path)
        return path


def trained_by(folder: Path, **settings: Any) -> Trained:
    """A few steps on ASDiv's problems, with their formulas as solutions, as a round trains them."""
    from ouroloop.loop.engines.transformers_local import load_codec

    folder.mkdir(parents=True)
    codec = load_codec(check_checkpoint(BASE))
    rows = []
    for line in PROBLEMS.read_text(encoding="utf-8").splitlines():
        problem = json.loads(line)
        if "solution" in problem and len(rows) < 100:
            prompt = [{"role": "user", "content": problem["question"]}]
            ids = codec.completion_ids(prompt, problem["solution"])
            rows.append({"prompt_token_ids": codec.prompt_ids(prompt), "completion_token_ids": ids})
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    job = TrainingJob(
        BASE, folder / "examples.parquet", folder / "checkpoint", folder / "train.log", **settings
    )
    train(job, folder)
    return Trained(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained_by(tmp_path_factory.mktemp("whole") / "rounds" / "001", settings=FULL)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    sft = {**FULL, "learning_rate": 2e-4}
    return trained_by(
        tmp_path_factory.mktemp("adapter") / "rounds" / "001", settings=sft, peft=ADAPTER
    )


@pytest.fixture
def swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Serve the base, then what was trained; then both again, broken. See `swapping.swap`."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("OUROLOOP_TEST_BREAK", str(tmp_path / "broken"))

    def run(trained: Trained, broken: str, always: str = "", **config: Any) -> str:
        settings = {
            "kind": "transformers",
            "dtype": "float32",
            "max_model_len": 256,
            "max_num_seqs": 8,
            "kv_cache_memory_bytes": 2**28,
            **config,
        }
        dtype = settings["dtype"]
        old = BASE, trained.base_check(dtype)
        new = trained.checkpoint, trained.check(dtype)
        return swapping.swap(tmp_path, settings, old, new, broken=broken, always=always)

    return run


def test_in_bfloat16_the_prompts_alone_take_old_weights_for_new_ones(whole: Trained) -> None:
    new, old = (
        weight_sync.read(whole.check("bfloat16")),
        weight_sync.read(whole.base_check("bfloat16")),
    )
    tolerance = weight_sync.TOLERANCES["bfloat16"]
    pairs = zip(new.prompts, old.prompts, strict=True)
    assert [compare(right, stale, tolerance) for right, stale in pairs] == [None] * 4


# In float32 vLLM proves the same below. "simulate": bfloat16's rounding in a float32 engine.
def test_in_bfloat16_new_weights_are_proven_and_old_ones_caught(
    swap: Callable[..., str], whole: Trained
) -> None:
    change = weight_sync.read(whole.check("bfloat16")).change
    assert change is not None and change.has_power
    said = swap(whole, broken="reload", always="simulate", dtype="bfloat16")
    assert re.search(r"they show -?0\.0\d\d \+- \S+ of the change", said)


@pytest.mark.parametrize("broken", ["reload", "repack"])
def test_vllm_is_proven_and_its_stale_weights_or_tied_output_layer_are_caught(
    swap: Callable[..., str], whole: Trained, broken: str
) -> None:
    change = weight_sync.read(whole.check("float32")).change
    assert change is not None and change.has_power
    assert swap(whole, broken=broken, kind="vllm")


def test_in_bfloat16_an_adapter_is_proven_and_its_base_in_its_place_is_caught(
    swap: Callable[..., str], adapter: Trained
) -> None:
    assert swap(adapter, broken="reload", always="simulate", dtype="bfloat16")


def test_vllm_serves_an_adapter_and_the_check_proves_it(
    swap: Callable[..., str], adapter: Trained
) -> None:
    """In bfloat16 where it is computed so: a small update that only merging keeps."""
    dtype = "bfloat16" if has_bfloat16_units() else "float32"
    assert swap(adapter, broken="reload", kind="vllm", lora=ADAPTER, dtype=dtype)


def test_on_a_gpu_vllm_applies_an_adapter_beside_the_model_and_its_absence_is_caught(
    swap: Callable[..., str], tmp_path: Path
) -> None:
    """`engine.serve_adapters`, with an update that is large enough to be left in bfloat16."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("on a CPU adapters are merged")
    sft = {**FULL, "learning_rate": 2e-3}
    large = trained_by(tmp_path / "rounds" / "001", settings=sft, peft=ADAPTER)
    config = {"lora": ADAPTER, "serve_adapters": True, "dtype": "bfloat16"}
    assert swap(large, broken="no adapter", kind="vllm", **config)


def has_bfloat16_units() -> bool:
    """By Linux's list of the processor's features, or an NVIDIA GPU that torch can use."""
    import torch

    path = Path("/proc/cpuinfo")
    flags = path.read_text(encoding="utf-8") if path.exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags or torch.cuda.is_available()


@pytest.mark.parametrize("kind", ["transformers", "vllm"])
def test_real_bfloat16(swap: Callable[..., str], whole: Trained, kind: str) -> None:
    """New weights are proven and old ones caught where bfloat16 is computed in bfloat16."""
    if not has_bfloat16_units():
        pytest.skip("no bfloat16 units: every token would take a third of a second")
    assert swap(whole, broken="reload", kind=kind, dtype="bfloat16")
