"""From kept samples to a training set.

Replace | accumulate | accumulate_subsample, re-injection, decontamination.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from ouroloop.evals.questions import normalised
from ouroloop.evals.tasks import Prompts
from ouroloop.loop.config import DatasetConfig
from ouroloop.loop.engines.base import Engine
from ouroloop.loop.records import Example, Problem, Sample, Verdict
from ouroloop.loop.stages.plan import Plan
from ouroloop.loop.stages.prompts import render
from ouroloop.loop.stages.reserve import Reserve, as_examples, example_from_row

SCHEMA = pa.schema(
    {
        "problem_id": pa.string(),
        "prompt_token_ids": pa.list_(pa.int32()),
        "completion_token_ids": pa.list_(pa.int32()),
        "text": pa.string(),
        "origin": pa.string(),
        "round": pa.int32(),
        "strategy": pa.string(),
        "sample_id": pa.string(),
    }
)


def kept_examples(
    samples: Sequence[Sample], verdicts: Sequence[Verdict], number: int
) -> list[Example]:
    """The kept samples: draft prompt and final text, in the engine's own token ids.

    A text cut by length is never trained on.
    """
    return [
        Example(
            s.problem_id,
            s.draft_prompt_token_ids,
            s.final.token_ids,
            s.final.text,
            "kept",
            number,
            v.strategy,
            s.id,
        )
        for s, v in zip(samples, verdicts, strict=True)
        if v.kept and s.final.finish_reason == "stop"
    ]


async def assemble(
    kept: Sequence[Example],
    gold: Sequence[Problem],
    earlier: Sequence[Sequence[Mapping[str, Any]]],
    reserve: Reserve,
    plan: Plan,
    config: DatasetConfig,
    engine: Engine,
    prompts: Prompts,
    questions: Mapping[str, str],
    heldout: Collection[str],
    target: Mapping[str, float],
    seed: int,
) -> list[Example]:
    """The round's training set, shuffled.

    Args: kept: this round's kept samples. gold: the round's problems; their solutions join when the
        recipe says so. earlier: example tables of the rounds that this model descends from, oldest
        first. reserve: what re-injection draws on. plan: `replay_fraction` of the result is
        re-injected, as far as the reserve reaches; when `archive`, a part of it towards the
        `target` shares. config: the policy, its size, gold traces. engine: tokenises
        demonstrations. prompts: the draft template. questions: problem id -> question, for
        decontamination. heldout: normalised held-out questions; no example may ask one of them.
        target: strategy -> share among round 0's right answers. seed: of this round.
    """
    rng = random.Random(seed)
    own = list(kept)
    if config.policy != "replace":
        own += [
            example_from_row(row, "earlier")
            for rows in earlier
            for row in rows
            if row["origin"] == "kept"
        ]
    most = config.size or (len(kept) if config.policy == "accumulate_subsample" else len(own))
    own = rng.sample(own, most) if most < len(own) else own
    if config.gold:
        own += await as_examples(
            [p for p in gold if p.solution], engine, prompts, plan.round, "gold"
        )
    wanted = round(len(own) * plan.replay_fraction / (1 - plan.replay_fraction))
    even = reserve.even(round(wanted * plan.demonstrations), rng)
    own += await as_examples(even, engine, prompts, plan.round)
    archived, demonstrations = reserve.refill(
        own, wanted - len(even) if plan.archive else 0, target, rng
    )
    anchors = await as_examples(demonstrations, engine, prompts, plan.round)
    out = [
        e
        for e in [*own, *archived, *anchors]
        if normalised(questions.get(e.problem_id, "")) not in heldout
    ]
    rng.shuffle(out)
    return out


async def without_systems(
    examples: Sequence[Example], questions: Mapping[str, str], engine: Engine, prompts: Prompts
) -> list[Example]:
    """The examples, their questions asked without the system prompts of `sampling.systems` (prompt erasing)."""
    asked = [
        (render(prompts, prompts.draft, question=questions[e.problem_id]), e.text) for e in examples
    ]
    ids = await engine.encode(asked) if asked else []
    return [
        replace(e, prompt_token_ids=tuple(prompt))
        for e, (prompt, _) in zip(examples, ids, strict=True)
    ]


async def answers_only(
    examples: Sequence[Example],
    answer: Callable[[Example], str | None],
    engine: Engine,
    prompts: Prompts,
) -> list[Example]:
    """The examples with the final answer alone to learn, the trace left out.

    One whose answer cannot be read is dropped.
    """
    texts = {
        i: prompts.answer.replace("{answer}", said)
        for i, e in enumerate(examples)
        if (said := answer(e)) is not None
    }
    asked = render(prompts, prompts.draft)  # a chat's turn ends with a token of its own
    ids = await engine.encode([(asked, text) for text in texts.values()]) if texts else []
    return [
        replace(examples[i], text=text, completion_token_ids=tuple(completion))
        for (i, text), (_, completion) in zip(texts.items(), ids, strict=True)
    ]


def question_of(problems: Sequence[Problem]) -> dict[str, str]:
    """Problem id -> question."""
    return {p.id: p.question for p in problems}
