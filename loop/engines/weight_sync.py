"""The canary: proof that an engine serves the weights it was told to load.

The trainer decodes a few fixed prompts greedily with transformers and stores the tokens and their
log-probabilities beside the checkpoint; after every load the engine must say the same. The prompts
are drawn from the tokenizer's vocabulary: they know no task.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ouroloop.loop.engines.base import Engine
from ouroloop.loop.engines.tokens import Codec
from ouroloop.loop.errors import CheckpointError, EngineError, StaleWeightsError
from ouroloop.loop.records import Completion, Request, Sampling

FILE_NAME = "weight_sync.json"
FORMAT = 1
PROMPT_TOKENS = (6, 24, 48, 80)
"""Lengths of the prompts; the longest spans more than two blocks (16 or 32 tokens) of a prefix cache, where stale keys hide."""
NEW_TOKENS = 12
TOLERANCES = {"float32": 5e-3, "float16": 0.08, "bfloat16": 0.4}
"""How far (nats) two right computations of one log-probability may lie apart.

Kernels round differently in each dtype.
"""


@dataclass(frozen=True)
class CanaryPrompt:
    """One prompt and the right greedy answer to it.

    Margins_T: by how much (nats) the best token led the second best.
    """

    text: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class Canary:
    """All prompts of one checkpoint.

    `moved` compares it with the checkpoint that training started from: {"from",
    "max_logprob_change" (nats), "tokens_changed" (prompts whose tokens differ), "blind"}; blind
    means that this canary could not tell the two apart. None: not compared.
    """

    checkpoint: str
    dtype: str
    tolerance: float
    prompts: tuple[CanaryPrompt, ...]
    moved: Mapping[str, Any] | None = None
    format: int = FORMAT


def make(checkpoint_path: Path, dtype: str) -> Canary:
    """Compute a checkpoint's canary with transformers, from its files on disk.

    Heavy: for child processes.

    Raises:
        CheckpointError: the checkpoint cannot be used.
    """
    from ouroloop.loop.engines.checkpoint import check_checkpoint
    from ouroloop.loop.engines.transformers_local import Row, generate, load_codec, load_model

    checkpoint = check_checkpoint(checkpoint_path)
    codec, model = load_codec(checkpoint), load_model(checkpoint, dtype)
    texts = draw_prompts(codec)
    rows = [
        Row(codec.prompt_ids(text), Sampling(temperature=0.0, max_tokens=NEW_TOKENS), seed=0)
        for text in texts
    ]
    for row in rows:
        generate(model, [row], codec.stop_token_ids)
    prompts = tuple(
        CanaryPrompt(
            text,
            tuple(row.prompt_ids),
            tuple(row.token_ids),
            tuple(row.logprobs),
            tuple(row.margins),
        )
        for text, row in zip(texts, rows, strict=True)
    )
    return Canary(
        checkpoint=checkpoint.version, dtype=dtype, tolerance=TOLERANCES[dtype], prompts=prompts
    )


def draw_prompts(codec: Codec) -> list[str]:
    """Texts of at least PROMPT_TOKENS tokens, drawn from the printable part of the vocabulary.

    Same tokenizer, same texts.
    """
    rng = random.Random(0)
    candidates = sorted(set(range(len(codec.tokenizer))) - codec.special_ids)
    texts = []
    for length in PROMPT_TOKENS:
        text, attempts = "", 0
        while not text or len(codec.prompt_ids(text)) < length:
            piece = codec.text([], [rng.choice(candidates)])
            attempts += 1
            if piece.isprintable() and (piece.isascii() or attempts > 100 * length):
                text += piece
            if attempts > 1000 * length:
                raise CheckpointError(
                    "no canary prompt could be drawn: the tokenizer's vocabulary has no printable"
                    " tokens"
                )
        texts.append(text)
    return texts


def write(canary: Canary, path: Path) -> None:
    """Store a canary atomically."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(canary)) + "\n", encoding="utf-8")
    temporary.replace(path)


def read(path: Path) -> Canary:
    """Read a stored canary.

    Raises:
        CheckpointError: the file is not a canary that this version understands.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']}, expected {FORMAT}")
        prompts = tuple(_read_prompt(prompt) for prompt in raw["prompts"])
        return Canary(**{**raw, "prompts": prompts})
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = (
            "Make it again with `python -m ouroloop.loop.objectives.sft --canary CHECKPOINT OUT`."
        )
        raise CheckpointError(
            f"{path}: not a readable canary ({type(error).__name__}: {error}). {remedy}"
        ) from None


def _read_prompt(raw: Mapping[str, Any]) -> CanaryPrompt:
    return CanaryPrompt(
        text=raw["text"],
        prompt_token_ids=tuple(raw["prompt_token_ids"]),
        token_ids=tuple(raw["token_ids"]),
        logprobs=tuple(raw["logprobs"]),
        margins=tuple(raw["margins"]),
    )


async def ask(engine: Engine, canary: Canary) -> list[Completion]:
    """The engine's greedy answers to all prompts."""
    sampling = Sampling(temperature=0.0, max_tokens=NEW_TOKENS)
    requests = [
        Request(f"canary/{canary.checkpoint}/{i}", prompt.text, sampling, seed=0)
        for i, prompt in enumerate(canary.prompts)
    ]
    return list(await asyncio.gather(*(engine.complete(request) for request in requests)))


