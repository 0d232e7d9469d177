import dataclasses

import numpy as np
import pytest
from simulated_panel import SHARES, critics, joined, pool, samples, view

from ouroloop.monitors.base import Critics, Pool, RoundView
from ouroloop.monitors.metrics.apart import Apart
from ouroloop.monitors.metrics.calibration import CriticCalibration, ModelCalibration, auroc
from ouroloop.monitors.metrics.coverage import Coverage
from ouroloop.monitors.metrics.diversity import Diversity
from ouroloop.monitors.metrics.entropy import TraceEntropy
from ouroloop.monitors.metrics.generalization import Generalization
from ouroloop.monitors.metrics.length import Length
from ouroloop.monitors.metrics.supply import Supply
from ouroloop.monitors.metrics.validity import Validity
from ouroloop.monitors.metrics.ways import Ways
from ouroloop.monitors.registry import measure_all


def read(monitor, now, then=None):
    return {r.name: r for r in monitor.measure(now, then)}


def around(num=400, **model):
    return samples(np.random.default_rng(0), num, **model)


def test_trace_entropy_per_token_is_the_entropy_of_the_positions_visited():
    """Traces stop at random: a coin of entropy H per token, tail ends the trace.

    Sum over sum reads H; mean of means does not.
    """
    rng, p = np.random.default_rng(0), 0.2
    tokens, nll = [], []
    for _ in range(8 * 2_000):
        length = rng.geometric(p)
        tokens.append(length)
        nll.append((-(length - 1) * np.log(1 - p) - np.log(p)) / length)
    probe = dataclasses.replace(
        around(2_000),
        nll=np.array(nll),
        num_tokens=np.array(tokens, dtype=float),
    )
    readings = read(TraceEntropy(), RoundView(0, probe))
    truth = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    token, trace = readings["entropy/token"], readings["entropy/trace"]
    assert token.low < truth < token.high and token.value == pytest.approx(truth, rel=0.02)
    assert trace.value == pytest.approx(truth / p, rel=0.02)
    assert abs(np.mean(nll) - truth) > 0.1


def test_trace_entropy_away_from_temperature_1_is_undefined_and_says_why():
    reading = read(TraceEntropy(temperature=0.7), RoundView(0, around()))["entropy/token"]
    assert reading.status == "undefined" and "0.7" in reading.reason


def test_one_sample_per_problem_shows_no_second_way():
    readings = read(Ways(), RoundView(0, around(40, num_samples=1)))
    assert len(readings) == 4
    for found in readings.values():
        assert found.status == "undefined" and "one sample per problem" in found.reason
    assert read(Ways(), RoundView(0, around(40)))["ways/several@8"].status == "ok"


def test_diversity_reads_the_models_true_values():
    probe = around(spread=0.0, accuracy=0.6)
    readings = read(Diversity(), RoundView(0, probe))
    p = np.array(SHARES) / sum(SHARES)
    gini = 1 - (p**2).sum()
    for name, truth in (
        ("dcp", 0.36 * gini),
        ("gini_simpson_all", gini),
        ("gini_simpson_correct", gini),
        ("strategy_entropy_all", -(p * np.log(p)).sum()),
        ("strategy_entropy_correct", -(p * np.log(p)).sum()),
    ):
        reading = readings[f"diversity/{name}"]
        assert reading.low <= truth <= reading.high, name
        assert reading.high - reading.low < 0.15
        assert name == "dcp" or set(reading.details["families"]) == {"main"}
    assert {name for name in readings if name.startswith("diversity/dcp:")} == {
        "diversity/dcp:main",
        "diversity/dcp:main:tail",
        "diversity/dcp:main:typical",
    }


