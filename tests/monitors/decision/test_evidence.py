"""The e-processes: their promise by enumeration and simulation, their parts computed otherwise."""

import itertools
import math

import numpy as np
import pytest
from simulated_panel import samples

from ouroloop.monitors.bench.bench import Watcher
from ouroloop.monitors.decision import baseline_error, blocks, evidence, stakes, tiers
from ouroloop.monitors.decision.baseline_error import BaselineScores
from ouroloop.monitors.decision.records import plain
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.stakes import Stream
from ouroloop.monitors.decision.tables import Pair, Table, Tables, pair
from ouroloop.monitors.estimators import scores
from ouroloop.monitors.names import Tier

EXACT_C = np.zeros(1)
"""One cell: a baseline without an error."""
FREE_C = np.zeros(1)


def weigh(*arguments):
    """The evidence where there is one cell only, which costs nothing."""
    return evidence.weigh(*arguments, log_pay_C=FREE_C)


def expectation(stream_of, mean_P, num_blocks, factors):
    """E[exp(factors)] over all outcomes of independent 0-1 blocks with these means, exactly."""
    total = 0.0
    for outcome in itertools.product((0.0, 1.0), repeat=len(mean_P) * num_blocks):
        block_PRM = np.array(outcome).reshape(len(mean_P), 1, num_blocks)
        p = np.prod(
            [m if y else 1 - m for m, row in zip(mean_P, block_PRM[:, 0], strict=True) for y in row]
        )
        total = total + p * np.exp(factors(stream_of(block_PRM)))
    return total


@pytest.mark.parametrize(
    "mean_P",
    [(0.5, 0.5, 0.5), (0.9, 0.55, 0.05), (1.0, 0.5, 0.0), (0.2, 0.9, 0.4)],
)
def test_no_bet_can_be_expected_to_win_at_the_boundary_whatever_the_problems_are(mean_P):
    baseline_P = np.array((0.55, 0.6, 0.5))
    delta = float(baseline_P.mean() - np.mean(mean_P))
    lost = expectation(
        lambda y: Stream(baseline_P, y, 0.0, delta),
        mean_P,
        3,
        lambda s: stakes.loss_factors(s, 1.0, EXACT_C),
    )
    back = expectation(
        lambda y: Stream(baseline_P, y, 0.0, delta),
        mean_P,
        3,
        lambda s: stakes.recovery_factors(s, 1.0, EXACT_C),
    )
    assert (lost <= 1 + 1e-12).all() and (back <= 1 + 1e-12).all()
    assert lost.max() > 0.9  # no more is given away than the problems' being unlike costs


@pytest.mark.parametrize("mean_P", [(0.1, 0.9), (0.9, 0.1), (0.5, 0.5)])
def test_a_problem_with_more_samples_than_another_weighs_no_more(mean_P):
    """Four blocks of one problem, one of the other.

    All of the loss may lie where the blocks are. Exactly on the boundary.
    """
    baseline_P, total = np.array((0.6, 0.5)), 0.0
    delta = float(baseline_P.mean() - np.mean(mean_P))
    for outcome in itertools.product((0.0, 1.0), repeat=5):
        block_PRM = np.full((2, 1, 4), np.nan)
        block_PRM[0, 0], block_PRM[1, 0, 0] = outcome[:4], outcome[4]
        means = (mean_P[0],) * 4 + (mean_P[1],)
        p = np.prod([m if y else 1 - m for m, y in zip(means, outcome, strict=True)])
        total = total + p * np.exp(
            stakes.loss_factors(Stream(baseline_P, block_PRM, 0.0, delta), 1.0, EXACT_C)
        )
    assert (total <= 1 + 1e-12).all() and total.max() > 0.85


def test_scores_of_0_and_1_are_counted_to_the_same_evidence():
    rng = np.random.default_rng(5)
    block_PRM = np.where(
        rng.random((20, 3, 6)) < 0.2,
        np.nan,
        (rng.random((20, 3, 6)) < 0.5).astype(float),
    )
    nearly_PRM = np.where(block_PRM == 1, 1 - 1e-12, block_PRM)
    both = [
        stakes.loss_factors(Stream(np.full(20, 0.6), y, 0.01, 0.02), 1.0)
        for y in (block_PRM, nearly_PRM)
    ]
    assert both[0] == pytest.approx(both[1], abs=1e-8) and np.isfinite(both[0]).all()


