"""The weight-sync check: proof that an engine serves the weights it was asked to load.

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
# What makes a checkpoint's check by hand; followed by the checkpoint and the file to write.
COMMAND = "python -m ouroloop.loop.objectives.training --weight-sync"
FORMAT = 1
# Lengths of the prompts. The longest spans more than two blocks (16 or 32 tokens) of a prefix
# cache, where stale keys hide.
PROMPT_TOKENS = (6, 24, 48, 80)
NEW_TOKENS = 12
# How far (nats) two right computations of one log-probability may lie apart. Kernels round
# differently in each dtype.
TOLERANCES = {"float32": 5e-3, "float16": 0.08, "bfloat16": 0.4}


@dataclass(frozen=True)
class WeightSyncPrompt:
    """One prompt and the right greedy answer to it.

    Margins_T: by how much (nats) the best token led the second best.
    """

    text: str
    prompt_token_ids: tuple[int, ...]
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]


@dataclass(frozen=True)
class WeightSyncCheck:
    """All prompts of one checkpoint.

    `moved` compares it with the checkpoint that training started from: {"from",
    "max_logprob_change" (nats), "tokens_changed" (prompts whose tokens differ), "blind"}; blind
    means that this check cannot distinguish the two. None: not compared.
    """

    checkpoint: str
    dtype: str
    tolerance: float
    prompts: tuple[WeightSyncPrompt, ...]
    moved: Mapping[str, Any] | None = None
    format: int = FORMAT


def make(checkpoint_path: Path, dtype: str) -> WeightSyncCheck:
    """Compute a checkpoint's weight-sync check with transformers, from its files on disk.

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
    # One at a time: in a batch the rounding of a row depends on its neighbours.
    for row in rows:
        generate(model, [row], codec.stop_token_ids)
    prompts = tuple(
        WeightSyncPrompt(
            text,
            tuple(row.prompt_ids),
            tuple(row.token_ids),
            tuple(row.logprobs),
            tuple(row.margins),
        )
        for text, row in zip(texts, rows, strict=True)
    )
    return WeightSyncCheck(
        checkpoint=checkpoint.version, dtype=dtype, tolerance=TOLERANCES[dtype], prompts=prompts
    )


def draw_prompts(codec: Codec) -> list[str]:
    """Texts of at least PROMPT_TOKENS tokens, drawn from the printable part of the vocabulary.

    Same tokenizer, same texts.
    """
    rng = random.Random(0)
    # Sorted, since a set's order may differ between two runs of Python.
    candidates = sorted(set(range(len(codec.tokenizer))) - codec.special_ids)
    texts = []
    for length in PROMPT_TOKENS:
        # Text, not ids: the engine tokenises it itself, which is part of what is checked.
        text, attempts = "", 0
        while not text or len(codec.prompt_ids(text)) < length:
            piece = codec.text([], [rng.choice(candidates)])
            attempts += 1
            # ASCII first; a vocabulary of another script is used only where ASCII gives nothing.
            if piece.isprintable() and (piece.isascii() or attempts > 100 * length):
                text += piece
            if attempts > 1000 * length:
                raise CheckpointError(
                    "no weight-sync prompt could be drawn: the tokenizer's vocabulary has no"
                    " printable tokens"
                )
        texts.append(text)
    return texts


def write(check: WeightSyncCheck, path: Path) -> None:
    """Store a weight-sync check atomically."""
    # Several runs may share the folder of checks: each writes a file of its own first.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(asdict(check)) + "\n", encoding="utf-8")
    temporary.replace(path)


def read(path: Path) -> WeightSyncCheck:
    """Read a stored weight-sync check.

    Raises:
        CheckpointError: the file is not a weight-sync check that this version understands.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            raise ValueError(f"format {raw['format']}, expected {FORMAT}")
        prompts = tuple(_read_prompt(prompt) for prompt in raw["prompts"])
        return WeightSyncCheck(**{**raw, "prompts": prompts})
    except (OSError, ValueError, KeyError, TypeError) as error:
        remedy = f"Make it again with `{COMMAND} CHECKPOINT OUT`."
        raise CheckpointError(
            f"{path}: not a readable weight-sync check ({type(error).__name__}: {error}). {remedy}"
        ) from None


def _read_prompt(raw: Mapping[str, Any]) -> WeightSyncPrompt:
    return WeightSyncPrompt(
        text=raw["text"],
        prompt_token_ids=tuple(raw["prompt_token_ids"]),
        token_ids=tuple(raw["token_ids"]),
        logprobs=tuple(raw["logprobs"]),
        margins=tuple(raw["margins"]),
    )


async def ask(engine: Engine, check: WeightSyncCheck) -> list[Completion]:
    """The engine's greedy answers to all prompts."""
    sampling = Sampling(temperature=0.0, max_tokens=NEW_TOKENS)
    requests = [
        Request(f"weight_sync/{check.checkpoint}/{i}", prompt.text, sampling, seed=0)
        for i, prompt in enumerate(check.prompts)
    ]
    return list(await asyncio.gather(*(engine.complete(request) for request in requests)))


