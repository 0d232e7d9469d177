"""Tokens a second of a round's training beside a bare TRL script and a plain loop on the same rows.

    python tools/training_speed.py MODEL DATA [--rows 48] [--repeats 3] [--peft]

DATA: a JSON Lines file of problems with a `question` and a `solution`. All sides train the same
token ids with the same settings, in a process of their own for each measurement, in turn, so that
what else the machine does meets them alike. `plain` is what somebody would write for speed without
any trainer: rows of like length together, logits only where there are labels, the device's fast
type.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq

from ouroloop.loop.devices import this_device
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.sft_settings import settings_for
from ouroloop.loop.recipes.automatic import LORA, training_type

SIDES = ("ours", "trl", "plain")
SETTINGS = {
    "learning_rate": 1e-5,
    "num_train_epochs": 1,
    "per_device_train_batch_size": 8,
    "save_strategy": "no",
}


def write_examples(model: Path, data: Path, num_rows: int, path: Path) -> None:
    """The first problems in the model's token ids: as chat turns where it has a template."""
    from ouroloop.loop.engines.transformers_local import load_codec

    codec = load_codec(check_checkpoint(model))
    problems = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    rows = []
    for problem in [p for p in problems if p.get("solution")][:num_rows]:
        question = problem["question"]
        is_chat = bool(codec.tokenizer.chat_template)
        prompt = [{"role": "user", "content": question}] if is_chat else f"{question}\n"
        ids = codec.prompt_ids(prompt)
        completion = codec.completion_ids(prompt, problem["solution"])
        rows.append({"prompt_token_ids": ids, "completion_token_ids": completion})
    pq.write_table(pa.Table.from_pylist(rows), path)


def measure(side: str, job: TrainingJob) -> dict[str, Any]:
    """Train once in this process: seconds of training and saving, tokens, peak memory."""
    from ouroloop.loop.objectives.sft import build_trainer, read_rows

    checkpoint = check_checkpoint(job.init)
    rows = read_rows(job, checkpoint)[0]
    if side == "plain":
        return account(rows, PlainLoop(job, rows).train)
    if side == "ours":
        trainer = build_trainer(job, checkpoint, rows)
        # As the process does that waits for a run's jobs (loop/objectives/warm.py).
        gc.freeze()
    else:
        trainer = bare_trainer(job, rows)

    def train() -> float:
        trainer.train()
        return float([at["loss"] for at in trainer.state.log_history if "loss" in at][-1])

    return account(rows, train)