@pytest.mark.parametrize("num_blocks", [1, 3])
def test_scores_between_0_and_1_are_bet_on_as_it_is_written(num_blocks):
    rng = np.random.default_rng(0)
    baseline_P, block_PRM = rng.random(6), rng.choice([0, 0.25, 0.6, 1], (6, 4, num_blocks))
    stream = Stream(baseline_P, block_PRM, 0.02, 0.01)
    tolerated_C = stream.tolerated(1.0, stakes.Z_C)
    largest_C = stakes.LARGEST_BET / (1 + tolerated_C)
    for c, b in itertools.product(range(len(stakes.Z_C)), range(len(stakes.BETS_B))):
        bet = min(stakes.BETS_B[b] / stream.scale, largest_C[c])
        factor_PRM = 1 + bet * (baseline_P[:, None, None] - tolerated_C[c] - block_PRM)
        written = np.log(factor_PRM.prod(axis=2).mean(axis=1)).sum()
        assert stakes.loss_factors(stream, 1.0)[c, b] == pytest.approx(written, abs=1e-12)


@pytest.mark.slow
def test_averaging_over_ways_to_cut_keeps_the_expectation_at_most_one():
    """Four samples of two problems.

    Pairs that are both right by different ones of two strategies: all 3^8 outcomes.
    """
    baseline_P, total = np.array([0.3, 0.2]), 0.0
    p_PT = np.array([[0.4, 0.3, 0.3], [0.2, 0.5, 0.3]])  # strategy 0, strategy 1, wrong
    delta = float(baseline_P.mean() - np.mean([2 * p[0] * p[1] for p in p_PT]))
    for outcome in itertools.product(range(3), repeat=8):
        kind_PK = np.array(outcome).reshape(2, 4)
        table = Table(
            ("a", "b"),
            np.ones((2, 4), bool),
            kind_PK < 2,
            np.where(kind_PK < 2, kind_PK, -1),
            np.zeros((2, 4), np.int64),
        )
        block_PRM = blocks.block_scores(table, 2, blocks.distinct_right)
        assert block_PRM.shape == (2, 3, 2)
        probability = np.prod([p_PT[p, k] for p in range(2) for k in kind_PK[p]])
        total = total + probability * np.exp(
            stakes.loss_factors(Stream(baseline_P, block_PRM, 0.0, delta), 1.0, EXACT_C)
        )
    assert (total <= 1 + 1e-12).all() and total.max() > 0.85


def test_the_weight_is_the_mixture_over_starts_and_bets_as_it_is_written():
    rng = np.random.default_rng(0)
    rounds = [
        {"a": rng.normal(0, 1, 5).tolist(), "b": rng.normal(0.5, 1, 5).tolist()} for _ in range(4)
    ]
    weight = weigh(rounds, 7)
    for name in "ab":
        starts = [
            np.mean([math.exp(sum(rounds[u][name][b] for u in range(j, 4))) for b in range(5)])
            for j in range(4)
        ]
        assert math.exp(weight.by_stream[name]) == pytest.approx((sum(starts) + 3) / 7)
    assert math.exp(weight.log_e) == pytest.approx(
        np.mean([math.exp(v) for v in weight.by_stream.values()])
    )
    assert weight.driver in "ab" and 0 <= weight.since < 4
    ahead = weigh(rounds, 7, 2, {"a": 0.3, "gone": 0.9})
    assert math.exp(ahead.log_e) == pytest.approx(
        0.3 * math.exp(weight.by_stream["a"]) + 0.7 * math.exp(weight.by_stream["b"])
    )


def test_shares_of_the_evidence_are_at_most_one_in_all():
    assert evidence.shares(["a", "b", "c"], 0, {"a": 0.3}) == pytest.approx(
        {"a": 0.3, "b": 0.35, "c": 0.35}
    )
    assert evidence.shares(["a"], 0, {"a": 0.3}) == {"a": 1.0}
    assert evidence.shares(["a", "b"], 8, {"a": 0.3}) == pytest.approx({"a": 0.3, "b": 0.1})


