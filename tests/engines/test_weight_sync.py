"""How answers are compared with a weight-sync check, on the scripted engine.

What counts as other weights, and what does not.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from ouroloop.loop.engines import weight_sync, weight_sync_proof
from ouroloop.loop.engines.scripted import Answer, ScriptedEngine
from ouroloop.loop.engines.weight_sync import WeightSyncCheck, WeightSyncPrompt, WeightSyncText
from ouroloop.loop.engines.weight_sync_proof import compare
from ouroloop.loop.errors import (
    CheckpointError,
    EngineError,
    StaleWeightsError,
    UnprovenWeightsError,
)

PROMPT = WeightSyncPrompt(
    text="abc",
    prompt_token_ids=(97, 98, 99),
    token_ids=(5, 6, 7),
    logprobs=(-1.0, -2.0, -3.0),
    margins=(2.0, 0.008, 2.0),
)
TOLERANCE = 5e-3


def test_the_same_answer_is_right_and_rounding_is_forgiven() -> None:
    assert compare(PROMPT, PROMPT, TOLERANCE) is None
    assert compare(PROMPT, replace(PROMPT, logprobs=(-1.004, -2.004, -2.996)), TOLERANCE) is None
    # One token that is rounded far more than the others is what right engines show.
    assert compare(PROMPT, replace(PROMPT, logprobs=(-1.0, -2.5, -3.0)), TOLERANCE) is None


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (
            replace(PROMPT, token_ids=(4, 6, 7)),
            r"expected tokens \[5, 6, 7\], got \[4, 6, 7\] \(they part at 0\)",
        ),
        (replace(PROMPT, token_ids=(5, 6, 8)), r"they part at 2"),
        (
            replace(PROMPT, logprobs=(-1.0, -2.006, -3.006)),
            r"log-probabilities 0.006 nats from the right ones, by the median of 3 tokens"
            r" \(tolerance 0.005\)",
        ),
        (replace(PROMPT, logprobs=(-1.0, float("nan"), -3.0)), "log-probabilities nan nats"),
        (replace(PROMPT, token_ids=(5, 6), logprobs=(-1.0, -2.0)), "expected 3 tokens, got only 2"),
        (
            replace(PROMPT, prompt_token_ids=(97, 98)),
            (
                r"tokenised otherwise: expected \[97, 98, 99\] \(3 tokens\), got \[97, 98\] \(2"
                r" tokens\)"
            ),
        ),
    ],
)
def test_other_tokens_log_probabilities_or_tokenisations_are_distinguished(
    got: WeightSyncPrompt, message: str
) -> None:
    difference = compare(PROMPT, got, TOLERANCE)
    assert difference is not None

    assert re.search(message, difference)


def test_at_a_near_tie_either_token_is_right_and_nothing_after_it_counts() -> None:
    assert (
        compare(
            PROMPT, replace(PROMPT, token_ids=(5, 9, 9), logprobs=(-1.0, -2.0, -9.0)), TOLERANCE
        )
        is None
    )
    assert (
        compare(
            PROMPT, replace(PROMPT, token_ids=(5, 9, 9), logprobs=(-1.5, -2.0, -9.0)), TOLERANCE
        )
        is not None
    )


@dataclass
class Scoring(ScriptedEngine):
    """A scripted engine that scores texts, too: `texts` maps token ids to log-probabilities."""

    texts: dict[tuple[int, ...], tuple[float, ...]] = field(default_factory=dict)

    async def score_ids(self, token_ids: Sequence[int]) -> tuple[float, ...]:
        return self.texts[tuple(token_ids)]


def scripted(text: str, logprob: float) -> tuple[Scoring, WeightSyncCheck]:
    """An engine that answers everything with `text`, and a weight-sync check.

    The check is that of a model that answers "yes" at -0.1 nats per token.
    """
    ids = (*b"yes", 256)
    prompts = tuple(
        WeightSyncPrompt(p, tuple(p.encode()), ids, (-0.1,) * 4, (1.0,) * 4)
        for p in ("a", "a longer prompt, longer than a block")
    )
    return Scoring(answer=lambda request: Answer(text, logprob=logprob)), WeightSyncCheck(
        "003/checkpoint", "float32", prompts
    )


def moved(change: float, dtype: str = "bfloat16") -> WeightSyncCheck:
    """A check with eight texts that training moved by about `change` nats."""
    rng = random.Random(0)
    texts = []
    for i in range(8):
        old = [-rng.expovariate(0.5) for _ in range(90)]
        new = tuple(logprob + rng.gauss(0, change) for logprob in old)
        texts.append(WeightSyncText((i, *range(90)), new, tuple(old)))
    return replace(scripted("yes", 0)[1], dtype=dtype, texts=tuple(texts), old="002/checkpoint")


def serving(check: WeightSyncCheck, share: float, rounding: float = 0.06) -> Scoring:
    """An engine whose answers are right, and whose scores are `share` of the way to the new."""
    engine, rng = scripted("yes", -0.1)[0], random.Random(1)
    for text in check.texts:
        assert text.old_logprobs is not None
        engine.texts[text.token_ids] = tuple(
            old + share * (new - old) + rng.gauss(0, rounding)
            for new, old in zip(text.logprobs, text.old_logprobs, strict=True)
        )
    return engine


def verify(
    engine: Scoring, proof: WeightSyncCheck, before: Sequence[tuple[float, ...]] = ()
) -> str:
    async def run() -> str:
        await engine.load(Path("runs/x/rounds/003/checkpoint"))
        return await weight_sync_proof.verify(engine, proof, "runs/x/rounds/003/checkpoint", before)

    return asyncio.run(run())


def test_a_change_that_the_prompts_cannot_see_in_bfloat16_is_proven_by_the_texts() -> None:
    """0.2 nats, half the prompts' tolerance: all prompts are answered alike by either model."""
    check = moved(0.2)
    said = verify(serving(check, share=1), check)
    assert "2 prompts answered as they should be; texts: 720 log-probabilities" in said
    assert re.search(r"they show (1\.0|0\.9)\d\d \+- 0\.01\d? of the change of 0\.2 nats", said)
    with pytest.raises(StaleWeightsError) as caught:
        verify(serving(check, share=0), check)
    message = str(caught.value)
    assert "0 of 2 weight-sync prompts and its scores of 8 texts" in message
    assert re.search(
        r"they show -?0\.0\d\d \+- 0\.01\d? of the change of 0\.2 nats since 002", message
    )
    assert "engine.swap: respawn" in message