def account(rows: list[dict[str, list[int]]], train: Callable[[], float]) -> dict[str, Any]:
    """What a training costs; `train` gives its last loss."""
    started, worked = time.monotonic(), time.process_time()
    loss = train()
    return {
        "seconds": time.monotonic() - started,
        "cpu_seconds": time.process_time() - worked,
        "tokens": sum(len(row["input_ids"]) for row in rows),
        "loss": loss,
        "peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def bare_trainer(job: TrainingJob, rows: list[dict[str, list[int]]]) -> Any:
    """What a script of TRL's documentation would do with these rows and settings."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    return SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(job.init, dtype="float32"),
        args=SFTConfig(**settings_for(job, on_gpu=torch.cuda.is_available())),
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(job.init),
        peft_config=LoraConfig(task_type="CAUSAL_LM", **job.peft) if job.peft else None,
    )


class PlainLoop:
    """A training loop of torch alone, on batches padded to their longest row."""

    def __init__(self, job: TrainingJob, rows: list[dict[str, list[int]]]):
        import torch
        from transformers import AutoModelForCausalLM

        torch.manual_seed(job.seed)
        frozen = job.compute if job.peft else "float32"
        self.model = AutoModelForCausalLM.from_pretrained(job.init, dtype=frozen)
        self.inner = self.model
        if job.peft:
            from peft import LoraConfig, get_peft_model

            self.model = get_peft_model(
                self.model,
                LoraConfig(task_type="CAUSAL_LM", **job.peft),
                autocast_adapter_dtype=True,
            )
            self.inner = self.model.get_base_model()
        trained = [p for p in self.model.parameters() if p.requires_grad]
        # The defaults of transformers' Trainer.
        rate = float(job.settings["learning_rate"])
        self.optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.0)
        self.trained, self.rows = trained, rows
        self.size = int(job.settings["per_device_train_batch_size"])
        self.is_bfloat16 = job.compute == "bfloat16"

    def train(self) -> float:
        """One epoch, longest rows first; the last loss."""
        import torch

        self.model.train()
        rows = sorted(self.rows, key=lambda row: -len(row["input_ids"]))
        batches = [rows[i : i + self.size] for i in range(0, len(rows), self.size)]
        decay = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, 0.0, len(batches))
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16, enabled=self.is_bfloat16):
                loss = self.loss(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
            self.optimizer.step()
            decay.step()
            self.optimizer.zero_grad()
        return float(loss)

    def loss(self, batch: list[dict[str, list[int]]]) -> Any:
        """Mean over the batch's labels, in nats."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        def padded(name: str, value: int) -> torch.Tensor:
            rows = [torch.tensor(row[name]) for row in batch]
            return pad_sequence(rows, batch_first=True, padding_value=value)

        ids, labels = padded("input_ids", 0), padded("labels", -100)
        # Padding on the right is hidden from every real position by causality.
        hidden = self.inner.model(input_ids=ids, use_cache=False).last_hidden_state
        mask = labels[:, 1:] != -100
        logits = self.inner.lm_head(hidden[:, :-1][mask])
        return torch.nn.functional.cross_entropy(logits.float(), labels[:, 1:][mask])


def main() -> None:
    """Measure in turn, print every measurement and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peft", action="store_true", help="LoRA in the place of all weights")
    parser.add_argument("--json", action="store_true", help="the measurements as the last line")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        job = TrainingJob.from_json(json.loads(given.data.read_text(encoding="utf-8")))
        print(json.dumps(measure(given.side, job)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        examples = folder / "examples.parquet"
        write_examples(given.model, given.data, given.rows, examples)
        job = TrainingJob(
            init=given.model,
            examples=examples,
            output=folder / "checkpoint",
            log_path=folder / "train.log",
            settings=SETTINGS,
            peft=dict(LORA) if given.peft else None,
            max_length=2048,
            compute=training_type(this_device().fast),
        )
        (folder / "job.json").write_text(json.dumps(job.to_json()), encoding="utf-8")
        found = compare(given.model, folder / "job.json", given.repeats)
        if given.json:
            print(json.dumps(found))


def compare(model: Path, job: Path, repeats: int) -> dict[str, list[dict[str, float]]]:
    """One process per measurement, the sides in turn; prints and returns what each side took.

    Processor time beside wall-clock time: on a machine that others use too, the wall clock measures
    them as well.
    """
    sides: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    # Threads that spin while they wait would take the cores from whoever else works here.
    environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}
    for repeat in range(repeats):
        for side in SIDES:
            command = [sys.executable, __file__, str(model), str(job), "--side", side]
            child = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            found = json.loads(child.stdout.splitlines()[-1])
            sides[side].append(found)
            print(
                f"{repeat} {side:<5} {found['tokens'] / found['seconds']:7.1f} tokens/s"
                f" ({found['tokens']} tokens, {found['seconds']:.1f} s, processor"
                f" {found['cpu_seconds']:.1f} s, last loss"
                f" {found['loss']:.6f}, peak {found['peak_gib']:.2f} GiB)",
                flush=True,
            )
    print(f"load average {os.getloadavg()[0]:.1f}")
    for what, took in (("wall clock", "seconds"), ("processor time", "cpu_seconds")):
        for other in SIDES[1:]:
            pairs = zip(sides["ours"], sides[other], strict=True)
            ratios = [theirs[took] / ours[took] for ours, theirs in pairs]
            shown = ", ".join(f"{ratio:.2f}" for ratio in ratios)
            median = statistics.median(ratios)
            print(f"ours / {other} by {what}: {shown}; median {median:.2f}")
    return sides


if __name__ == "__main__":
    main()
