"""Real TRL on a tiny model: what is learned, what is masked, what is left behind.

And the trained weights in real vLLM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny import save_tiny_llama
from warm import warm_pids

from ouroloop.loop.config import SupervisionConfig
from ouroloop.loop.engines import weight_sync
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.served_weights import Change
from ouroloop.loop.errors import DataError, RecipeError, RunStateError, TrainingError
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.training import train, weight_sync_of
from ouroloop.loop.records import Completion, Request, Sampling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STOP_TOKEN = 1
PAIRS = [(f"{a} + {b} =", str(a + b)) for a in range(2, 8) for b in range(2, 10)]
LORA = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj", "down_proj", "up_proj"]}


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("init") / "model", seed=5, spread=0.05)


def ids(text: str) -> list[int]:
    from tiny import CHARACTERS

    return [4 + CHARACTERS.index(character) for character in text]


def job_in(
    folder: Path, init: Path, pairs: list[tuple[str, str]] = PAIRS, **changes: Any
) -> TrainingJob:
    """A job whose whole training set is one batch.

    Step 1's loss is then that of the untrained model on all of it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "prompt_token_ids": ids(p),
            "completion_token_ids": [*ids(c), STOP_TOKEN],
            "origin": "kept",
        }
        for p, c in pairs
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "examples.parquet")
    sft = {"learning_rate": 5e-3, "num_train_epochs": 60, "per_device_train_batch_size": 64}
    job = TrainingJob(
        init,
        folder / "examples.parquet",
        folder / "checkpoint",
        folder / "train.log",
        settings=sft,
        max_length=64,
        seed=7,
    )
    return replace(job, **changes)


def children() -> list[int]:
    found = [
        int(pid)
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text().split()
    ]
    return [pid for pid in found if pid not in warm_pids()]


@pytest.fixture(scope="module")
def trained(
    init: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], list[tuple[int, int]]]:
    """The round's folder, train.json and the reported progress.

    Two attempts before it were cut off, one from each side.
    """
    folder = tmp_path_factory.mktemp("run") / "rounds" / "001"
    job = job_in(folder, init, [*PAIRS, ("1" * 80, "2")])
    steps: list[tuple[int, int]] = []

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    def kill(done: int, total: int) -> None:
        for pid in children():
            os.kill(pid, signal.SIGKILL)

    before = set(children())
    with pytest.raises(KeyboardInterrupt):
        train(job, folder, interrupt)
    assert set(children()) == before, "the child outlived the interrupted call"
    with pytest.raises(
        TrainingError, match=r"killed by signal SIGKILL.*train\.log(?s:.*)Loading weights"
    ):
        train(replace(job, supervision=SupervisionConfig(halve_batch=False)), folder, kill)
    assert not (folder / "checkpoint").exists()
    assert not (folder / "train.json").exists()
    return folder, train(job, folder, lambda done, total: steps.append((done, total))), steps


def test_a_training_killed_for_its_memory_goes_on_in_smaller_batches_and_learns_the_same(
    init: Path, tmp_path: Path
) -> None:
    def made(folder: Path, num_kills: int) -> dict[str, Any]:
        settings = {**job_in(folder, init).settings, "num_train_epochs": 4}
        kills = iter(range(num_kills))

        def kill(done: int, total: int) -> None:
            if next(kills, None) is not None:
                os.kill(children()[0], signal.SIGKILL)

        return train(job_in(folder, init, settings=settings), folder, kill)

    plain, killed = made(tmp_path / "plain", 0), made(tmp_path / "killed", 1)
    assert plain["retries"] == []
    assert killed["retries"] == [
        {
            "cause": "memory",
            "batch": 64,
            "accumulation": 1,
            "next_batch": 32,
            "next_accumulation": 2,
        }
    ]
    assert killed["num_steps"] == plain["num_steps"] == 4
    losses = [[at["loss"] for at in facts["loss"]] for facts in (plain, killed)]
    # Sums in another order, and no more than that.
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


