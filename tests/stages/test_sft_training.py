"""Real TRL on a tiny model: what is learned, what is masked, what is left behind.

And the trained weights in real vLLM.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny import ids, save_tiny_llama
from warm import warm_pids

from ouroloop.loop.config import SupervisionConfig
from ouroloop.loop.engines import weight_sync
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.served_weights import Change
from ouroloop.loop.errors import DataError, RecipeError, RunStateError, TrainingError
from ouroloop.loop.objectives import joining, launcher, training
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.training import train, weight_sync_of
from ouroloop.loop.objectives.warm import WarmTrainer, warm_up
from ouroloop.loop.records import Completion, Request, Sampling

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STOP_TOKEN = 1
PAIRS = [(f"{a} + {b} =", str(a + b)) for a in range(2, 8) for b in range(2, 10)]
LORA = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj", "down_proj", "up_proj"]}


@pytest.fixture(scope="module")
def init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("init") / "model", seed=5, spread=0.05)


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


def test_a_warm_trainer_makes_the_same_bytes_as_a_fresh_process_every_time(
    trained: Any, init: Path, tmp_path: Path
) -> None:
    import torch

    warm = WarmTrainer(training.MODULE, forks=True)
    folders = [tmp_path / name / "rounds" / "001" for name in ("first", "second")]
    try:
        for folder in folders:
            job = job_in(folder, init, [*PAIRS, ("1" * 80, "2")])
            assert train(job, folder, warm=warm)["retries"] == []
    finally:
        warm.close()
    fresh, *others = [
        {file.name: file.read_bytes() for file in (folder / "checkpoint").iterdir()}
        for folder in (trained[0], *folders)
    ]
    assert "model.safetensors" in fresh and others == [fresh, fresh]
    # A GPU could not be used in a fork of a process that had used it, and would be held by one.
    warm_up()
    assert not torch.cuda.is_initialized()


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


@pytest.mark.long
def test_two_processes_of_accelerate_learn_what_one_learns(init: Path, tmp_path: Path) -> None:
    """Over gloo, by the committed config: half of every batch each."""
    folders = {name: tmp_path / name / "rounds" / "001" for name in ("one", "two")}
    epochs = {"learning_rate": 5e-3, "num_train_epochs": 4}
    one = job_in(
        folders["one"], init, settings={**epochs, "per_device_train_batch_size": len(PAIRS)}
    )
    two = job_in(
        folders["two"],
        init,
        settings={**epochs, "per_device_train_batch_size": len(PAIRS) // 2},
        launcher="accelerate",
        accelerate_config=Path("two_cpu_processes"),
    )
    steps: list[tuple[int, int]] = []
    alone = train(one, folders["one"], here=True)
    together = train(two, folders["two"], lambda done, total: steps.append((done, total)))
    assert (alone["num_processes"], together["num_processes"]) == (1, 2)
    assert steps == [(i, 4) for i in range(1, 5)], "reported once, by the first process"
    # Sums in another order, and no more than that; the first step's weights are the same ones.
    losses = [[at["loss"] for at in facts["loss"]] for facts in (alone, together)]
    assert losses[1][0] == pytest.approx(losses[0][0], rel=1e-5)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert together["loss"][0]["entropy"] == pytest.approx(alone["loss"][0]["entropy"], rel=1e-4)

    written = [{file.name for file in (f / "checkpoint").iterdir()} for f in folders.values()]
    assert written[0] == written[1]
    found = [check_checkpoint(folder / "checkpoint") for folder in folders.values()]
    assert found[0].signature == found[1].signature
    proofs = [weight_sync.read(one.path / weight_sync.FILE_NAME) for one in found]
    assert [p.token_ids for p in proofs[0].prompts] == [p.token_ids for p in proofs[1].prompts]
    for mine, theirs in zip(proofs[0].texts, proofs[1].texts, strict=True):
        assert mine.token_ids == theirs.token_ids
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-2)
    assert proofs[1].change is not None and proofs[1].change.has_power


@pytest.mark.long
def test_a_second_machine_joins_the_trainings_of_a_run(init: Path, tmp_path: Path) -> None:
    """Both machines are this one; what they share is the run's folder and an address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    nodes = yaml.safe_load((launcher.CONFIGS / "several_nodes.yaml").read_text())
    cpu = yaml.safe_load((launcher.CONFIGS / "two_cpu_processes.yaml").read_text())
    config = tmp_path / "nodes.yaml"
    where = {"main_process_ip": "127.0.0.1", "main_process_port": port}
    config.write_text(yaml.safe_dump({**cpu, "num_machines": nodes["num_machines"], **where}))
    folder = tmp_path / "run" / "rounds" / "001"
    settings = {"num_train_epochs": 2, "per_device_train_batch_size": len(PAIRS) // 2}
    job = job_in(folder, init, settings=settings, launcher="accelerate", accelerate_config=config)
    command = [sys.executable, "-m", joining.__name__, str(tmp_path / "run"), "--machine-rank", "1"]
    second = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        facts = train(job, folder)
        assert second.stdout is not None
        assert second.stdout.readline() == f"joining {folder / 'job.json'}\n"
        # Between the two the processes print their losses.
        ended = next(line for line in second.stdout if "the launcher ended" in line)
        assert ended.endswith("with status 0\n")
    finally:
        second.kill()
        second.communicate()
    assert (facts["num_processes"], facts["num_steps"]) == (2, 2)
    assert joining.open_job(tmp_path / "run") is None
    check_checkpoint(folder / "checkpoint")


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
        blend_with=other,
        settings={"learning_rate": 0.0, "num_train_epochs": 1, "per_device_train_batch_size": 64},
    )
    assert train(job, folder)["blend"] == 0.25
    ours, theirs, made = (
        load_file(path / "model.safetensors") for path in (init, other, folder / "checkpoint")
    )
    assert made.keys() == ours.keys()
    for name, weights in made.items():
        assert weights.allclose(0.75 * ours[name] + 0.25 * theirs[name], atol=1e-6), name


@pytest.mark.parametrize("is_begun", [False, True])
def test_an_adapter_is_drawn_to_round_0_as_far_as_the_job_says(
    init: Path, tmp_path: Path, is_begun: bool
) -> None:
    """Whether round 0 is the plain model or an adapter itself; the learning rate is 0."""
    from safetensors.torch import load_file

    first = tmp_path / "first"
    train(job_in(first, init, peft=LORA), first)
    trained = tmp_path / "trained"
    train(job_in(trained, first / "checkpoint", peft=LORA), trained)
    folder = tmp_path / "rounds" / "002"
    still = {"learning_rate": 0.0, "num_train_epochs": 1, "per_device_train_batch_size": 64}
    baseline = first / "checkpoint" if is_begun else init
    job = job_in(
        folder, trained / "checkpoint", peft=LORA, blend=0.25, blend_with=baseline, settings=still
    )
    assert train(job, folder)["blend"] == 0.25
    begun, ours, made = (
        load_file(path / "checkpoint" / "adapter_model.safetensors")
        for path in (first, trained, folder)
    )
    for name, weights in made.items():
        if is_begun:
            wanted = 0.75 * ours[name] + 0.25 * begun[name]
        else:
            wanted = ours[name] * (0.75 if "lora_B" in name else 1.0)
        assert weights.allclose(wanted, atol=1e-6), name
    assert not all(weights.allclose(ours[name]) for name, weights in made.items())


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
