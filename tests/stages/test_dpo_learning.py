"""Does a preference stage teach anything? The embedded model, its own samples, right and wrong.

Held-out problems show two things: the margin between right and wrong samples grows, and the share
of right samples does not fall, which preferences alone do not promise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ouroloop.evals.tasks import Problem
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.training import train
from ouroloop.loop.records import Sampling
from ouroloop.loop.setup import resolve_model
from ouroloop.loop.stages.prompts import ask

pytestmark = [pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(1200)]

TASK = ArithmeticTask()
BASE = resolve_model("arithmetic/base")
SETTINGS = {
    "loss_type": ["sigmoid", "sft"],
    "loss_weights": [1.0, 0.2],
    "per_device_train_batch_size": 16,
    "num_train_epochs": 2,
    "learning_rate": 1e-4,
}
LORA = {"r": 8, "lora_alpha": 16, "target_modules": "all-linear"}


@dataclass(frozen=True)
class Sampled:
    """The samples of one problem; texts as token ids, their stop token included."""

    prompt: list[int]
    right: list[list[int]]
    wrong: list[list[int]]
    num: int


def of_main(split: Any, num: int) -> list[Problem]:
    return [p for p in TASK.problems(split) if p.family == "sum2"][:num]


def sample(folder: Path, problems: Sequence[Problem], times: int, seed: int) -> list[Sampled]:
    """Samples at temperature 1, those that were cut left out of right and wrong."""
    from ouroloop.loop.engines.transformers_local import Row, generate, load_codec, load_model

    checkpoint = check_checkpoint(folder)
    codec, model = load_codec(checkpoint), load_model(checkpoint, "float32")
    prompts = [codec.prompt_ids(ask(TASK.prompts, problem)) for problem in problems]
    sampling = Sampling(temperature=1.0, max_tokens=80)
    rows_PK = [
        [Row(ids, sampling, seed + times * i + k) for k in range(times)]
        for i, ids in enumerate(prompts)
    ]
    generate(model, [row for rows in rows_PK for row in rows], codec.stop_token_ids)
    found = []
    for problem, prompt, rows in zip(problems, prompts, rows_PK, strict=True):
        right, wrong = [], []
        for row in rows:
            text = codec.text(prompt, row.token_ids)
            grade = TASK.grade(problem, text).correct
            if row.stopped and grade is not None:
                (right if grade else wrong).append(list(row.token_ids))
        found.append(Sampled(prompt, right, wrong, times))
    return found


def accuracy(found: Sequence[Sampled]) -> float:
    return sum(len(s.right) for s in found) / sum(s.num for s in found)


def margin(folder: Path, found: Sequence[Sampled]) -> float:
    """Mean log-probability of a right sample minus that of a wrong one of the same problem."""
    from ouroloop.loop.engines.transformers_local import load_model, score

    model = load_model(check_checkpoint(folder), "float32")
    gaps = [
        sum(score(model, s.prompt, s.right[0])[0]) - sum(score(model, s.prompt, s.wrong[0])[0])
        for s in found
        if s.right and s.wrong
    ]
    return sum(gaps) / len(gaps)


@pytest.fixture(scope="module")
def held_out() -> list[Sampled]:
    """Samples of the untrained model on problems that are not trained on."""
    return sample(BASE, of_main("heldout", 100), times=6, seed=10_000)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Right against wrong samples of the training problems."""
    rows = [
        {
            "prompt_token_ids": s.prompt,
            "chosen_token_ids": right,
            "rejected_token_ids": wrong,
            "origin": "gold",
        }
        for s in sample(BASE, of_main("train", 120), times=8, seed=0)
        for right, wrong in zip(s.right[:3], s.wrong[:3], strict=False)
    ]
    assert len(rows) > 100
    path = tmp_path_factory.mktemp("round") / "pairs.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    ("name", "peft", "rate"), [("all weights", None, 1e-4), ("adapter", LORA, 1e-3)]
)
def test_pairs_of_right_and_wrong_widen_the_margin_and_cost_no_right_answers(
    tmp_path: Path,
    table: Path,
    held_out: list[Sampled],
    name: str,
    peft: dict[str, Any] | None,
    rate: float,
) -> None:
    job = TrainingJob(
        init=BASE,
        examples=table,
        output=tmp_path / "checkpoint",
        log_path=tmp_path / "train.log",
        settings={**SETTINGS, "learning_rate": rate},
        peft=peft,
        max_length=192,
        baseline=BASE,
        objective="dpo",
    )
    facts = train(job, tmp_path)
    curve = [at["rewards/margins"] for at in facts["loss"]]
    assert facts["status"] == "trained" and curve[0] == pytest.approx(0.0, abs=1e-4)
    widened = margin(job.output, held_out) - margin(BASE, held_out)
    again = sample(job.output, of_main("heldout", 100), times=6, seed=20_000)
    print(name, facts["num_examples"], curve[-3:], widened, accuracy(held_out), accuracy(again))
    # Nats; on held-out problems, whose samples come from the untrained model.
    assert widened > 0.5
    # 600 samples of 100 problems: two standard errors of the difference are about 6 points.
    assert accuracy(again) > accuracy(held_out) - 0.06
