"""One side of a comparison in a process of its own: `python -m tools.bench.sides NAME JSON`.

Prints {"seconds", "cpu", "tokens"} of the work itself, start of the process and imports left out.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tools.bench.measuring import ROOT

sys.path.insert(0, str(ROOT / "tools"))

Found = dict[str, float]
BATCH = 64  # of transformers' generate: what its documentation calls a batch


@contextmanager
def timed() -> Iterator[Found]:
    """Seconds and processor seconds of the block, by its end."""
    found: Found = {}
    wall, cpu = time.monotonic(), time.process_time()
    yield found
    found |= {"seconds": time.monotonic() - wall, "cpu": time.process_time() - cpu}


def requests_of(path: str) -> list[dict[str, Any]]:
    """What `recording` wrote."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def vllm(requests: str, model: str) -> Found:
    """Bare vLLM on the same requests, all at once."""
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform

    from ouroloop.loop.config import EngineConfig
    from ouroloop.loop.engines.checkpoint import check_checkpoint
    from ouroloop.loop.engines.vllm_local import engine_arguments

    asked = requests_of(requests)
    # The loop's own settings of the engine, or two settings would be compared and not two programs.
    config = {**EngineConfig(dtype="float32").model_dump(), "lora": None}
    on_cpu = current_platform.is_cpu()
    arguments = engine_arguments(config, check_checkpoint(Path(model)), on_cpu=on_cpu)
    arguments.pop("worker_extension_cls")
    llm = LLM(**arguments)
    params = [
        SamplingParams(temperature=one["temperature"], max_tokens=one["max_tokens"], logprobs=0)
        for one in asked
    ]
    with timed() as found:
        answers = llm.generate([one["prompt"] for one in asked], params, use_tqdm=False)
    return {**found, "tokens": sum(len(answer.outputs[0].token_ids) for answer in answers)}


def trl(job: str) -> Found:
    """Bare TRL on the same rows, its checkpoint saved."""
    from training_speed import bare_trainer

    from ouroloop.loop.engines.checkpoint import check_checkpoint
    from ouroloop.loop.objectives.job import TrainingJob
    from ouroloop.loop.objectives.sft import read_rows

    given = TrainingJob.from_json(json.loads(Path(job).read_text(encoding="utf-8")))
    with tempfile.TemporaryDirectory() as folder:
        given = replace(given, output=Path(folder) / "checkpoint")
        rows = read_rows(given, check_checkpoint(given.init))[0]
        trainer = bare_trainer(given, rows)
        with timed() as found:
            trainer.train()
            trainer.save_model(str(given.output))
    return {**found, "tokens": sum(len(row["input_ids"]) for row in rows)}


def transformers(requests: str, model: str) -> Found:
    """What a script with `generate` does with the same requests, batch by batch."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = sorted(requests_of(requests), key=lambda one: (one["temperature"], one["max_tokens"]))
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    language_model = AutoModelForCausalLM.from_pretrained(model, dtype="float32").eval()
    tokens = 0
    with timed() as found, torch.inference_mode():
        for first in range(0, len(asked), BATCH):
            batch = asked[first : first + BATCH]
            kind = batch[-1]
            inputs = tokenizer([one["prompt"] for one in batch], return_tensors="pt", padding=True)
            inputs.pop("token_type_ids", None)
            sampling = {"do_sample": False}
            if kind["temperature"] > 0:
                sampling = {"do_sample": True, "temperature": kind["temperature"], "top_k": 0}
            made = language_model.generate(
                **inputs,
                **sampling,
                max_new_tokens=kind["max_tokens"],
                pad_token_id=tokenizer.pad_token_id,
            )
            new = made[:, inputs["input_ids"].shape[1] :]
            tokens += int((new != tokenizer.pad_token_id).sum())
    return {**found, "tokens": tokens}


def monitors(paths: list[str]) -> Found:
    """`ouroloop monitor` on two rounds: reading the files, every metric, the decision."""
    from ouroloop.loop.views.monitor import monitor

    with timed() as found:
        monitor([Path(path) for path in paths])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {**found, "peak_mib": peak}


def start_sync(run: str) -> Found:
    """What a run waits for when a round goes to its trackers; the process goes on alone."""
    from ouroloop.loop.trackers import process

    with timed() as found:
        process.start_sync(Path(run))
    # Its process stays, for the next round: it is over before the next turn begins.
    process.safe_sync(Path(run), seconds=None)
    return found


def hand_over(model: str, dtype: str) -> Found:
    """The engine's start, its change to new weights, and its end, when the trainer may begin."""
    import asyncio

    from ouroloop.loop.config import EngineConfig
    from ouroloop.loop.engines.process import ProcessEngine

    async def seconds_of_each() -> Found:
        config = EngineConfig(dtype=dtype, weight_sync_check=False).model_dump()
        log = Path(tempfile.mkdtemp()) / "engine.log"
        engine = ProcessEngine({**config, "lora": None}, log)
        with timed() as start:
            await engine.load(Path(model))
        with timed() as swap:
            await engine.load(Path(model))
        with timed() as end:
            await engine.close()
        steps = {"start": start, "swap": swap, "close": end}
        return {name: step["seconds"] for name, step in steps.items()}

    return asyncio.run(seconds_of_each())


SIDES: dict[str, Callable[..., Found]] = {
    side.__name__: side for side in (vllm, trl, transformers, monitors, start_sync, hand_over)
}

if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](**json.loads(sys.argv[2]))))