def test_answers_lie_apart_by_family_and_a_family_that_loses_its_clusters_is_undefined():
    rng = np.random.default_rng(0)
    rows = joined(
        *(samples(rng, num_problems=2, num_samples=4, family=f) for f in ("red", "helpful"))
    )
    labels = np.array([*"aabb", *"aaaa", *"abcd", *"abc", None], dtype=object)
    then = dataclasses.replace(rows, cluster=labels)
    found = {r.name: r.value for r in Apart().measure(RoundView(0, then), None)}
    assert found == {
        "clusters/apart": pytest.approx((4 / 6 + 0 + 1 + 1) / 4),
        "clusters/apart:red": pytest.approx((4 / 6 + 0) / 2),
        "clusters/apart:helpful": 1.0,
    }
    lost = np.where(rows.family == "helpful", None, labels)
    now = RoundView(1, dataclasses.replace(rows, cluster=lost))
    found = {r.name: r for r in Apart().measure(now, RoundView(0, then))}
    gone = found["clusters/apart:helpful"]
    assert gone.status == "undefined" and "no response clusters" in gone.reason


def test_collision_sees_one_answer_to_every_problem():
    probe = around(60)
    stuck = probe.answer.copy()
    stuck[np.arange(len(probe)) % 4 == 0] = "42"
    low = read(Diversity(), RoundView(0, probe))["diversity/collision"]
    high = read(Diversity(), RoundView(0, dataclasses.replace(probe, answer=stuck)))[
        "diversity/collision"
    ]
    assert low.value < 0.001 and high.value == pytest.approx(1 / 16, abs=0.002)


def test_families_without_strategies_are_left_out_of_diversity():
    rng = np.random.default_rng(0)
    main, copy = samples(rng, 50), samples(rng, 50, family="copy", strategies=None)
    alone = read(Diversity(), RoundView(0, main))["diversity/dcp"]
    assert read(Diversity(), RoundView(0, joined(main, copy)))["diversity/dcp"].value == alone.value


def test_coverage_counts_a_lost_strategy_and_gives_shares_and_accuracy():
    now = around(shares=(0.6, 0.3, 0.1, 0.0))
    readings = read(Coverage(), RoundView(1, now), RoundView(0, around()))
    kept, alive = readings["coverage/kept@8"], readings["coverage/alive@8"]
    assert (kept.value, alive.value) == (0.75, 3.0)
    assert kept.details["lost"] == ["jump"] and kept.high == 0.75
    shares = alive.details["shares_correct"]
    assert shares["column"]["value"] == pytest.approx(0.6, abs=0.05) and "jump" not in shares
    assert alive.details["accuracy"]["column"]["value"] == pytest.approx(0.55, abs=0.06)
    assert alive.details["families"]["main"]["shares_all"].keys() == {"column", "split", "round"}


def test_a_strategy_unseen_on_a_small_probe_set_may_still_be_alive():
    then = around(12, shares=(0.5, 0.3, 0.15, 0.05))
    now = dataclasses.replace(
        then,
        strategy=np.where(then.strategy == "jump", "column", then.strategy),
    )
    kept = read(Coverage(), RoundView(1, now), RoundView(0, then))["coverage/kept@8"]
    assert kept.value == 0.75 and kept.high == 1.0


def test_coverage_of_round_0_is_its_own_reference():
    readings = read(Coverage(), RoundView(0, around()))
    assert readings["coverage/kept@8"].value == 1.0
    assert readings["coverage/rare_retention"].reason == "round 0 is the reference"


def test_rare_retention_falls_with_the_rare_strategy():
    now = RoundView(1, around(shares=(0.6, 0.3, 0.1, 0.0)))
    reading = read(Coverage(), now, RoundView(0, around()))["coverage/rare_retention"]
    assert reading.high < 1 and "jump" in reading.details["rare"]["main"]


def test_model_calibration_falls_when_wrong_answers_become_unanimous():
    rng = np.random.default_rng(0)
    scattered, unanimous = (
        samples(rng, 200, confusion=20),
        samples(rng, 200, accuracy=0.1, spread=0.05, confusion=1),
    )
    low, high = (read(ModelCalibration(), RoundView(0, p)) for p in (scattered, unanimous))
    assert low["calibration/overconfidence@8"].high < 0 < high["calibration/overconfidence@8"].low
    assert high["calibration/overconfidence@8"].value == pytest.approx(0.85, abs=0.06)
    assert high["calibration/brier@8"].value > low["calibration/brier@8"].value
    bins = high["calibration/overconfidence@8"].details["bins"]
    assert sum(b["count"] for b in bins) == pytest.approx(200)


