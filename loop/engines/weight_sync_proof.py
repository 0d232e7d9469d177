"""Asking an engine what a weight-sync check holds, before and after new weights are loaded."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from ouroloop.loop.engines.served_weights import Evidence, Verdict, judge, weigh
from ouroloop.loop.engines.weight_sync import (
    COMMAND,
    NEW_TOKENS,
    TOLERANCES,
    WeightSyncCheck,
    WeightSyncPrompt,
    WeightSyncText,
)
from ouroloop.loop.errors import EngineError, StaleWeightsError, UnprovenWeightsError
from ouroloop.loop.records import Completion, Request, Sampling

# So many texts are also scored before a swap. Weights that changed at all change some last bit.
NUM_PRIMED = 2


class Provable(Protocol):
    """What an engine must be able to do to be proven."""

    async def complete(self, request: Request) -> Completion:
        """Sample one completion."""
        ...

    async def score_ids(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-probability (nats) of each token but the first, given those before it."""
        ...


async def ask(engine: Provable, check: WeightSyncCheck) -> list[Completion]:
    """The engine's greedy answers to all prompts."""
    sampling = Sampling(temperature=0.0, max_tokens=NEW_TOKENS)
    requests = [
        Request(f"weight_sync/{check.checkpoint}/{i}", prompt.text, sampling, seed=0)
        for i, prompt in enumerate(check.prompts)
    ]
    return list(await asyncio.gather(*(engine.complete(request) for request in requests)))


async def score(engine: Provable, texts: Sequence[WeightSyncText]) -> list[tuple[float, ...]]:
    """The engine's log-probabilities of the texts."""
    # One at a time those that are compared bit by bit: in a batch the rounding of a text depends on
    # its neighbours. The others share batches.
    first = [await engine.score_ids(text.token_ids) for text in texts[:NUM_PRIMED]]
    others = [engine.score_ids(text.token_ids) for text in texts[NUM_PRIMED:]]
    return [*first, *(await asyncio.gather(*others))]


async def prime(engine: Provable, check: WeightSyncCheck) -> list[tuple[float, ...]]:
    """Answer the prompts with the weights about to be replaced, and score the first texts.

    The prompts' keys and values then lie in the prefix cache. Without this the cache might have
    dropped them, and a cache that survives the swap by mistake would go unseen.
    """
    await ask(engine, check)
    return await score(engine, check.texts[:NUM_PRIMED])


async def verify(
    engine: Provable,
    check: WeightSyncCheck,
    served: str,
    before: Sequence[tuple[float, ...]] = (),
) -> str:
    """Compare the engine's answers with the stored check.

    Args:
        engine: the engine, loaded.
        check: what its weights should say.
        served: the checkpoint the engine was asked to load, for the message.
        before: what `prime` got from other weights than these; empty when there were none.

    Returns:
        What proves them, in words.

    Raises:
        StaleWeightsError: the answers are not those of this checkpoint.
        UnprovenWeightsError: they could as well be those of the weights that training started from.
    """
    findings = await _wrong_prompts(engine, check)
    num_wrong = len(findings)
    verdict = Verdict.NEW
    if check.texts:
        scored = await score(engine, check.texts)
        served_logprobs = [logprob for text in scored for logprob in text]
        evidence = weigh(served_logprobs, check.new_logprobs, check.old_logprobs)
        verdict = judge(evidence, check.dtype)
        findings.append(describe(evidence, check))
        change = check.change
        # Where training changed nothing, equal answers are the right ones.
        is_moved = change is None or not change.is_none
        if before and is_moved and list(before) == scored[: len(before)]:
            verdict = Verdict.OLD
            findings.append("texts: the scores are, to the last bit, those before the swap")
    if num_wrong or verdict in (Verdict.OLD, Verdict.OTHER):
        raise StaleWeightsError(_stale_message(check, served, num_wrong, findings))
    if verdict is Verdict.UNPROVEN:
        raise UnprovenWeightsError(
            f"the engine was asked to serve {served}, but its answers could as well be those of"
            f" {check.old}, which training started from: {findings[-1]}. Training changed less than"
            f" {check.dtype} can show.\nRemedy: start a run whose rounds change more"
            " (sft.learning_rate, more examples), that serves with engine.dtype: float32, or that"
            " accepts it: engine.weight_sync_check: false."
        )
    return "; ".join([f"{len(check.prompts)} prompts answered as they should be", *findings])


