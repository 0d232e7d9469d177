"""Adapters merged before they are served: what of a small update is left in bfloat16."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from rounding import as_bfloat16
from tiny import CHARACTERS, save_tiny_adapter, save_tiny_llama

from ouroloop.loop.engines import merging_local, weight_sync_truth
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.served_weights import Evidence, Verdict, judge, weigh
from ouroloop.loop.engines.transformers_local import TransformersBackend, load_model, score
from ouroloop.loop.engines.weight_sync import WeightSyncCheck

pytestmark = pytest.mark.slow

# Of the adapter's matrices. The update is then 8 * SMALL**2 = 5e-5, of weights of 0.1: less than
# half the distance between two bfloat16 numbers there, 2e-4.
SMALL = 0.0025


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, WeightSyncCheck]:
    """An adapter whose update is small, and its weight-sync check in bfloat16."""
    folder = tmp_path_factory.mktemp("models")
    base = save_tiny_llama(folder / "base", tied=True, spread=0.1)
    made = save_tiny_adapter(base, folder / "adapter", spread=SMALL)
    rng = random.Random(0)
    examples = [[4 + rng.randrange(len(CHARACTERS)) for _ in range(60)] for _ in range(100)]
    return made, weight_sync_truth.make_trained(made, base, examples, "bfloat16")


def served(folder: Path, check: WeightSyncCheck, model: Any = None) -> Evidence:
    """What an engine in bfloat16 that serves this folder says to the check's texts."""
    model = as_bfloat16((model or load_model(check_checkpoint(folder), "bfloat16")).float())
    logprobs = [
        logprob
        for text in check.texts
        for logprob in score(model, text.token_ids[:1], text.token_ids[1:])[0]
    ]
    return weigh(logprobs, check.new_logprobs, check.old_logprobs)


def test_merged_in_bfloat16_a_small_update_is_kept_and_proven(
    adapter: tuple[Path, WeightSyncCheck], tmp_path: Path
) -> None:
    made, check = adapter
    merging_local.merge(check_checkpoint(made), tmp_path / "merged", "bfloat16")
    evidence = served(tmp_path / "merged", check)
    assert judge(evidence, "bfloat16") is Verdict.NEW, evidence


def test_a_merge_that_bfloat16_rounds_away_is_refused(
    adapter: tuple[Path, WeightSyncCheck], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, check = adapter
    # As they are, they are rounded to the nearest when they are stored.
    monkeypatch.setattr(merging_local, "rounded_at_random", lambda values, seed: values)
    merging_local.merge(check_checkpoint(made), tmp_path / "merged", "bfloat16")
    evidence = served(tmp_path / "merged", check)
    assert evidence.share < 0.5
    assert judge(evidence, "bfloat16") in (Verdict.OTHER, Verdict.OLD), evidence


def test_the_transformers_engine_merges_too_for_beside_the_model_the_update_is_lost(
    adapter: tuple[Path, WeightSyncCheck],
) -> None:
    made, check = adapter
    beside = served(made, check)
    assert judge(beside, "bfloat16") in (Verdict.OTHER, Verdict.OLD), beside
    config = {"dtype": "bfloat16", "max_model_len": 128, "max_num_seqs": 4}
    backend = TransformersBackend(config)
    backend.load(made)
    merged = served(made, check, backend.model)
    assert judge(merged, "bfloat16") is Verdict.NEW, merged


def test_merged_in_float32_nothing_is_lost(
    adapter: tuple[Path, WeightSyncCheck], tmp_path: Path
) -> None:
    made, check = adapter
    merging_local.merge(check_checkpoint(made), tmp_path / "merged", "float32")
    whole = load_model(check_checkpoint(tmp_path / "merged"), "float32")
    applied = load_model(check_checkpoint(made), "float32")
    for text in check.texts[:2]:
        pair = text.token_ids[:1], text.token_ids[1:]
        assert score(whole, *pair)[0] == pytest.approx(score(applied, *pair)[0], abs=1e-4)


def test_rounding_at_random_keeps_the_mean_and_what_bfloat16_has_already() -> None:
    exact = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16().float()
    assert torch.equal(merging_local.rounded_at_random(exact, seed=1), exact)
    # A third of the way to the next number: up in a third of the cases, whatever the sign.
    for sign in (1.0, -1.0):
        values = torch.full((30_000,), sign * (1 + 2**-7 / 3))
        found = merging_local.rounded_at_random(values, seed=2)
        assert set(found.tolist()) == {sign, sign * (1 + 2**-7)}
        # Four standard errors of 30,000 draws.
        assert float((found.abs() - 1).mean() / 2**-7) == pytest.approx(1 / 3, abs=0.011)
    again = merging_local.rounded_at_random(values, seed=2)
    assert torch.equal(again, found)
    assert not torch.equal(merging_local.rounded_at_random(values, seed=3), found)
