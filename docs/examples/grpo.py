"""TRL's GRPOTrainer with a collapse monitor beside it.

    python docs/examples/grpo.py --out out

trains the small arithmetic model that comes with Ouroloop on its own right answers: minutes on a
CPU. For a training of your own, change the three parts marked 1, 2 and 3.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.evals.worlds.arithmetic.world import PROMPTS
from ouroloop.loop.callback import CollapseMonitor, Generate
from ouroloop.loop.models.sources import resolve_model

# 1. Problems, and who is right. The probe set is held out: what is trained on shows no collapse.
TASK = ArithmeticTask()
PROBLEMS = {
    problem.id: problem for split in ("train", "heldout") for problem in TASK.problems(split)
}


def rows(split: str, num: int) -> list[dict[str, str]]:
    """Problems of one family as GRPOTrainer (`prompt`) and the monitor (`problem`) know them."""
    chosen = [problem for problem in TASK.problems(split) if problem.family == "sum2"][:num]
    return [
        {"problem": problem.id, "prompt": PROMPTS.draft.format(question=problem.question)}
        for problem in chosen
    ]


def is_right(row: dict[str, Any], text: str) -> bool:
    """The one grader, for the reward and for the monitor."""
    return bool(TASK.grade(PROBLEMS[row["problem"]], text).correct)


def reward(completions: list[str], problem: list[str], **more: Any) -> list[float]:
    """GRPOTrainer's reward: 1 for a right answer."""
    return [
        float(is_right({"problem": id}, text))
        for id, text in zip(problem, completions, strict=True)
    ]


def main(arguments: list[str] | None = None) -> CollapseMonitor:
    """Train, and say on the way what the monitor sees."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="arithmetic/base", help="a folder, or a name")
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps")
    parser.add_argument("--probe", type=int, default=60, help="problems of the probe set")
    parser.add_argument("--out", type=Path, default=Path("out"), help="the trainer's folder")
    options = parser.parse_args(arguments)

    # 2. The model. A name of the hub goes to `from_pretrained` as it is.
    folder = resolve_model(options.model)
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(folder),
        processing_class=tokenizer,
        reward_funcs=reward,
        train_dataset=Dataset.from_list(rows("train", 400)),
        args=GRPOConfig(
            output_dir=str(options.out),
            max_steps=options.steps,
            learning_rate=1e-4,
            per_device_train_batch_size=32,
            num_generations=8,
            max_completion_length=64,
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            bf16=False,
        ),
    )
    # 3. The monitor: ten measurements, evenly spread, unless `every_steps` says otherwise.
    monitor = CollapseMonitor(
        Generate(rows("heldout", options.probe), is_right, samples=8, max_new_tokens=64)
    )
    monitor.attach(trainer)
    trainer.train()
    return monitor


if __name__ == "__main__":
    main()