def test_progress_is_told_step_by_step_and_train_json_holds_the_account(trained: Any) -> None:
    folder, facts, steps = trained
    assert steps == [(i, 60) for i in range(1, 61)]
    assert json.loads((folder / "train.json").read_text()) == facts
    assert facts["status"] == "trained"
    assert facts["checkpoint"] == "rounds/001/checkpoint"
    assert (facts["num_examples"], facts["num_refused"], facts["num_steps"]) == (48, 1, 60)
    assert facts["num_tokens"] == sum(len(p) + len(c) + 1 for p, c in PAIRS)
    assert facts["by_origin"] == {"kept": 48}
    assert facts["sft_config"]["learning_rate"] == 5e-3
    assert [at["step"] for at in facts["loss"]] == list(range(1, 61))
    assert facts["loss"][-1]["loss"] < 0.2 * facts["loss"][0]["loss"]
    assert 0 < facts["loss"][-1]["entropy"] < facts["loss"][0]["entropy"]


def test_the_first_loss_is_the_mean_over_completion_and_stop_tokens_computed_by_hand(
    trained: Any, init: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(init)
    losses: list[float] = []
    for prompt, completion in PAIRS:
        whole = [*ids(prompt), *ids(completion), STOP_TOKEN]
        with torch.no_grad():
            logprobs = model(torch.tensor([whole])).logits[0].log_softmax(-1)
        losses += [-float(logprobs[t - 1, whole[t]]) for t in range(len(ids(prompt)), len(whole))]
    assert trained[1]["loss"][0]["loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-4)


def test_the_checkpoint_is_whole_safe_and_can_take_its_parents_place_in_an_engine(
    trained: Any, init: Path
) -> None:
    folder, facts, _ = trained
    names = {path.name for path in (folder / "checkpoint").iterdir()}
    assert names == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "weight_sync.json",
    }
    assert {path.name for path in folder.iterdir()} == {
        "examples.parquet",
        "job.json",
        "train.json",
        "train.log",
        "checkpoint",
    }
    assert check_checkpoint(folder / "checkpoint").signature == check_checkpoint(init).signature
    proof = weight_sync.read(folder / "checkpoint" / "weight_sync.json")
    assert proof.checkpoint == "001/checkpoint"
    assert proof.change == Change(**facts["weight_sync"])
    assert proof.change.has_power
    assert proof.change.largest > 0.1
    written = {(*ids(p), *ids(c), STOP_TOKEN) for p, c in [*PAIRS, ("1" * 80, "2")]}
    chosen = [text.token_ids for text in proof.texts[2:]]
    assert set(chosen) <= written
    assert 128 <= sum(map(len, chosen)) < 128 + 82, "as many as needed, and one more"
    with pytest.raises(RunStateError, match="trained already"):
        train(job_in(folder, init), folder)


def test_vllm_swaps_in_the_trained_weights_which_have_learned_to_answer_and_stop(
    trained: Any, init: Path, tmp_path: Path
) -> None:
    folder = trained[0]
    config = {
        "kind": "vllm",
        "dtype": "float32",
        "max_model_len": 128,
        "max_num_seqs": 64,
        "kv_cache_memory_bytes": 2**26,
    }
    engine = ProcessEngine(config, tmp_path / "engine.log")
    requests = [Request(p, p, Sampling(temperature=0.0, max_tokens=8), 0) for p, _ in PAIRS]

    async def run() -> tuple[list[Completion], list[Completion], bool]:
        try:
            await engine.load(init, weight_sync_of(init, tmp_path))
            process = engine.pid
            before = await asyncio.gather(*(engine.complete(request) for request in requests))
            await engine.load(folder / "checkpoint")
            after = await asyncio.gather(*(engine.complete(request) for request in requests))
            return before, after, engine.pid == process
        finally:
            await engine.close()

    before, after, swapped = asyncio.run(run())
    assert swapped
    expected = [(*ids(completion), STOP_TOKEN) for _, completion in PAIRS]
    assert sum(c.token_ids == right for c, right in zip(before, expected, strict=True)) == 0
    assert sum(c.token_ids == right for c, right in zip(after, expected, strict=True)) >= 40
    assert sum(c.finish_reason == "stop" for c in after) >= 46


def test_an_adapter_is_trained_and_trained_on(init: Path, tmp_path: Path) -> None:
    first = train(job_in(tmp_path / "1", init, peft=LORA), tmp_path / "1")
    adapter = check_checkpoint(tmp_path / "1" / "checkpoint")
    assert adapter.is_adapter
    assert adapter.weights == init
    assert Change(**first["weight_sync"]).has_power
    second = train(job_in(tmp_path / "2", adapter.path, peft=LORA), tmp_path / "2")
    assert check_checkpoint(tmp_path / "2" / "checkpoint").weights == init
    assert second["loss"][0]["loss"] == pytest.approx(first["loss"][-1]["loss"], rel=0.2)
    assert second["loss"][-1]["loss"] < first["loss"][-1]["loss"]


def test_accelerate_launches_as_many_processes_as_its_config_says(
    init: Path, tmp_path: Path
) -> None:
    config = tmp_path / "two_processes.yaml"
    config.write_text(
        "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_CPU\nuse_cpu:"
        " true\nnum_processes: 2\nnum_machines: 1\n"
    )
    job = job_in(tmp_path / "1", init, launcher="accelerate", accelerate_config=config)
    steps: list[tuple[int, int]] = []
    facts = train(job, tmp_path / "1", lambda done, total: steps.append((done, total)))
    assert steps == [(i, 60) for i in range(1, 61)], "reported once, by the first process"
    assert facts["loss"][-1]["loss"] < 0.5 * facts["loss"][0]["loss"]
    check_checkpoint(tmp_path / "1" / "checkpoint")


def test_an_impossible_value_is_the_recipes_fault_and_a_cut_completion_the_datas(
    init: Path, tmp_path: Path
) -> None:
    job = job_in(tmp_path / "1", init)
    with pytest.raises(RecipeError, match=r"sft or peft: .*no_such_strategy"):
        train(replace(job, settings={"save_strategy": "no_such_strategy"}), tmp_path / "1")
    table = pq.read_table(job.examples).to_pylist()
    table[3]["completion_token_ids"] = table[3]["completion_token_ids"][:-1]
    pq.write_table(pa.Table.from_pylist(table), job.examples)
    with pytest.raises(
        DataError,
        match=r"examples\.parquet row 3: the completion does not end with a stop token \[1\]",
    ):
        train(job, tmp_path / "1")
    assert {path.name for path in (tmp_path / "1").iterdir()} == {
        "examples.parquet",
        "job.json",
        "train.log",
    }


def test_training_starts_from_weights_blended_as_the_job_says(init: Path, tmp_path: Path) -> None:
    """A quarter of another model's weights.

    The learning rate is 0, so what is saved is the blend itself.
    """
    from safetensors.torch import load_file

    other = save_tiny_llama(tmp_path / "other", seed=6, spread=0.05)
    folder = tmp_path / "rounds" / "001"
    job = job_in(
        folder,
        init,
        blend=0.25,
        baseline=other,
        settings={"learning_rate": 0.0, "num_train_epochs": 1, "per_device_train_batch_size": 64},
    )
    assert train(job, folder)["blend"] == 0.25
    ours, theirs, made = (
        load_file(path / "model.safetensors") for path in (init, other, folder / "checkpoint")
    )
    assert made.keys() == ours.keys()
    for name, weights in made.items():
        assert weights.allclose(0.75 * ours[name] + 0.25 * theirs[name], atol=1e-6), name


def test_a_training_that_changes_nothing_is_logged_and_its_weights_are_the_old_ones(
    init: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sft = {"learning_rate": 0.0, "max_steps": 1, "per_device_train_batch_size": 8}
    facts = train(job_in(tmp_path / "001", init, settings=sft), tmp_path / "001")
    change = Change(**facts["weight_sync"])
    assert change.is_none
    assert f"moved {change.num_tokens} log-probabilities by 0 nats" in caplog.text


OWN_OBJECTIVE = """
from ouroloop.loop.objectives.base import Prepared
from ouroloop.loop.objectives.sft import build_trainer, read_rows


class FirstOnes:
    def __init__(self, count):
        self.count = count

    def check(self, sft, peft):
        pass

    def prepare(self, job, checkpoint):
        rows = read_rows(job, checkpoint)[0][: self.count]
        num_tokens = sum(len(row["input_ids"]) for row in rows)
        return Prepared(build_trainer(job, checkpoint, rows), len(rows), num_tokens)
"""


def test_an_objective_of_ones_own_trains_in_the_child_and_is_checked_like_ours(
    init: Path, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(OWN_OBJECTIVE)
    job = job_in(
        tmp_path / "001",
        init,
        objective=f"{tmp_path}/own.py:FirstOnes",
        objective_options={"count": 8},
        settings={"learning_rate": 5e-3, "max_steps": 2, "per_device_train_batch_size": 8},
    )
    facts = train(job, tmp_path / "001")
    assert (facts["num_examples"], facts["num_steps"]) == (8, 2)
    assert facts["objective"] == job.objective
    check = weight_sync.read(job.output / "weight_sync.json")
    assert check.change is not None and check.change.rms > 0