async def prime(engine: Engine, canary: Canary) -> None:
    """Answer the prompts with the weights about to be replaced.

    So that their keys and values lie in the prefix cache.

    Without this the cache might have forgotten them, and a cache that survives the swap by mistake
    would go unseen.
    """
    await ask(engine, canary)


async def verify(engine: Engine, canary: Canary, served: str) -> None:
    """Hold the engine's answers against the canary.

    Args:
        engine: the engine, loaded.
        canary: what its weights should say.
        served: the checkpoint the engine was told to load, for the message.

    Raises:
        StaleWeightsError: any prompt is answered otherwise than by this checkpoint.
    """
    completions = await ask(engine, canary)
    wrong = [
        f"  prompt {i} ({len(prompt.prompt_token_ids)} tokens, {prompt.text[:24]!r}...):"
        f" {difference}"
        for i, (prompt, completion) in enumerate(zip(canary.prompts, completions, strict=True))
        if (difference := compare(prompt, completion, canary.tolerance))
    ]
    if wrong:
        raise StaleWeightsError(
            f"the engine was told to serve {served}, but {len(wrong)} of {len(canary.prompts)}"
            " canary prompts say that it serves other weights:\n"
            + "\n".join(wrong)
            + "\nProbable causes: the swap kept old weights (a packed output layer, an adapter id"
            " used twice), the prefix cache was not reset, the checkpoint changed after its"
            " canary was made, or the engine computes in another precision.\nRemedy: set"
            " engine.swap: respawn (a fresh engine for each checkpoint); if it fails even so,"
            f" make the canary again: `python -m ouroloop.loop.objectives.sft --canary {served}"
            " OUT`."
        )


def compare(expected: CanaryPrompt, got: CanaryPrompt | Completion, tolerance: float) -> str | None:
    """What is wrong with an answer, in words; None when nothing is.

    Log-probabilities may differ by `tolerance` nats, and a token may differ where the two best were
    closer than twice that; nothing can be said about what follows such a near tie.
    """
    if tuple(got.prompt_token_ids) != expected.prompt_token_ids:
        return (
            f"tokenised otherwise: expected {_brief(expected.prompt_token_ids)}, got"
            f" {_brief(got.prompt_token_ids)}"
        )
    for t, token in enumerate(expected.token_ids):
        if t >= len(got.token_ids):
            return f"expected {len(expected.token_ids)} tokens, got only {t}"
        if got.token_ids[t] != token:
            if expected.margins[t] <= 2 * tolerance:
                return None
            return (
                f"expected tokens {list(expected.token_ids)}, got {list(got.token_ids)} (they part"
                f" at {t})"
            )
        if not abs(got.logprobs[t] - expected.logprobs[t]) <= tolerance:
            values = (
                f"expected log-probability {expected.logprobs[t]:.4f}, got {got.logprobs[t]:.4f}"
                f" (tolerance {tolerance})"
            )
            return f"token {t} (id {token}): {values}"
    return None


def _brief(ids: Sequence[int]) -> str:
    return f"{list(ids[:6])}{'...' if len(ids) > 6 else ''} ({len(ids)} tokens)"


def check_covers(canary: Canary, block_size: int | None) -> None:
    """Refuse a canary too short to look into the engine's prefix cache.

    Raises:
        EngineError: no prompt spans more than two blocks.
    """
    longest = max(len(prompt.prompt_token_ids) for prompt in canary.prompts)
    if block_size is not None and longest <= 2 * block_size:
        raise EngineError(
            f"the longest canary prompt has {longest} tokens, but the engine caches prefixes in"
            f" blocks of {block_size}, so a stale cache would go unseen. Set engine.extra:"
            " {block_size: 32} or {enable_prefix_caching: false}."
        )


def with_movement(canary: Canary, before: Canary) -> Canary:
    """The canary with its `moved` filled in against the canary of the checkpoint that training started from."""
    pairs = list(zip(canary.prompts, before.prompts, strict=True))
    told_apart = [compare(new, old, canary.tolerance) is not None for new, old in pairs]
    moved = {
        "from": before.checkpoint,
        "max_logprob_change": max(_logprob_change(new, old) for new, old in pairs),
        "tokens_changed": sum(new.token_ids != old.token_ids for new, old in pairs),
        "blind": not any(told_apart),
    }
    return replace(canary, moved=moved)


def _logprob_change(new: CanaryPrompt, old: CanaryPrompt) -> float:
    """Largest difference of log-probability over the tokens up to and including the first that differs."""
    changes: list[float] = []
    for pair in zip(_steps(new), _steps(old), strict=False):
        changes.append(abs(pair[0][1] - pair[1][1]))
        if pair[0][0] != pair[1][0]:
            break
    return max(changes, default=0.0)


def _steps(prompt: CanaryPrompt) -> Sequence[tuple[int, float]]:
    return list(zip(prompt.token_ids, prompt.logprobs, strict=True))
