"""Whose log-probabilities an engine's are: simulated engines that round as real ones do.

Rounding is drawn at random, per token, of the size that each dtype has; `SEEDS` draws of each case,
so that no verdict hangs on one of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ouroloop.loop.engines.served_weights import (
    MOST_ROUNDING,
    ROUNDING,
    Change,
    Verdict,
    change_between,
    judge,
    weigh,
)

SEEDS = 300
NUM_TOKENS = 500


def drawn(seed: int, change: float, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """New and old log-probabilities that lie `change` nats (rms) apart, and one rounding.

    Few tokens carry most of the change, and unlikely tokens are rounded more: as in real models.
    """
    rng = np.random.default_rng(seed)
    old_N = -rng.gamma(shape=0.7, scale=3.0, size=NUM_TOKENS)
    d_N = rng.standard_t(df=3, size=NUM_TOKENS)
    new_N = old_N + d_N * change / np.sqrt(np.mean(d_N**2))
    size_N = 0.5 + np.abs(old_N) / np.abs(old_N).mean() / 2
    rounding_N = (
        rng.normal(size=NUM_TOKENS) * size_N * ROUNDING[dtype] / np.sqrt(np.mean(size_N**2))
    )
    return new_N, old_N, rounding_N


def verdicts(dtype: str, change: float, share: float) -> list[Verdict]:
    """On an engine that serves `share` of the way from the old weights to the new ones."""
    found = []
    for seed in range(SEEDS):
        new_N, old_N, rounding_N = drawn(seed, change, dtype)
        served_N = old_N + share * (new_N - old_N) + rounding_N
        found.append(judge(weigh(served_N, new_N, old_N), dtype))
    return found


# A change as large as one rounding is far below what a single log-probability could show.
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("changes", [1.0, 4.0])
def test_new_and_old_weights_are_told_apart_in_every_dtype(dtype: str, changes: float) -> None:
    change = changes * ROUNDING[dtype]
    new, old = verdicts(dtype, change, share=1), verdicts(dtype, change, share=0)
    assert new.count(Verdict.NEW) >= SEEDS - 1, "a right engine is not to be stopped"
    assert Verdict.NEW not in old
    assert old.count(Verdict.OLD) >= SEEDS - 1


@pytest.mark.parametrize("share", [-1.0, 0.5, 2.0])
def test_a_part_of_the_new_weights_or_those_of_two_rounds_ago_are_neither(share: float) -> None:
    assert set(verdicts("bfloat16", 0.1, share)) == {Verdict.OTHER}


def test_weights_of_another_run_are_neither_though_nothing_is_known_of_old_ones() -> None:
    new_N, _, rounding_N = drawn(0, 0.1, "bfloat16")
    other_N = np.random.default_rng(1).permutation(new_N)
    assert judge(weigh(other_N, new_N, None), "bfloat16") is Verdict.OTHER
    assert judge(weigh(new_N + rounding_N, new_N, None), "bfloat16") is Verdict.NEW


def test_a_few_tokens_that_are_off_by_nats_do_not_stop_a_right_engine() -> None:
    """Seen of SmolLM2 in bfloat16: 5.3 nats at one of 180 tokens, 0.41 by the root mean square."""
    for seed in range(SEEDS):
        new_N, old_N, rounding_N = drawn(seed, 0.3, "bfloat16")
        rng = np.random.default_rng(seed)
        rounding_N[rng.random(NUM_TOKENS) < 0.01] *= 40
        right = new_N + rounding_N
        assert judge(weigh(right, new_N, None), "bfloat16") is Verdict.NEW
        assert judge(weigh(right, new_N, old_N), "bfloat16") is Verdict.NEW
        assert judge(weigh(old_N + rounding_N, new_N, old_N), "bfloat16") is Verdict.OLD


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_change_below_what_so_many_tokens_can_show_is_never_called_proven(share: float) -> None:
    found = verdicts("bfloat16", 0.02 * ROUNDING["bfloat16"], share)
    assert set(found) == {Verdict.UNPROVEN}


def test_the_standard_error_holds_over_many_roundings() -> None:
    """Share minus 1, in standard errors, has the spread that it claims."""
    deviations = []
    for seed in range(SEEDS):
        new_N, old_N, rounding_N = drawn(seed, 0.05, "bfloat16")
        evidence = weigh(new_N + rounding_N, new_N, old_N)
        deviations.append((evidence.share - 1) / evidence.standard_error)
    # The spread of 300 draws is known to 4 %; the standard error errs a little to the large side.
    assert 0.8 < np.std(deviations) < 1.1
    assert max(map(abs, deviations)) < 4


def test_a_token_that_moved_far_and_is_off_by_nats_does_not_carry_the_share() -> None:
    """Of SmolLM2 in bfloat16 least squares said 0.78 +- 0.32, and a right engine was stopped."""
    for seed in range(SEEDS):
        new_N, old_N, rounding_N = drawn(seed, 0.5, "bfloat16")
        far = int(np.argmax(np.abs(new_N - old_N)))
        rounding_N[far] = 5.0 * np.sign(old_N[far] - new_N[far])
        for served_N, verdict in ((new_N, Verdict.NEW), (old_N, Verdict.OLD)):
            assert judge(weigh(served_N + rounding_N, new_N, old_N), "bfloat16") is verdict


def test_tokens_that_did_not_move_say_nothing_of_the_errors_of_those_that_did() -> None:
    new_N, old_N, rounding_N = drawn(0, 0.1, "bfloat16")
    still = np.arange(NUM_TOKENS) % 4 > 0
    new_N[still] = old_N[still]
    rounding_N[still] = 0.0
    evidence = weigh(new_N + rounding_N, new_N, old_N)
    assert judge(evidence, "bfloat16") is Verdict.NEW
    assert 0.01 < evidence.standard_error < 0.1
    # Where all is exact there is no error at all, and no division by it.
    assert judge(weigh(new_N, new_N, old_N), "float32") is Verdict.NEW


def test_one_token_with_all_of_the_change_proves_nothing() -> None:
    """It lies on the line by itself, so its own rounding cannot be seen."""
    _, old_N, rounding_N = drawn(0, 0.1, "bfloat16")
    new_N = old_N.copy()
    new_N[7] += 0.2
    evidence = weigh(new_N + rounding_N, new_N, old_N)
    assert judge(evidence, "bfloat16") is Verdict.UNPROVEN


def test_without_a_change_there_are_no_old_weights_and_nearness_is_all() -> None:
    new_N, _, rounding_N = drawn(0, 0.1, "float32")
    change = change_between(new_N, new_N, "float32")
    assert change.is_none
    assert not change.has_power
    assert judge(weigh(new_N + rounding_N, new_N, new_N), "float32") is Verdict.NEW
    far_N = new_N + 2 * MOST_ROUNDING["float32"]
    assert judge(weigh(far_N, new_N, new_N), "float32") is Verdict.OTHER


def test_a_score_that_is_no_number_is_never_right() -> None:
    new_N, old_N, _ = drawn(0, 0.1, "float32")
    served_N = new_N.copy()
    served_N[3] = float("nan")
    assert judge(weigh(served_N, new_N, old_N), "float32") is Verdict.OTHER
    assert judge(weigh(served_N, new_N, None), "float32") is Verdict.OTHER


def test_power_is_known_before_anything_is_served() -> None:
    new_N, old_N, _ = drawn(0, 0.1, "bfloat16")
    change = change_between(new_N, old_N, "bfloat16")
    assert change.num_tokens == NUM_TOKENS
    assert change.rms == pytest.approx(0.1)
    least = np.sort(np.abs(new_N - old_N))[: int(0.95 * NUM_TOKENS)]
    assert change.bulk == pytest.approx(np.sqrt(np.mean(least**2)))
    assert change.bulk < change.rms
    assert change.expected_standard_error == pytest.approx(0.06 / (change.bulk * NUM_TOKENS**0.5))
    assert change.has_power


def test_tokens_that_are_off_by_nats_give_no_power() -> None:
    new_N, old_N, _ = drawn(0, 0.002, "bfloat16")
    new_N[:4] += 5.0
    change = change_between(new_N, old_N, "bfloat16")
    assert change.rms > 0.4 and not change.has_power


def test_more_tokens_are_of_use_until_four_standard_errors_are_within_the_limit() -> None:
    # 0.06 nats of rounding over a change of 0.3: the standard error is 0.0125 with 256 tokens.
    precise = Change(num_tokens=256, rms=0.5, bulk=0.3, largest=1.0, dtype="bfloat16")
    assert precise.expected_standard_error == pytest.approx(0.0125)
    assert replace(precise, num_tokens=257).is_precise
    fewer = replace(precise, num_tokens=255)
    assert fewer.has_power and not fewer.is_precise
    assert not replace(precise, largest=0.0).is_precise