async def _wrong_prompts(engine: Provable, check: WeightSyncCheck) -> list[str]:
    """What is wrong with the answers to the prompts, one line for each wrong one."""
    completions = await ask(engine, check)
    findings = []
    for i, (prompt, completion) in enumerate(zip(check.prompts, completions, strict=True)):
        difference = compare(prompt, completion, TOLERANCES[check.dtype])
        if difference:
            length = f"{len(prompt.prompt_token_ids)} tokens"
            findings.append(f"prompt {i} ({length}, {prompt.text[:24]!r}...): {difference}")
    return findings


def _stale_message(
    check: WeightSyncCheck, served: str, num_wrong: int, findings: Sequence[str]
) -> str:
    lines = "\n".join(f"  {finding}" for finding in findings)
    return (
        f"the engine was asked to serve {served}, but {num_wrong} of {len(check.prompts)}"
        f" weight-sync prompts and its scores of {len(check.texts)} texts say that it serves other"
        f" weights:\n{lines}\nProbable causes: the swap kept old weights (a packed output layer, an"
        " adapter id used twice), the prefix cache was not reset, the checkpoint changed after its"
        " check was made, or the engine computes in another precision.\nRemedy: set"
        " engine.swap: respawn (a fresh engine for each checkpoint); if it fails even so,"
        f" make the check again: `{COMMAND} {served} OUT`."
    )


def describe(evidence: Evidence, check: WeightSyncCheck) -> str:
    """The evidence in words: how near the new weights, and how much of the change is served."""
    text = (
        f"texts: {evidence.num_tokens} log-probabilities, {evidence.error:.2g} nats (by the median)"
        " from the right ones"
    )
    change = check.change
    if change is None or change.is_none:
        return text
    return (
        f"{text}; they show {evidence.share:.3f} +- {evidence.standard_error:.2g} of the change of"
        f" {change.rms:.2g} nats since {check.old} (1: the new weights, 0: the old ones)"
    )


def compare(
    expected: WeightSyncPrompt, got: WeightSyncPrompt | Completion, tolerance: float
) -> str | None:
    """What is wrong with an answer, in words; None when nothing is.

    Log-probabilities may differ by `tolerance` nats, in the median: of a text that makes no sense a
    right engine is off by a nat or more at one token in two thousand (bfloat16). A token may differ
    where the two best were closer than twice that; what follows such a near tie is not compared.
    """
    if tuple(got.prompt_token_ids) != expected.prompt_token_ids:
        return (
            f"tokenised otherwise: expected {_brief(expected.prompt_token_ids)}, got"
            f" {_brief(got.prompt_token_ids)}"
        )
    differences = []
    for t, token in enumerate(expected.token_ids):
        if t >= len(got.token_ids):
            return f"expected {len(expected.token_ids)} tokens, got only {t}"
        if got.token_ids[t] != token:
            # A near tie: both engines may be right, and what follows is another text.
            if expected.margins[t] <= 2 * tolerance:
                break
            return (
                f"expected tokens {list(expected.token_ids)}, got {list(got.token_ids)} (they part"
                f" at {t})"
            )
        differences.append(abs(got.logprobs[t] - expected.logprobs[t]))
    difference = float(np.median(differences)) if differences else 0.0
    # "not <=" also catches NaN, which compares false with everything.
    if not difference <= tolerance:
        return (
            f"log-probabilities {difference:.3g} nats from the right ones, by the median of"
            f" {len(differences)} tokens (tolerance {tolerance})"
        )
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
