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
from itertools import groupby
from pathlib import Path
from typing import Any

from tools.bench.measuring import ROOT

sys.path.insert(0, str(ROOT / "tools"))

Found = dict[str, float]
Request = dict[str, Any]
BATCH = 64  # of transformers' generate: what its documentation calls a batch
# Other seeds give other lengths; of a thousand answers by a hundredth.
DIFFERENCE = 0.1


@contextmanager
def timed() -> Iterator[Found]:
    """Seconds and processor seconds of the block, by its end."""
    found: Found = {}
    wall, cpu = time.monotonic(), time.process_time()
    yield found
    found |= {"seconds": time.monotonic() - wall, "cpu": time.process_time() - cpu}


def serve(model: str, folder: str) -> Found:
    """Write to `folder` what an engine would serve: the model, its adapter merged into it."""
    import shutil

    from ouroloop.loop.engines.checkpoint import check_checkpoint

    shutil.rmtree(folder, ignore_errors=True)
    checkpoint = check_checkpoint(Path(model))
    with timed() as found:
        if checkpoint.is_adapter:
            from ouroloop.loop.engines.merging_local import merge

            merge(checkpoint, Path(folder), "float32")
        else:
            shutil.copytree(model, folder)
    return found


def vllm(requests: str, model: str, recipe: str) -> Found:
    """Bare vLLM on the same requests, all at once, then on the texts that were scored."""
    from vllm import LLM, SamplingParams
    from vllm.platforms import current_platform

    from ouroloop.loop.config import EngineConfig
    from ouroloop.loop.engines.checkpoint import check_checkpoint
    from ouroloop.loop.engines.vllm_local import engine_arguments

    asked, texts = asked_and_scored(requests, model)
    # The loop's own settings of the engine, or two settings would be compared and not two programs.
    given = json.loads(Path(recipe).read_text(encoding="utf-8"))["engine"]
    config = {**EngineConfig(**{**given, "kind": "vllm"}).model_dump(), "lora": None}
    # `auto` is float32 where this is measured.
    config["dtype"] = "float32" if config["dtype"] == "auto" else config["dtype"]
    on_cpu = current_platform.is_cpu()
    arguments = engine_arguments(config, check_checkpoint(Path(model)), on_cpu=on_cpu)
    arguments.pop("worker_extension_cls")
    llm = LLM(**arguments)
    params = [
        SamplingParams(temperature=one["temperature"], max_tokens=one["max_tokens"], logprobs=0)
        for one in asked
    ]
    score = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    with timed() as found:
        answers = llm.generate([one["prompt"] for one in asked], params, use_tqdm=False)
        if texts:
            llm.generate([one["prompt"] + one["text"] for one in texts], score, use_tqdm=False)
    num = sum(len(answer.outputs[0].token_ids) for answer in answers)
    return {**found, "tokens": same_work("vLLM", num, asked)}


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

    asked, texts = asked_and_scored(requests, model)
    asked.sort(key=lambda one: (one["temperature"], one["max_tokens"], len(one["prompt"])))
    texts.sort(key=lambda one: len(one["prompt"] + one["text"]))
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    language_model = AutoModelForCausalLM.from_pretrained(model, dtype="float32").eval()

    def tensors(written: list[str]) -> dict[str, Any]:
        inputs = dict(tokenizer(written, return_tensors="pt", padding=True))
        inputs.pop("token_type_ids", None)
        return inputs

    num = 0
    with timed() as found, torch.inference_mode():
        for batch in batches_of(asked):
            inputs = tensors([one["prompt"] for one in batch])
            sampling = {"do_sample": False}
            if batch[0]["temperature"] > 0:
                sampling = {
                    "do_sample": True,
                    "temperature": batch[0]["temperature"],
                    "top_k": 0,
                }
            made = language_model.generate(
                **inputs,
                **sampling,
                max_new_tokens=batch[0]["max_tokens"],
                pad_token_id=tokenizer.pad_token_id,
            )
            new = made[:, inputs["input_ids"].shape[1] :]
            # Each row's last token may be the one that pads.
            num += int((new != tokenizer.pad_token_id).sum(1).add(1).clamp(max=new.shape[1]).sum())
        for batch in batches_of(texts):
            inputs = tensors([one["prompt"] + one["text"] for one in batch])
            logits = language_model(**inputs).logits[:, :-1].log_softmax(-1)
            logits.gather(-1, inputs["input_ids"][:, 1:, None]).sum()
    return {**found, "tokens": same_work("transformers", num, asked)}


def asked_and_scored(path: str, model: str) -> tuple[list[Request], list[Request]]:
    """What `recording` wrote: requests, and texts; chat turns as the model's template has them."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    lines = [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if not isinstance(line["prompt"], str):
            line["prompt"] = tokenizer.apply_chat_template(
                line["prompt"], add_generation_prompt=True, tokenize=False
            )
    asked = [line for line in lines if "text" not in line]
    return asked, [line for line in lines if "text" in line]


def batches_of(requests: list[Request]) -> Iterator[list[Request]]:
    """At most `BATCH` each, of requests in order that are sampled alike."""
    for _, alike in groupby(
        requests, key=lambda one: (one.get("temperature"), one.get("max_tokens"))
    ):
        same = list(alike)
        yield from (same[first : first + BATCH] for first in range(0, len(same), BATCH))


def same_work(who: str, num_tokens: int, asked: list[Request]) -> int:
    """The number of tokens, if it is that of the round up to chance.

    Raises:
        ValueError: it is not, so the seconds cannot be compared.
    """
    expected = sum(one["num_tokens"] for one in asked)
    if abs(num_tokens - expected) > DIFFERENCE * expected:
        raise ValueError(
            f"{who} sampled {num_tokens} tokens, the round {expected} for the same requests;"
            f" expected: within {DIFFERENCE:.0%}. Do both stop at the same tokens?"
        )
    return num_tokens


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
    side.__name__: side
    for side in (serve, vllm, trl, transformers, monitors, start_sync, hand_over)
}

if __name__ == "__main__":
    print(json.dumps(SIDES[sys.argv[1]](**json.loads(sys.argv[2]))))