@pytest.mark.slow
def test_the_ece_of_votes_is_about_zero_when_calibrated_and_finds_over_confidence():
    """Right with the probability of the drawn answer's share.

    A vote is right as often as its true share says.
    """
    rng, values, held = np.random.default_rng(0), [], 0
    for _ in range(40):
        probe = around(120, num_samples=16, spread=0.0)
        q_P = rng.uniform(
            0.55,
            1.0,
            120,
        )  # the favourite's share, and the chance that it is the right one
        favourite = rng.random(120) < q_P
        drawn = rng.random(len(probe)) < np.repeat(q_P, 16)
        probe = dataclasses.replace(
            probe,
            answer=np.where(drawn, "yes", "no").astype(object),
            correct=(drawn == np.repeat(favourite, 16)).astype(float),
        )
        reading = read(ModelCalibration(), RoundView(0, probe))["calibration/ece@8"]
        values.append(np.sign(reading.value) * reading.value**2)
        held += reading.low <= 0 <= reading.high
    assert abs(np.mean(values)) < 3 * np.std(values) / np.sqrt(40) and held >= 36
    unanimous = samples(rng, 200, accuracy=0.1, spread=0.05, confusion=1)
    found = read(ModelCalibration(), RoundView(0, unanimous))
    assert found["calibration/ece@8"].value > 0.7 and found["calibration/ece@8"].low > 0.5
    brier = (
        found["calibration/reliability@8"].value
        - found["calibration/resolution@8"].value
        + found["calibration/uncertainty@8"].value
    )
    assert brier == pytest.approx(
        found["calibration/brier@8"].value,
        abs=0.05,
    )  # what varies within a bin is in no part


def test_critic_readings_equal_hand_counts():
    critic = Critics(
        np.array(["a", "a", "b", "b", "c", "c"], dtype=object),
        np.array([1, 0, 1, 1, np.nan, 0.0]),
        np.array([0.9, 0.2, 0.8, 0.7, np.nan, 0.1]),
        np.array([1, 0, 1, 0, 0, 1.0]),
        np.array([1, 0.5, 1, 0.25, 0.25, 0.75]),
    )
    readings = read(CriticCalibration(), RoundView(0, around(4), critics=critic))
    assert readings["critic/balanced_accuracy:all:all:critiques"].value == pytest.approx(
        (2 / 3 + 1 / 2) / 2
    )
    assert readings["critic/balanced_accuracy:all:all:critiques"].details["strict"][
        "value"
    ] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert readings["critic/unreadable:all:all:critiques"].value == pytest.approx(1 / 6)
    gaps = [[-0.1, 0.2], [-0.2, 0.7], [-0.9]]
    assert readings["critic/overconfidence:all:all:critiques"].value == pytest.approx(
        np.mean([np.mean(g) for g in gaps])
    )
    assert readings["critic/agreement_gap:all:all:critiques"].value == pytest.approx(
        np.mean([0.25, 0.125, 0.0])
    )


def test_auroc_is_the_share_of_pairs_in_the_right_order():
    rng = np.random.default_rng(0)
    score, right = rng.integers(0, 5, 60).astype(float), rng.integers(0, 2, 60).astype(float)
    pairs = [(a > b) + 0.5 * (a == b) for a in score[right == 1] for b in score[right == 0]]
    assert auroc(score, right) == pytest.approx(np.mean(pairs))
    assert np.isnan(auroc(score, np.ones(60)))


