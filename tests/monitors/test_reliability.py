import json
from pathlib import Path

import numpy as np
import pytest

from ouroloop.monitors.estimators import reliability as r


def brute_smooth_ece(confidence, correct, num=401):
    """The definition on a grid: kernel sums with mirror images, and bisection for the bandwidth."""
    t = np.linspace(0, 1, num)

    def error(sigma):
        mirrored = [
            sign * confidence[None] + shift for sign in (1, -1) for shift in (-4, -2, 0, 2, 4)
        ]
        offsets = [(t[:, None] - image) / sigma for image in mirrored]
        kernel = sum(np.exp(-(z**2) / 2) for z in offsets) / (sigma * np.sqrt(2 * np.pi))
        return np.trapezoid(np.abs(kernel @ (correct - confidence)) / len(confidence), t)

    low, high = 1e-3, 1.0
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (middle, high) if error(middle) > middle else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("shift", [0.0, 0.1, -0.3])
def test_smooth_ece_equals_its_definition(shift):
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0, 1, 120)
    correct = (rng.random(120) < np.clip(confidence + shift, 0, 1)).astype(float)
    assert r.smooth_ece(confidence, correct) == pytest.approx(
        brute_smooth_ece(confidence, correct),
        abs=2e-3,
    )


def test_smooth_ece_is_one_for_a_liar_zero_for_an_oracle_and_undefined_without_rows():
    assert r.smooth_ece(np.ones(20), np.zeros(20)) == pytest.approx(1, abs=1e-3)
    assert r.smooth_ece(np.array([0.0, 1.0] * 9), np.array([0.0, 1.0] * 9)) == pytest.approx(
        0,
        abs=1e-3,
    )
    assert np.isnan(r.smooth_ece(np.array([]), np.array([])))


@pytest.mark.slow
def test_debiased_error_is_unbiased_in_its_square_where_the_plain_one_is_not():
    rng = np.random.default_rng(1)
    signed, plain = [], []
    for _ in range(800):
        confidence = rng.uniform(0, 1, 200)
        correct = (rng.random(200) < confidence).astype(float)
        value = r.debiased_ece(confidence, correct)
        signed.append(np.sign(value) * value**2)
        bins = np.digitize(confidence, np.quantile(confidence, np.linspace(0, 1, 16)[1:-1]))
        plain.append(
            sum(
                (confidence - correct)[bins == b].mean() ** 2 * (bins == b).mean()
                for b in range(15)
            )
        )
    assert abs(np.mean(signed)) < 3 * np.std(signed) / np.sqrt(800)
    assert np.mean(plain) > 10 * abs(np.mean(signed))


def test_debiased_error_finds_a_constant_gap():
    rng = np.random.default_rng(2)
    confidence = rng.uniform(0.3, 0.9, 20_000)
    correct = (rng.random(20_000) < confidence - 0.2).astype(float)
    assert r.debiased_ece(confidence, correct) == pytest.approx(0.2, abs=0.01)
    assert np.isnan(r.debiased_ece(np.array([0.5]), np.array([1.0])))


def test_brier_of_vote_shares_is_unbiased_after_the_noise_is_taken_off():
    rng = np.random.default_rng(3)
    share, correct = rng.uniform(0, 1, 40_000), (rng.random(40_000) < 0.5).astype(float)
    observed = rng.binomial(4, share) / 4
    ours = r.brier(observed, correct, np.full(40_000, 4.0))
    gap = ours - (share - correct) ** 2
    assert abs(gap.mean()) < 3 * gap.std() / 200
    assert ((observed - correct) ** 2 - (share - correct) ** 2).mean() > 0.03
    assert np.isnan(r.brier(np.array([1.0]), np.array([1.0]), np.array([1.0]))[0])


def test_reliability_bins_hold_every_row_once_and_leave_empty_ones_out():
    confidence, correct = np.array([0.0, 0.05, 0.95, 1.0, 1.0]), np.array([0.0, 1.0, 1.0, 1.0, 0.0])
    bins = r.reliability_bins(confidence, correct)
    assert [b["count"] for b in bins] == [2, 3]
    assert bins[1]["accuracy"] == pytest.approx(2 / 3) and bins[1]["confidence"] == pytest.approx(
        2.95 / 3
    )
    assert all(b["accuracy_low"] <= b["accuracy"] <= b["accuracy_high"] for b in bins)


REFERENCE = json.loads((Path(__file__).parent / "relplot_smooth_ece.json").read_text())


@pytest.mark.parametrize("row", REFERENCE["rows"], ids=lambda row: f"seed {row['seed']}")
def test_smooth_ece_is_relplots(row):
    rng = np.random.default_rng(row["seed"])
    confidence = np.round(rng.uniform(0, 1, row["num"]), 6)
    correct = (rng.random(row["num"]) < np.clip(confidence + row["shift"], 0, 1)).astype(float)
    assert r.smooth_ece(confidence, correct) == pytest.approx(row["smooth_ece"], abs=1e-3)


def parts(confidence, correct, num_bins=15):
    return r.decompose(
        r.binned_sums(confidence, correct, r.mass_bins(confidence, num_bins), (num_bins,))
    )


def test_the_three_parts_add_up_to_the_brier_score_where_a_bin_holds_one_confidence():
    rng = np.random.default_rng(5)
    confidence = rng.integers(0, 5, 300) / 4
    correct = (rng.random(300) < 0.3 + 0.4 * confidence).astype(float)
    ours = parts(confidence, correct)
    assert ours.reliability - ours.resolution + ours.uncertainty == pytest.approx(
        np.mean((confidence - correct) ** 2)
    )


@pytest.mark.slow
def test_the_three_parts_are_unbiased_where_the_plug_in_is_not():
    """Four confidences with known truth, ten rows each: the expectation of each part is known."""
    rng = np.random.default_rng(6)
    claimed, truth = np.array([0.1, 0.4, 0.6, 0.9]), np.array([0.2, 0.3, 0.6, 0.7])
    mean = truth.mean()
    expected = np.mean((claimed - truth) ** 2), np.mean((truth - mean) ** 2), mean * (1 - mean)
    confidence, chance = np.repeat(claimed, 10), np.repeat(truth, 10)
    draws = [(rng.random(40) < chance).astype(float) for _ in range(4_000)]
    ours = np.array([parts(confidence, d) for d in draws])
    assert (np.abs(ours.mean(axis=0) - expected) < 3 * ours.std(axis=0) / np.sqrt(4_000)).all()
    plug_in = np.array(
        [
            [
                np.mean((claimed - d.reshape(4, 10).mean(axis=1)) ** 2),
                d.reshape(4, 10).mean(axis=1).var(),
            ]
            for d in draws
        ]
    )
    assert (plug_in.mean(axis=0) - expected[:2] > 0.01).all()


def test_what_is_left_without_some_rows_is_the_decomposition_of_the_rest():
    rng = np.random.default_rng(7)
    confidence, correct = rng.integers(0, 4, 60) / 3, rng.integers(0, 2, 60).astype(float)
    bins, group = r.mass_bins(confidence), np.arange(60) % 3
    sums = r.binned_sums(confidence, correct, group * 15 + bins, (3, 15))
    total = r.Sums(*(part.sum(axis=0) for part in sums))
    without = r.decompose(total.less(sums))
    for g in range(3):
        rest = group != g
        alone = r.decompose(r.binned_sums(confidence[rest], correct[rest], bins[rest], (15,)))
        assert [float(part[g]) for part in without] == pytest.approx(
            [float(part) for part in alone]
        )
