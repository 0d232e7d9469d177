"""Training on a machine with several GPUs, as far as it can be tried without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import CHARACTERS, save_tiny_llama

from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.registry import build_objective

pytestmark = pytest.mark.slow

STOP_TOKEN = 1


def ids(text: str) -> list[int]:
    return [4 + CHARACTERS.index(character) for character in text]


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
    from transformers import TrainingArguments

    made = TrainingArguments.__post_init__

    def counted(self: Any) -> None:
        made(self)
        self._n_gpu = 2

    monkeypatch.setattr(TrainingArguments, "__post_init__", counted)
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
