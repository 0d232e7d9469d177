"""Training on a machine with several GPUs, as far as it can be tried without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from tiny import ids, save_tiny_llama
from transformers.integrations import deepspeed

from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.objectives import batches, saving
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.registry import build_objective

pytestmark = pytest.mark.slow

STOP_TOKEN = 1


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    """A job whose table can be learnt from by every objective."""
    row = {
        "prompt_token_ids": ids("2 + 3 ="),
        "completion_token_ids": [*ids("5"), STOP_TOKEN],
        "chosen_token_ids": [*ids("5"), STOP_TOKEN],
        "rejected_token_ids": [*ids("6"), STOP_TOKEN],
        "origin": "gold",
    }
    pq.write_table(pa.Table.from_pylist(4 * [row]), tmp_path / "table.parquet")
    init = save_tiny_llama(tmp_path / "init")
    return TrainingJob(
        init, tmp_path / "table.parquet", tmp_path / "checkpoint", tmp_path / "train.log"
    )


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Arguments of a trainer as they are where one process sees two GPUs."""
    made = transformers.TrainingArguments.__post_init__

    def counted(self: Any) -> None:
        made(self)
        self._n_gpu = 2

    monkeypatch.setattr(transformers.TrainingArguments, "__post_init__", counted)
    yield


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize("objective", ["sft", "dpo"])
def test_one_process_trains_on_one_of_the_gpus_that_it_sees(
    job: TrainingJob, objective: str
) -> None:
    prepared = build_objective(objective, {}).prepare(job, check_checkpoint(job.init))
    assert prepared.trainer.args.n_gpu == 1
    # With two the batch would be twice the recipe's.
    assert prepared.trainer.args.train_batch_size == prepared.trainer._train_batch_size == 8


class Zero3:
    """What transformers goes by once a trainer's arguments were made under ZeRO-3."""

    def is_zero3(self) -> bool:
        return True


@pytest.fixture
def zero3() -> Iterator[Zero3]:
    config = Zero3()
    deepspeed.set_hf_deepspeed_config(config)
    yield config
    deepspeed.unset_hf_deepspeed_config()


@pytest.mark.usefixtures("zero3")
@pytest.mark.parametrize(("flag", "in_parts"), [("true", True), ("false", False), (None, False)])
def test_under_zero3_a_model_is_loaded_in_parts_only_where_the_config_says_so(
    job: TrainingJob, flag: str | None, in_parts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def loaded(*_: Any, **__: Any) -> None:
        found.append(deepspeed.is_deepspeed_zero3_enabled())

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", loaded)
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_ZERO3_INIT", raising=False)
    if flag is not None:
        monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO3_INIT", flag)
    saving.load_trainable(job, check_checkpoint(job.init))
    assert found == [in_parts]


@pytest.mark.usefixtures("zero3")
def test_after_a_training_under_zero3_one_process_can_load_the_new_weights_alone() -> None:
    assert deepspeed.is_deepspeed_zero3_enabled()
    saving.free_memory()
    assert not deepspeed.is_deepspeed_zero3_enabled()


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_a_model_that_waits_on_the_processor_to_be_sharded_is_batched_as_on_a_gpu(
    job: TrainingJob, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SimpleNamespace(
        device=torch.device("cpu"), num_parameters=lambda **_: batches.SMALL_PARAMETERS + 1
    )
    trainer = SimpleNamespace(
        model=model, padding_free=False, accelerator=SimpleNamespace(device=torch.device(device))
    )
    tried: list[Any] = []
    monkeypatch.setattr(batches, "_try_rows", lambda *given: tried.append(given))
    batches.arrange(trainer, [], job)
    assert bool(tried) == (device == "cpu")
