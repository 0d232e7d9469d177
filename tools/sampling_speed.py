"""Tokens a second of sampling: the loop's vLLM engine beside bare vLLM, in turns.

    python tools/sampling_speed.py CHECKPOINT [--requests N] [--repeats N] [--json]
        [--dtype float32] [--max-tokens 40]

Bare vLLM is `LLM.generate` on the same prompts with the same settings but for the seed of each
request, which the loop needs (its samples can be drawn again) and bare vLLM is quicker without.
Each turn of one is followed by a turn of the other; what counts is the ratio within a pair.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ouroloop.loop.config import EngineConfig
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.process import ProcessEngine
from ouroloop.loop.engines.vllm_local import engine_arguments
from ouroloop.loop.records import Request, Sampling
from tools.bench.measuring import tree_cpu

Found = dict[str, float]

NAMES = ("Mara", "Jonas", "Priya", "Tariq", "Elin", "Koji", "Rosa", "Ben")


def prompts(num: int) -> list[str]:
    """Questions of about thirty tokens, each its own."""
    return [
        f"{NAMES[i % 8]} has {i + 3} marbles and buys {i % 7 + 2} bags with {i % 5 + 4} marbles"
        f" each. How many marbles does {NAMES[i % 8]} have now?\n"
        for i in range(num)
    ]


async def ours(engine: ProcessEngine, texts: list[str], turn: int, max_tokens: int) -> Found:
    """Tokens, seconds and processor seconds of the loop's engine."""
    sampling = Sampling(temperature=0.7, max_tokens=max_tokens)
    requests = [Request(f"{turn}/{i}", text, sampling, seed=i) for i, text in enumerate(texts)]
    started, used = time.monotonic(), tree_cpu(os.getpid())
    answers = await asyncio.gather(*(engine.complete(request) for request in requests))
    return _taken(sum(len(a.token_ids) for a in answers), started, used)


def bare(llm: Any, texts: list[str], stop: list[int], max_tokens: int) -> Found:
    """Tokens, seconds and processor seconds of vLLM alone."""
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0.7,
        max_tokens=max_tokens,
        stop_token_ids=stop,
        ignore_eos=True,
        logprobs=0,
        detokenize=False,
    )
    started, used = time.monotonic(), tree_cpu(os.getpid())
    answers = llm.generate(texts, params, use_tqdm=False)
    return _taken(sum(len(a.outputs[0].token_ids) for a in answers), started, used)


def _taken(num_tokens: int, started: float, used: float) -> Found:
    """Since then. The engine's process is a child of this one; each waits while the other works."""
    return {
        "tokens": num_tokens,
        "seconds": time.monotonic() - started,
        "cpu_seconds": tree_cpu(os.getpid()) - used,
    }


async def main() -> None:
    """Turn by turn; prints each rate and ratio, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--requests", type=int, default=160)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--json", action="store_true", help="the measurements as the last line")
    options = parser.parse_args()
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    most = options.max_tokens
    length = {"max_model_len": 216 + most, "weight_sync_check": False}
    config = EngineConfig(dtype=options.dtype, **length).model_dump()
    checkpoint = check_checkpoint(options.checkpoint)

    from vllm import LLM
    from vllm.platforms import current_platform

    from ouroloop.loop.engines.transformers_local import load_codec

    log = Path(tempfile.mkdtemp()) / "engine.log"
    engine = ProcessEngine({**config, "lora": None}, log)
    await engine.load(options.checkpoint)
    arguments = engine_arguments(config, checkpoint, on_cpu=current_platform.is_cpu())
    arguments.pop("worker_extension_cls")
    llm = LLM(**arguments)
    stop = sorted(load_codec(checkpoint).stop_token_ids)
    texts, ratios = prompts(options.requests), []
    found: dict[str, list[dict[str, float]]] = {"loop": [], "bare": []}
    # The first turn of each compiles and allocates: it is not counted.
    await ours(engine, texts[:32], -1, most), bare(llm, texts[:32], stop, most)
    for turn in range(options.repeats):
        found["loop"].append(await ours(engine, texts, turn, most))
        found["bare"].append(bare(llm, texts, stop, most))
        rates = [found[side][-1]["tokens"] / found[side][-1]["seconds"] for side in found]
        ratios.append(rates[0] / rates[1])
        print(f"loop {rates[0]:.0f} tokens/s, bare {rates[1]:.0f}, ratio {ratios[-1]:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f}")
    await engine.close()
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