def test_rounds_beyond_the_plan_go_on_from_the_beginnings_that_were_planned():
    rng = np.random.default_rng(0)
    rounds = [{"a": rng.normal(0, 1, 5).tolist()} for _ in range(9)]
    starts = [
        np.mean([math.exp(sum(r["a"][b] for r in rounds[j:])) for b in range(5)]) for j in range(3)
    ]
    assert math.exp(weigh(rounds, 3).log_e) == pytest.approx(np.mean(starts))
    assert weigh(rounds, 3).since < 3


def test_a_bet_that_never_gains_by_expectation_does_not_gain_by_going_on_longer_than_planned():
    """Fair coins, one bet, all 2^8 runs of eight rounds with two planned.

    Stopping at the highest evidence of a limit still averages at most 1.
    """
    total = 0.0
    for outcome in itertools.product((math.log(1.5), math.log(0.5)), repeat=8):
        rounds = [{"a": [x]} for x in outcome]
        path = [math.exp(weigh(rounds[: t + 1], 2).log_e) for t in range(8)]
        total += next((e for e in path if e >= 1.4), path[-1]) / 2**8
    assert total <= 1 + 1e-12


def test_fresh_starts_spend_no_more_than_alpha_in_all():
    assert sum(evidence.spent(0.05, n) for n in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)


def test_every_pair_of_samples_is_bet_on_exactly_once():
    cut = blocks.cuts(8, 2)
    assert cut.shape == (7, 4, 2)
    assert sorted(tuple(sorted(pair)) for pair in cut.reshape(-1, 2).tolist()) == list(
        itertools.combinations(range(8), 2)
    )
    for size, num in ((3, 8), (8, 8), (4, 16), (2, 7)):
        for row in blocks.cuts(num, size):
            assert len(set(row.ravel().tolist())) == row.size == num // size * size


def two_rounds(num_samples=8, num_problems=30):
    return samples(np.random.default_rng(3), num_problems, num_samples), samples(
        np.random.default_rng(4),
        num_problems,
        num_samples,
    )


def means(table, size, score):
    return dict(
        zip(
            table.problems,
            np.nanmean(blocks.block_scores(table, size, score), axis=(1, 2)).tolist(),
            strict=True,
        )
    )


def test_block_means_are_the_estimators_of_the_monitors():
    first, _ = two_rounds()
    table, _ = pair(first, first)
    assert means(table, 1, blocks.right) == pytest.approx(scores.accuracy(first))
    assert means(table, 2, blocks.distinct_right) == pytest.approx(
        scores.distinct_correct_pairs(first)
    )
    close = scores.pass_at(first, 4)
    assert all(abs(value - close[p]) < 0.35 for p, value in means(table, 4, blocks.right).items())
    assert np.mean(list(means(table, 4, blocks.right).values())) == pytest.approx(
        np.mean(list(close.values())),
        abs=0.03,
    )


def test_calibration_is_confidence_against_truth_of_a_hand_made_block():
    def one(right, answer):
        table = Table(
            ("a",),
            np.ones((1, 4), bool),
            np.array([right], bool),
            np.full((1, 4), -1),
            np.array([answer]),
        )
        return blocks.calibration(table, np.arange(4).reshape(1, 1, 4)).item()

    assert (
        one([1, 1, 1, 0], [5, 5, 5, 6]) == (1 - (0.5 - 1)) / 2
    )  # the vote is right, the other half agrees by half: under-confident
    assert one([0, 0, 0, 0], [5, 5, 5, 5]) == 0.0  # wrong and sure of it
    assert one([0, 1, 1, 1], [-1, 7, 7, 7]) == 0.5  # an unreadable answer does not vote
    assert one([0, 0, 1, 1], [-1, -1, 7, 7]) == 0.5  # nobody votes: nothing is claimed


