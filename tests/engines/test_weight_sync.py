"""How answers are compared with a weight-sync check, on the scripted engine.

What counts as other weights, and what does not.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ouroloop.loop.engines import weight_sync
from ouroloop.loop.engines.scripted import Answer, ScriptedEngine
from ouroloop.loop.engines.weight_sync import (
    WeightSyncCheck,
    WeightSyncPrompt,
    compare,
    with_movement,
)
from ouroloop.loop.errors import CheckpointError, EngineError, StaleWeightsError

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


@pytest.mark.parametrize(
    ("got", "message"),
    [
        (
            replace(PROMPT, token_ids=(4, 6, 7)),
            r"expected tokens \[5, 6, 7\], got \[4, 6, 7\] \(they part at 0\)",
        ),
        (replace(PROMPT, token_ids=(5, 6, 8)), r"they part at 2"),
        (
            replace(PROMPT, logprobs=(-1.0, -2.006, -3.0)),
            r"token 1 \(id 6\): expected log-probability -2.0000, got -2.0060 \(tolerance 0.005\)",
        ),
        (replace(PROMPT, logprobs=(-1.0, float("nan"), -3.0)), "got nan"),
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


def scripted(text: str, logprob: float) -> tuple[ScriptedEngine, WeightSyncCheck]:
    """An engine that answers everything with `text`, and a weight-sync check.

    The check is that of a model that answers "yes" at -0.1 nats per token.
    """
    ids = (*b"yes", 256)
    prompts = tuple(
        WeightSyncPrompt(p, tuple(p.encode()), ids, (-0.1,) * 4, (1.0,) * 4)
        for p in ("a", "a longer prompt, longer than a block")
    )
    return ScriptedEngine(answer=lambda request: Answer(text, logprob=logprob)), WeightSyncCheck(
        "003/checkpoint", "float32", TOLERANCE, prompts
    )


def verify(engine: ScriptedEngine, proof: WeightSyncCheck) -> None:
    async def run() -> None:
        await engine.load(Path("runs/x/rounds/003/checkpoint"))
        await weight_sync.verify(engine, proof, served="runs/x/rounds/003/checkpoint")

    asyncio.run(run())


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
    _, proof = scripted("yes", 0)
    proof = with_movement(proof, proof)
    weight_sync.write(proof, tmp_path / "weight_sync.json")
    assert weight_sync.read(tmp_path / "weight_sync.json") == proof
    assert [path.name for path in tmp_path.iterdir()] == ["weight_sync.json"]
    for text in ("{", "[]", '{"format": 99}', '{"format": 1, "prompts": [{}]}'):
        (tmp_path / "weight_sync.json").write_text(text)
        with pytest.raises(CheckpointError, match="not a readable weight-sync check"):
            weight_sync.read(tmp_path / "weight_sync.json")


def test_movement_says_how_far_training_went_and_whether_the_weight_sync_check_would_see_it() -> (
    None
):
    def of(*prompts: WeightSyncPrompt) -> WeightSyncCheck:
        return WeightSyncCheck("c", "float32", TOLERANCE, prompts)

    same, near = (
        with_movement(of(PROMPT), of(PROMPT)).moved,
        with_movement(of(PROMPT), of(replace(PROMPT, logprobs=(-1.0, -2.0, -3.004)))).moved,
    )
    assert same == {"from": "c", "max_logprob_change": 0.0, "tokens_changed": 0, "blind": True}
    assert near is not None
    assert near["blind"]
    assert near["max_logprob_change"] == pytest.approx(0.004)
    far = with_movement(
        of(PROMPT, PROMPT),
        of(PROMPT, replace(PROMPT, token_ids=(5, 6, 9), logprobs=(-1.0, -2.0, -3.5))),
    ).moved
    assert far is not None
    assert (far["blind"], far["tokens_changed"]) == (False, 1)
    assert far["max_logprob_change"] == pytest.approx(0.5)


def test_a_weight_sync_check_shorter_than_two_blocks_of_the_prefix_cache_is_refused() -> None:
    _, proof = scripted("yes", 0)
    weight_sync.check_covers(proof, None)
    weight_sync.check_covers(proof, 16)
    with pytest.raises(EngineError, match=r"36 tokens.*blocks of 32.*block_size: 32"):
        weight_sync.check_covers(proof, 32)