def test_a_critic_that_approves_everything_is_at_chance_and_over_confident():
    known = critics(np.random.default_rng(0))
    yes = dataclasses.replace(
        known,
        approved=np.ones(len(known.correct)),
        probability=np.full(len(known.correct), 0.95),
    )
    readings = read(CriticCalibration(), RoundView(0, around(4), critics=yes))
    assert readings["critic/balanced_accuracy:all:all:critiques"].value == 0.5
    assert readings["critic/overconfidence:all:all:critiques"].low > 0.2


def test_supply_says_plainly_that_nothing_passes():
    raw = pool(np.random.default_rng(0), 300, 4)
    reason = np.where(np.arange(1_200) < 1_180, "gold", "format").astype(object)
    dead = Pool(
        raw.problem,
        raw.strategy,
        raw.answer,
        raw.correct,
        np.zeros(1_200, dtype=bool),
        reason,
    )
    readings = read(Supply(), RoundView(1, around(4), pool=dead))
    reading = readings["supply/yield:all:all:pool"]
    assert reading.value == 0.0 and reading.status == "ok"
    assert (
        reading.reason == "nothing passes: 0 of 1,200 samples kept; reasons: gold 1,180, format 20"
    )
    assert reading.high == pytest.approx(1 - 0.025 ** (1 / 300))
    assert readings["supply/unsolved:all:all:pool"].value == 1.0


def test_supply_counts():
    raw = pool(np.random.default_rng(0))
    readings = read(Supply(), RoundView(1, around(4), pool=raw))
    assert readings["supply/yield:all:all:pool"].value == pytest.approx(raw.kept.mean())
    assert readings["supply/kept_per_problem:all:all:pool"].value == pytest.approx(
        4 * raw.kept.mean()
    )
    assert (
        sum(readings["supply/yield:all:all:pool"].details["rejections"].values())
        == (~raw.kept).sum()
    )
    assert "round 0" in read(Supply(), RoundView(0, around(4)))["supply/yield:all:all:pool"].reason


def test_samples_that_no_server_answered_have_a_share_of_their_own_and_count_in_nothing_else():
    raw = pool(np.random.default_rng(0))

    def measured(dropped):
        return read(Supply(), RoundView(1, around(4), pool=raw, dropped=dropped))

    before, after = measured(None), measured(raw.problem[[0, 0, 5]])
    found = after["supply/dropped:all:all:pool"]
    assert found.value == 3 / (len(raw.kept) + 3) and found.low < found.value < found.high
    assert found.details == {"dropped": 3, "asked": len(raw.kept) + 3}
    assert after["supply/yield:all:all:pool"] == before["supply/yield:all:all:pool"]
    assert "not known" in before["supply/dropped:all:all:pool"].reason
    assert measured(np.array([], dtype=object))["supply/dropped:all:all:pool"].value == 0


def test_validity_looks_at_right_answers_only_and_ignores_what_could_not_be_checked():
    probe = around(4, num_samples=2)
    probe = dataclasses.replace(
        probe,
        correct=np.array([1, 1, 1, 1, 0, 0, 0, 0.0]),
        valid=np.array([0, 1, np.nan, 1, 0, 0, 0, 1.0]),
        truncated=np.array([0, 0, 0, 0, 0, 0, 1, np.nan]),
    )
    readings = read(Validity(), RoundView(0, probe))
    assert readings["validity/right_wrong_step"].value == pytest.approx(1 / 3)
    assert readings["validity/wrong_step"].value == pytest.approx(4 / 7)
    assert readings["validity/truncated"].value == pytest.approx(1 / 7)


def test_generalization_gives_every_family_with_its_paired_change():
    rng = np.random.default_rng(0)
    then, now = view(rng, 0), view(rng, 1, accuracy=0.8)
    readings = read(Generalization(k=4), now, then)
    assert set(readings) == {
        "accuracy/pass@1:others",
        *(
            f"accuracy/{kind}"
            for f in ("main", "copy")
            for kind in (f"pass@1:{f}", f"pass@4:{f}", f"maj@8:{f}", f"pass@1:{f}:all:greedy")
        ),
        *(
            f"accuracy/{kind}:{f}:{s}"
            for kind in ("pass@1", "pass@4")
            for f in ("main", "copy")
            for s in ("typical", "tail")
        ),
    }
    main = readings["accuracy/pass@1:main"]
    assert main.details["change"]["low"] > 0.1
    unchanged = readings["accuracy/pass@1:copy"].details["change"]
    assert unchanged["low"] < 0 < unchanged["high"]
    assert readings["accuracy/pass@4:main"].value > main.value
    assert read(Generalization(k=9), now, then)["accuracy/pass@9:main"].status == "undefined"
    once = read(Generalization(k=1), now, then)
    assert once["accuracy/pass@1:main"] == main and "accuracy/pass@4:main" not in once