async def prime(engine: Engine, check: WeightSyncCheck) -> None:
    """Answer the prompts with the weights about to be replaced.

    The prompts' keys and values then lie in the prefix cache. Without this the cache might have
    dropped them, and a cache that survives the swap by mistake would go unseen.
    """
    await ask(engine, check)


async def verify(engine: Engine, check: WeightSyncCheck, served: str) -> None:
    """Compare the engine's answers with the stored check.

    Args:
        engine: the engine, loaded.
        check: what its weights should say.
        served: the checkpoint the engine was asked to load, for the message.

    Raises:
        StaleWeightsError: any prompt is answered otherwise than by this checkpoint.
    """
    completions = await ask(engine, check)
    wrong = [
        f"  prompt {i} ({len(prompt.prompt_token_ids)} tokens, {prompt.text[:24]!r}...):"
        f" {difference}"
        for i, (prompt, completion) in enumerate(zip(check.prompts, completions, strict=True))
        if (difference := compare(prompt, completion, check.tolerance))
    ]
    if wrong:
        raise StaleWeightsError(
            f"the engine was asked to serve {served}, but {len(wrong)} of {len(check.prompts)}"
            " weight-sync prompts say that it serves other weights:\n"
            + "\n".join(wrong)
            + "\nProbable causes: the swap kept old weights (a packed output layer, an adapter id"
            " used twice), the prefix cache was not reset, the checkpoint changed after its"
            " check was made, or the engine computes in another precision.\nRemedy: set"
            " engine.swap: respawn (a fresh engine for each checkpoint); if it fails even so,"
            f" make the check again: `{COMMAND} {served} OUT`."
        )


def compare(
    expected: WeightSyncPrompt, got: WeightSyncPrompt | Completion, tolerance: float
) -> str | None:
    """What is wrong with an answer, in words; None when nothing is.

    Log-probabilities may differ by `tolerance` nats, and a token may differ where the two best were
    closer than twice that; what follows such a near tie is not compared.
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
            # A near tie: both engines may be right, and what follows is another text.
            if expected.margins[t] <= 2 * tolerance:
                return None
            return (
                f"expected tokens {list(expected.token_ids)}, got {list(got.token_ids)} (they part"
                f" at {t})"
            )
        # "not <=" also catches NaN, which compares false with everything.
        if not abs(got.logprobs[t] - expected.logprobs[t]) <= tolerance:
            values = (
                f"expected log-probability {expected.logprobs[t]:.4f}, got {got.logprobs[t]:.4f}"
                f" (tolerance {tolerance})"
            )
            return f"token {t} (id {token}): {values}"
    return None


def _brief(ids: Sequence[int]) -> str:
    return f"{list(ids[:6])}{'...' if len(ids) > 6 else ''} ({len(ids)} tokens)"


def check_covers(check: WeightSyncCheck, block_size: int | None) -> None:
    """Refuse a weight-sync check too short to look into the engine's prefix cache.

    Raises:
        EngineError: no prompt spans more than two blocks.
    """
    longest = max(len(prompt.prompt_token_ids) for prompt in check.prompts)
    # Only whole blocks are cached: a prompt within one block would never be read from there.
    if block_size is not None and longest <= 2 * block_size:
        raise EngineError(
            f"the longest weight-sync prompt has {longest} tokens, but the engine caches prefixes"
            f" in blocks of {block_size}, so a stale cache would go unseen. Set engine.extra:"
            " {block_size: 32} or {enable_prefix_caching: false}."
        )


def with_movement(check: WeightSyncCheck, before: WeightSyncCheck) -> WeightSyncCheck:
    """The check with `moved` filled in.

    before: the check of the checkpoint that training started from.
    """
    pairs = list(zip(check.prompts, before.prompts, strict=True))
    differs = [compare(new, old, check.tolerance) is not None for new, old in pairs]
    moved = {
        "from": before.checkpoint,
        "max_logprob_change": max(_logprob_change(new, old) for new, old in pairs),
        "tokens_changed": sum(new.token_ids != old.token_ids for new, old in pairs),
        "blind": not any(differs),
    }
    return replace(check, moved=moved)


def _logprob_change(new: WeightSyncPrompt, old: WeightSyncPrompt) -> float:
    """Largest difference of log-probability, up to and including the first token that differs."""
    changes: list[float] = []
    for pair in zip(_steps(new), _steps(old), strict=False):
        changes.append(abs(pair[0][1] - pair[1][1]))
        # After the first token that differs the two are conditioned on different texts.
        if pair[0][0] != pair[1][0]:
            break
    return max(changes, default=0.0)


def _steps(prompt: WeightSyncPrompt) -> Sequence[tuple[int, float]]:
    return list(zip(prompt.token_ids, prompt.logprobs, strict=True))