def test_problems_with_unequal_numbers_of_samples_are_each_cut_by_their_own():
    """Of 8 samples beside a problem of 16, a block of eight is all of them, in every cut."""
    num_P = np.array([16, 8, 8, 7])
    there_PK = np.arange(16) < num_P[:, None]
    rng = np.random.default_rng(0)
    none_PK = np.full(there_PK.shape, -1)
    rows = Table(tuple("abcd"), there_PK, rng.random(there_PK.shape) < 0.2, none_PK, none_PK)
    block_PRM = blocks.block_scores(rows, 8, blocks.right)
    known_PRM = np.isfinite(block_PRM)
    assert known_PRM.sum(axis=2).tolist() == [[2] * 16, [1] * 16, [1] * 16, [0] * 16]
    expected_P = (rows.right_PK & there_PK).any(axis=1)[1:3]
    assert (block_PRM[1:3, :, 0] == expected_P[:, None]).all()
    # Every pair of six samples once, as if they stood alone.
    pairs = blocks.block_scores(rows.rows(np.array([0, 1])), 2, blocks.right)[1]
    alone = blocks.block_scores(rows.rows(np.array([1])).columns(slice(0, 8)), 2, blocks.right)[0]
    assert np.isfinite(pairs).sum() == 28 and np.nansum(pairs) == alone.sum()


def test_a_problem_with_fewer_samples_is_padded_and_not_counted_as_wrong():
    first, _ = two_rounds()
    drop = np.flatnonzero(first.problem == "main-0003")[:5]
    fewer = first.where(~np.isin(np.arange(len(first)), drop))
    table, _ = pair(fewer, fewer)
    assert means(table, 1, blocks.right) == pytest.approx(scores.accuracy(fewer))
    assert np.isnan(blocks.block_scores(table, 4, blocks.right)[3]).all()


def test_the_wrong_answer_that_grew_is_found_on_one_half_and_right_answers_are_no_shortcut():
    first, second = two_rounds(16)
    stuck = second.problem.astype(str) < "main-0009"
    fields = {n: getattr(second, n) for n in second.__dataclass_fields__}
    for right, found in ((0.0, True), (1.0, False)):
        correct = np.where(stuck, right, second.correct)
        changed = type(second)(
            **{**fields, "answer": np.where(stuck, "42", second.answer), "correct": correct}
        )
        baseline, now = pair(first, changed)
        code = blocks.most_grown_answer(Pair(baseline, now.columns(slice(0, 8))))
        assert (now.labels[code] == "42") is found
        share = 1 - np.nanmean(
            blocks.block_scores(
                now.columns(slice(8, None)),
                1,
                blocks.not_wrongly(now.labels.index("42")),
            )
        )
        assert share == pytest.approx(9 / 30 if found else 0.0)


def test_rare_strategies_are_those_seen_seldom_and_right():
    first, _ = two_rounds(40)
    baseline, _ = pair(first, first)
    rare = blocks.rare_strategies(baseline, np.zeros(30, np.int64), 4)
    share = np.array(
        [
            [(baseline.right_PK[p] & (baseline.strategy_PK[p] == t)).mean() for t in range(4)]
            for p in range(30)
        ]
    )
    assert (rare == ((share > 0) & (share <= 0.1))).all()


def boundary_run(
    rng,
    num_streams,
    correlated,
    num_problems=40,
    num_samples=8,
    num_rounds=20,
    alpha=0.05,
):
    """Whether a run alarms in which every stream sits exactly on its tolerance.

    The baseline is a sample itself.
    """
    truth_SP = np.clip(rng.beta(2, 2, (num_streams, num_problems)), 0.02, 0.98)
    if correlated:
        truth_SP[:] = truth_SP[0]
    delta = 0.02
    baseline_SPK = rng.random((num_streams, num_problems, 4 * num_samples)) < truth_SP[:, :, None]
    baseline_SPK = baseline_SPK[:1].repeat(num_streams, axis=0) if correlated else baseline_SPK
    rounds, level_P = [], np.clip(truth_SP - delta, 0, 1)
    for _ in range(num_rounds):
        now = rng.random((num_streams, num_problems, num_samples)) < level_P[:, :, None]
        now = now[:1].repeat(num_streams, axis=0) if correlated else now
        factors = {}
        for s in range(num_streams):
            baseline_P = baseline_SPK[s].mean(axis=1)
            se = (
                math.sqrt((baseline_P * (1 - baseline_P)).sum() / (4 * num_samples - 1))
                / num_problems
            )
            stream = Stream(baseline_P, now[s][:, None, :].astype(float), se, delta)
            factors[str(s)] = tiers.flat(stakes.loss_factors(stream, 1.0))
        rounds.append(factors)
        if evidence.weigh(rounds, num_rounds).log_e >= evidence.log_limit(alpha):
            return True
    return False