def test_length_splits_right_from_wrong():
    probe = around(100)
    probe = dataclasses.replace(probe, num_tokens=np.where(probe.correct == 1, 10.0, 30.0))
    reading = read(Length(), RoundView(0, probe))["length/tokens"]
    assert reading.details["right"]["value"] == 10.0 and reading.details["wrong"]["value"] == 30.0
    assert reading.low < 10 * 0.55 + 30 * 0.45 < reading.high


@pytest.mark.slow
def test_intervals_cover_an_unchanged_model_in_most_repetitions():
    """Fresh problems each time: the interval is for the population of problems."""
    truth = {"accuracy/pass@1:main": 0.55, "coverage/alive@8": 4.0}
    gini = 1 - float((np.array(SHARES) ** 2).sum())
    truth["diversity/gini_simpson_all"] = gini
    truth["diversity/dcp"] = gini * (0.55**2 + 0.2**2 / 3)
    hits = dict.fromkeys(truth, 0)
    chosen = {"accuracy": Generalization(), "coverage": Coverage(), "diversity": Diversity()}
    for seed in range(200):
        probe = samples(np.random.default_rng(seed), 24, problem_seed=seed)
        for reading in measure_all(RoundView(0, probe), None, chosen):
            if reading.name in truth:
                hits[reading.name] += reading.low <= truth[reading.name] <= reading.high
    assert all(count >= 182 for count in hits.values()), hits


def test_general_ability_pools_the_other_families_and_compares_them_with_round_0():
    rng = np.random.default_rng(0)
    then = RoundView(
        0,
        joined(
            samples(rng, 80),
            *(samples(rng, 20, family=f, problem_seed=3) for f in ("copy", "sort")),
        ),
    )
    weaker = RoundView(
        1,
        joined(
            samples(rng, 80),
            *(samples(rng, 20, family=f, problem_seed=3, accuracy=0.2) for f in ("copy", "sort")),
        ),
    )
    general = read(Generalization(), weaker, then)["accuracy/pass@1:others"]
    others = weaker.probe.where(weaker.probe.family != "main")
    assert general.value == pytest.approx(others.correct.mean()) and general.num_clusters == 40
    assert general.details["main"] == "main" and set(general.details["families"]) == {
        "copy",
        "sort",
    }
    assert general.details["change"]["high"] < -0.1
    assert (
        read(Generalization(main_family="copy"), weaker, then)[
            "accuracy/pass@1:others"
        ].num_clusters
        == 100
    )
    assert (
        read(Generalization(), RoundView(0, samples(rng, 20)))["accuracy/pass@1:others"].status
        == "undefined"
    )


def test_slices_have_readings_of_their_own():
    probe = around(200)
    readings = read(Generalization(), RoundView(0, probe))
    tail = probe.where(probe.slice == "tail")
    assert readings["accuracy/pass@1:main:tail"].value == pytest.approx(tail.correct.mean())
    right = tail.correct.reshape(-1, 8).sum(axis=1)
    naive = 1 - np.array(
        [np.prod([(8 - c - j) / (8 - j) for j in range(4)]) if c <= 4 else 0.0 for c in right]
    )
    assert readings["accuracy/pass@4:main:tail"].value == pytest.approx(naive.mean())
    one_slice = around(20, tail=0.0)
    assert "accuracy/pass@1:main:typical" not in read(Generalization(), RoundView(0, one_slice))