def test_a_change_that_no_text_can_show_stops_the_run_with_three_ways_out() -> None:
    check = moved(0.001)
    for share in (0, 1):
        with pytest.raises(UnprovenWeightsError) as caught:
            verify(serving(check, share), check)
        for part in ("could as well be those of 002/checkpoint", "0.001 nats", "bfloat16 can show"):
            assert part in str(caught.value)
        for remedy in ("sft.learning_rate", "engine.dtype: float32", "weight_sync_check: false"):
            assert remedy in str(caught.value)
    check = moved(0.001, dtype="float32")
    verify(serving(check, share=1, rounding=1e-4), check)


def test_a_training_that_changed_nothing_has_no_old_weights_to_fear() -> None:
    check = moved(0.0)
    engine = serving(check, share=1)
    verify(engine, check, before=[engine.texts[check.texts[0].token_ids]])


def test_scores_that_a_swap_leaves_alone_to_the_last_bit_are_those_of_the_weights_before() -> None:
    """Whatever the checkpoint: here a base model, of which no old weights are known."""
    check = moved(0.2)
    engine = serving(check, share=1)
    base = replace(check, old=None)
    scores = [engine.texts[text.token_ids] for text in check.texts[:2]]
    with pytest.raises(StaleWeightsError, match="to the last bit, those before the swap"):
        verify(engine, base, before=scores)
    verify(engine, base, before=[scores[0], (*scores[1][:-1], scores[1][-1] + 1e-6)])


def test_an_engine_that_answers_alike_passes() -> None:
    engine, proof = scripted("yes", -0.102)
    verify(engine, proof)
    assert len(engine.requests) == 2
    assert all(request.sampling.temperature == 0 for request in engine.requests)


@pytest.mark.parametrize(("text", "logprob"), [("no", -0.1), ("yes", -0.2)])
def test_an_engine_that_answers_otherwise_stops_the_run_with_causes_and_a_remedy(
    text: str, logprob: float
) -> None:
    engine, proof = scripted(text, logprob)
    with pytest.raises(StaleWeightsError) as caught:
        verify(engine, proof)
    message = str(caught.value)
    assert "asked to serve runs/x/rounds/003/checkpoint, but 2 of 2 weight-sync prompts" in message
    for part in (
        "prompt 0 (1 tokens, 'a'...)",
        "prefix cache",
        "adapter id used twice",
        "engine.swap: respawn",
    ):
        assert part in message


def test_a_weight_sync_check_survives_its_file_and_a_broken_file_is_refused(tmp_path: Path) -> None:
    proof = moved(0.1)
    weight_sync.write(proof, tmp_path / "weight_sync.json")
    assert weight_sync.read(tmp_path / "weight_sync.json") == proof
    assert [path.name for path in tmp_path.iterdir()] == ["weight_sync.json"]
    for text in ("{", "[]", '{"format": 1}', '{"format": 2, "prompts": [{}]}'):
        (tmp_path / "weight_sync.json").write_text(text)
        with pytest.raises(CheckpointError, match="not a readable weight-sync check"):
            weight_sync.read(tmp_path / "weight_sync.json")


def test_a_check_of_another_dtype_or_an_older_format_is_to_be_made_again(tmp_path: Path) -> None:
    path = tmp_path / "weight_sync.json"
    assert not weight_sync.is_for(path, "bfloat16")
    weight_sync.write(moved(0.1), path)
    assert weight_sync.is_for(path, "bfloat16")
    assert not weight_sync.is_for(path, "float32")
    for text in ('{"format": 1, "dtype": "bfloat16", "prompts": []}', "[]", "{"):
        path.write_text(text)
        assert not weight_sync.is_for(path, "bfloat16")


def test_a_weight_sync_check_shorter_than_two_blocks_of_the_prefix_cache_is_refused() -> None:
    _, proof = scripted("yes", 0)
    weight_sync_proof.check_covers(proof, None)
    weight_sync_proof.check_covers(proof, 16)
    with pytest.raises(EngineError, match=r"36 tokens.*blocks of 32.*block_size: 32"):
        weight_sync_proof.check_covers(proof, 32)