def test_what_is_paid_for_the_cells_of_the_baselines_error_is_at_most_one_by_expectation():
    """Also for a score that is picked anew in every round, whose largest error of 20 counts."""
    from scipy.stats import norm

    pay_C = np.exp(stakes.LOG_PAY_C)
    # Either limit may be wrong: so often, at most, the error lies beyond an end.
    wrong = 1 + baseline_error.HOEFFDING_SHARE
    for num_picks in (1, 20):
        upper_C = np.array([baseline_error.widened(z, num_picks) for z in stakes.Z_C])
        beyond_C = np.minimum(wrong * num_picks * norm.sf(upper_C), 1.0)
        # The dearest way to spread the error over the cells: as much in the last ones as may be.
        cell_C = -np.diff(np.concatenate([[1.0], beyond_C]))
        assert (cell_C * pay_C).sum() == pytest.approx(1, abs=2e-5)
    assert (np.diff(pay_C) > 0).all(), "a larger error is paid more"
    # Beyond the last cell nothing is bet: alpha pays for it.
    assert 1700 * norm.sf(stakes.Z_C[-1]) <= stakes.BASELINE_SHARE * 0.05


@pytest.mark.parametrize(("num", "expected"), [(20, 0.9), (60, 0.98), (60, 0.5), (960, 0.999)])
def test_hoeffdings_limit_is_exceeded_as_seldom_as_it_says(num, expected):
    """By enumeration, of scores of 0 and 1: nothing about it is asymptotic."""
    from scipy.stats import binom

    ones_N = np.arange(num + 1)
    rate_C = np.array([1.0, 3.0, 6.0]) / num
    error_NC = np.array([n / num - baseline_error.hoeffding(n / num, rate_C) for n in ones_N])
    for rate, error_N in zip(rate_C, error_NC.T, strict=True):
        wrong = binom.pmf(ones_N[error_N > expected + 1e-9], num, expected).sum()
        assert wrong <= math.exp(-num * rate) + 1e-12


def test_the_nearer_of_two_limits_counts_and_usually_it_is_students():
    z_C = stakes.Z_C
    known = {"num_blocks": 3840, "df": 300.0}
    usual = baseline_error.limits(z_C, 0.006, 0.6, **known, proven=False)
    assert usual.tolist() == [baseline_error.widened(z, 1, 300.0) * 0.006 for z in z_C]
    # With the spread at the limit itself it is hardly another where there are many blocks.
    proven = baseline_error.limits(z_C, 0.006, 0.6, **known)
    assert (proven >= usual).all() and (proven <= 1.12 * usual).all()
    # One of 60 answers unlike the others: its spread is one problem's.
    few = baseline_error.limits(z_C, 1 / 30, 59 / 60, num_blocks=60, df=1.0)
    assert few[0] == 0 and (np.diff(few) > 0).all() and few[-1] < 0.35
    assert baseline_error.widened(5.0, 1, 1.0) / 30 > 1e4
    # What bounds it from below without a search does so, and is no idle bound.
    for mean in (0.02, 0.5, 0.98):
        rate_C = np.array([0.001, 0.01, 0.1])
        found_C = baseline_error.hoeffding(mean, rate_C)
        least_C = baseline_error._at_least(mean, rate_C)
        assert (least_C <= found_C).all() and (least_C > found_C / 3).all()
    # A baseline that is known exactly has no error, however few blocks it is the mean of.
    assert not baseline_error.limits(z_C, 0.0, 0.9, num_blocks=4).any()


@pytest.mark.parametrize("num_lost", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("num_blocks", [40, 60, 120, 3840])
def test_the_cell_of_the_true_error_is_paid_one_at_most_where_failures_are_rare(
    num_lost, num_blocks
):
    """By enumeration of how many of a baseline's equal blocks fail, as `guards.py` reads them.

    One block a problem up to 120; 3,840 are 32 samples of 120 problems in four groups.
    """
    from scipy.stats import binom

    chance = num_lost / num_blocks
    single = num_blocks <= 120
    pay_C = np.exp(stakes.LOG_PAY_C)
    # Too many failures are the harmless side: the mean is not too high.
    paid = dict.fromkeys((False, True), pay_C[0] * binom.sf(num_lost, num_blocks, chance))
    beyond = dict.fromkeys(paid, 0.0)
    for failed in range(num_lost + 1):
        share = failed / num_blocks
        # Single blocks show no spread of their own, several of a problem do.
        se = np.sqrt(share * (1 - share if single else 1) / num_blocks)
        se = max(se, 2 / (num_blocks * (8 if single else 1)))
        df = np.inf if single or not failed else 3.0 * failed
        for proven in paid:
            ends_C = baseline_error.limits(
                stakes.Z_C, se, 1 - share, num_blocks, df=df, proven=proven
            )
            cell = int(np.searchsorted(ends_C, chance - share - 1e-12))
            weight = binom.pmf(failed, num_blocks, chance)
            if cell < len(pay_C):
                paid[proven] += weight * pay_C[cell]
            else:
                beyond[proven] += weight
    assert paid[True] <= 1 and beyond[True] <= 3e-7
    if single and num_lost <= 3:
        assert paid[False] > 1 or beyond[False] > 0.01, "as seen, the spread promised too much"


def test_a_healthy_run_is_not_halted_for_a_baseline_that_solved_everything_by_chance():
    """60 problems x 40 samples on both sides, pass@40 a thirtieth below 1, nothing ever changes.

    Of 100 such runs 12 were halted, each of them where the baseline had solved every problem.
    """
    chance_P = np.full(60, 1 - (2 / 60) ** (1 / 40))
    lucky = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        baseline = right_table(rng, chance_P, 40)
        if not baseline.right_PK.any(axis=1).all():
            continue
        lucky += 1
        watcher = Watcher(DecisionRule("main", rounds=20), tiers=(Tier.HALT,))
        for _ in range(20):
            now = Pair(baseline, right_table(rng, chance_P, 40))
            nobody = np.empty(0, dtype=int)
            tail = Pair(now.baseline.rows(nobody), now.baseline.rows(nobody))
            assert not watcher.alarms(watcher.weigh(Tables(now, nobody, tail, nobody))), seed
    assert lucky >= 4


def right_table(rng, chance_P, num_samples):
    """Samples that are right or wrong, without an answer or a strategy that could be read."""
    right_PK = rng.random((len(chance_P), num_samples)) < chance_P[:, None]
    ids = tuple(f"p{i:03d}" for i in range(len(chance_P)))
    none_PK = np.full(right_PK.shape, -1)
    return Table(ids, np.ones(right_PK.shape, bool), right_PK, none_PK, none_PK)


def test_a_collapse_of_a_small_probe_set_is_seen_where_one_problem_holds_the_baselines_spread():
    """30 prompts x 4 samples, half of them to pick on: 1 canned text of 60, and then 25."""
    baseline_P = np.ones(30)
    baseline_P[0] = 0.5
    now_PRM = np.ones((30, 1, 2))
    now_PRM[:25, 0, 0] = 0.0
    seen = []
    for num_blocks in (0, 60):
        stream = Stream(
            baseline_P, now_PRM, 1 / 30, 0.1, num_picks=20, df=1.0, num_blocks=num_blocks
        )
        growth = tiers.flat(stakes.loss_factors(stream, 0.25, proven=False))
        weight = evidence.weigh([{"canned": growth}], 20, 8, log_pay_C=tiers.pay(Tier.WATCH))
        seen.append(weight.log_e >= tiers.limit(Tier.WATCH, 0.2))
    assert seen == [False, True]


def test_an_error_that_few_problems_hold_is_taken_for_a_larger_one():
    """A run of an unchanged model was halted: its tail lay 4.8 estimated errors too high."""
    from scipy.stats import norm, t

    assert t.sf(baseline_error.widened(3.0, 1, 12.0), 12.0) == pytest.approx(norm.sf(3.0))
    assert baseline_error.widened(3.0, 20, 1e6) == pytest.approx(
        baseline_error.widened(3.0, 20), abs=1e-3
    )
    variance_P = np.array([0.04, 0.04, 0.0, 0.0])
    scores_ = BaselineScores(np.full(4, 0.5), variance_P, np.full(4, 32), num_groups=4)
    assert scores_.df(np.ones(4, dtype=bool)) == pytest.approx(3 * 2)


def test_the_evidence_with_an_estimated_baseline_cannot_be_expected_to_win_either():
    """One problem of 12 + 6 fair coins on its tolerance: every outcome of both samples.

    The baseline's error is that of a binomial, which is nearly normal with 12 coins.
    """
    from scipy.stats import binom

    num_baseline, num_now, truth, delta = 48, 6, 0.55, 0.05
    total = 0.0
    for right in range(num_baseline + 1):
        mean = right / num_baseline
        se = math.sqrt(truth * (1 - truth) / num_baseline)
        for hits in range(num_now + 1):
            block_PRM = (np.arange(num_now) < hits).astype(float)[None, None]
            growth = tiers.flat(
                stakes.loss_factors(Stream(np.array([mean]), block_PRM, se, delta), 1.0)
            )
            chance = binom.pmf(right, num_baseline, truth) * binom.pmf(hits, num_now, truth - delta)
            total += chance * math.exp(evidence.weigh([{"x": growth}], 1).log_e)
    assert 0.2 < total <= 1


@pytest.mark.parametrize("correlated", [False, True])
def test_runs_that_sit_exactly_on_every_tolerance_are_seldom_alarmed(correlated):
    """15 runs of 20 rounds here; 2,000 in the validation."""
    rng = np.random.default_rng(1)
    assert sum(boundary_run(rng, 3, correlated) for _ in range(15)) <= 2


def test_a_baseline_just_above_a_fixed_ceiling_is_charged_for_the_noise_that_may_have_lifted_it():
    far, near, plain = (
        Stream(np.full(10, 0.5), np.zeros((10, 1, 1)), 0.01, 0.02, spare=spare)
        for spare in (0.05, 0.001, 0.0)
    )
    z_C = np.array([2.0])
    assert far.tolerated(1.0, z_C) == pytest.approx(0.02)
    assert near.tolerated(1.0, z_C) == pytest.approx(0.039)
    assert plain.tolerated(1.0, z_C) == pytest.approx(0.04)
    assert far.tolerated(1.0, z_C, recovered=True) == 0.02
    assert near.tolerated(1.0, z_C, recovered=True) == 0.02


def test_a_loss_well_beyond_the_tolerance_is_seen_at_once():
    rng = np.random.default_rng(2)
    baseline_P = np.full(120, 0.6)
    now = (rng.random((120, 1, 8)) < 0.4).astype(float)
    stream = Stream(baseline_P, now, 0.005, 0.01)
    growth = tiers.flat(stakes.loss_factors(stream, 1.0))
    assert evidence.weigh([{"x": growth}], 20).log_e > 20


@pytest.mark.parametrize("num", [1, 4])
def test_one_sample_a_problem_at_the_baseline_shows_a_large_loss_at_once(num):
    """Each problem's mean is 0 or 1 there, which is no sign that it will answer so again."""
    rng = np.random.default_rng(2)
    p_P = rng.beta(1, 1, 500)
    baseline_P = (rng.random(500) < p_P).astype(float)
    now = (rng.random((500, 1, num)) < p_P[:, None, None] - 0.2).astype(float)
    stream = Stream(baseline_P, now, 0.02, 0.01, num_blocks=500)
    growth = tiers.flat(stakes.loss_factors(stream, 1.0))
    # 3.3 standard errors beyond the tolerance after what may be wrong with the baseline.
    assert evidence.weigh([{"x": growth}], 20).log_e > 2
    known = Stream(baseline_P, now, 0.02, 0.01, num_blocks=1000)
    assert (known.scale, stream.scale) == (0.0, pytest.approx(math.sqrt(500 * num) / 2, rel=0.02))


def test_e_values_are_written_for_people():
    assert [plain(x) for x in (0.0, 3.0, math.log(12345))] == ["1", "20.1", "1e4"]


def test_a_stream_that_is_yet_to_come_counts_as_one_that_has_won_nothing():
    rounds = [{"a": [1.0] * 5}, {"a": [1.0] * 5, "b": [2.0] * 5}]
    assert math.exp(weigh(rounds[:1], 4, 2).log_e) == pytest.approx(
        (math.exp(weigh(rounds[:1], 4).by_stream["a"]) + 1) / 2
    )
    both = weigh(rounds, 4, 2)
    assert math.exp(both.by_stream["b"]) == pytest.approx((math.exp(2) * 2 + 2) / 4)
    assert both.log_e == pytest.approx(weigh(rounds, 4).log_e)
