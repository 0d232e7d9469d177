"""The test bench itself: its dynamics obey their laws.

Its truth is what its samples average to, and it feeds the rule that the product uses.
"""

import dataclasses

import numpy as np
import pytest

from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.bench.bench import Watcher
from ouroloop.monitors.bench.dynamics import HEALTHY, Model, settled, step, world
from ouroloop.monitors.bench.regimes import COLLAPSING, REGIMES
from ouroloop.monitors.bench.simulate import Stream, draw, judged
from ouroloop.monitors.bench.truth import fallen, losses, truth
from ouroloop.monitors.decision import blocks, guarded, tiers
from ouroloop.monitors.decision.guarded import SCORED, QuantityId
from ouroloop.monitors.decision.guards import Guard
from ouroloop.monitors.decision.modes import attribute, name_mode, symptoms_of
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.decision.tables import Pair, all_judged, shuffled
from ouroloop.monitors.names import FailureMode, Tier

RULE = DecisionRule("main")


def test_at_least_nine_regimes_collapse_and_all_four_modes_are_among_them():
    # Canned responses are of text that nobody scored: see `test_unscored.py`.
    modes = set(FailureMode) - {FailureMode.CANNED}
    assert len(COLLAPSING) >= 9 and {r.mode for r in COLLAPSING.values()} == modes
    assert len(REGIMES) - len(COLLAPSING) >= 3


def test_a_world_has_two_to_four_right_strategies_per_type_and_its_shares_sum_to_one():
    the = world(np.random.default_rng(0))
    assert set(the.right_TS.sum(axis=1)) <= {2, 3, 4} and the.real_TS.sum(axis=1) == pytest.approx(
        np.ones(60)
    )
    assert not the.right_TS[:, -1].any() and the.weight_T[0] / the.weight_T[9] == pytest.approx(10)


@pytest.mark.parametrize("name", REGIMES)
def test_shares_remain_shares_in_every_regime(name):
    stream = Stream(REGIMES[name], 3, 40, 4, 8)
    for model in stream.models():
        assert model.share_TS.min() >= 0 and model.share_TS.sum(axis=1) == pytest.approx(
            np.ones(60)
        )
        assert (
            model.skill_TS.min() >= 0
            and model.skill_TS.max() <= 1
            and model.weight_T.sum() == pytest.approx(1)
        )


def test_the_same_seed_gives_the_same_stream_and_another_one_another():
    one, same, other = (
        list(Stream(HEALTHY, seed, 30, 4, 8, 2).rounds())[-1].tables.main[1].answer_PK
        for seed in (1, 1, 2)
    )
    assert (one == same).all() and (one != other).any()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sharpen, fast", "shortcut, fast", "drift, fast"])
def test_samples_average_to_what_is_said_to_be_true(name):
    """Every guarded quantity of a late round, from 4,000 samples of each of 60 problems."""
    stream = Stream(REGIMES[name], 5, 60, 16, 32, 8)
    first = next(stream.rounds()).tables
    model = list(stream.models())[-1]
    rare = guarded.rare_at_baseline(first)
    exact = truth(model, stream.world, stream.probe, rare, 4)
    now = draw(model, stream.world, stream.probe, 4000, np.random.default_rng(1))
    tables = dataclasses.replace(
        first,
        main=Pair(first.main.baseline, now[0]),
        with_strategies=Pair(first.main.baseline, now[0]),
        others=Pair(first.others.baseline, now[1]),
    )
    for quantity in guarded.quantities(tables, RULE):
        # What grew or fell most is another number in every round.
        picked = (QuantityId.SHORTCUT, QuantityId.SOLVED, QuantityId.ALIVE)
        if quantity.stream.quantity not in picked:
            seen = np.nanmean(
                blocks.block_scores(quantity.pair.now, quantity.size, quantity.score),
                axis=(1, 2),
            )
            # the rows' means, 4 standard errors of 4,000 samples of at least 15 problems
            assert seen.mean() == pytest.approx(
                exact.score[quantity.stream.quantity],
                abs=4 * 0.5 / np.sqrt(4000 * 12),
            ), quantity.name
    assert now[0].wrong_share == pytest.approx(exact.wrong_A, abs=0.003)


def test_the_healthy_regime_stays_where_it_is_and_collapsing_ones_fall():
    for name, falls in (
        ("stationary", False),
        ("improving", False),
        ("drift, fast", True),
        ("shortcut, fast", True),
        ("weak verifier", True),
    ):
        stream = Stream(REGIMES[name], 1, 200, 4, 32)
        rare = guarded.rare_at_baseline(next(stream.rounds()).tables)
        exact = [truth(m, stream.world, stream.probe, rare, 4) for m in stream.models()]
        assert fallen(exact[0].score, exact[-1].score) == falls, name
        assert not fallen(exact[0].score, exact[stream.onset - 1].score), name


def test_an_improving_model_is_less_diverse_among_all_and_more_so_among_the_right():
    stream = Stream(REGIMES["improving"], 1, 200, 4, 32)
    rare = guarded.rare_at_baseline(next(stream.rounds()).tables)
    first, *_, last = (truth(m, stream.world, stream.probe, rare, 4) for m in stream.models())
    assert (
        last.score[QuantityId.ACCURACY] > first.score[QuantityId.ACCURACY] + 0.05
        and last.gini_simpson < 0.95 * first.gini_simpson
    )
    assert last.score[QuantityId.DIVERSITY] > first.score[QuantityId.DIVERSITY]


def test_sharpening_looks_like_progress_while_strategies_die():
    stream = Stream(REGIMES["sharpen, fast"], 1, 200, 4, 32)
    rare = guarded.rare_at_baseline(next(stream.rounds()).tables)
    exact = [truth(m, stream.world, stream.probe, rare, 4) for m in stream.models()]
    after = exact[stream.onset + 1]
    assert (
        after.score[QuantityId.ACCURACY] > exact[0].score[QuantityId.ACCURACY]
        and after.score[QuantityId.RARE_STRATEGIES]
        < 0.85 * exact[0].score[QuantityId.RARE_STRATEGIES]
    )


def test_no_loss_is_measured_in_tolerances_as_zero_and_a_tolerated_one_as_one():
    stream = Stream(HEALTHY, 2, 60, 8, 32, 1)
    tables = list(stream.rounds())[1].tables
    model, rare = next(stream.models()), guarded.rare_at_baseline(tables)
    exact = truth(model, stream.world, stream.probe, rare, 4)
    quantities = list(guarded.quantities(tables, RULE))
    unchanged = losses(exact, exact, quantities)
    slack = unchanged.pop(
        QuantityId.OVERCONFIDENCE
    )  # an under-confident model may become calibrated
    assert set(unchanged.values()) == {0.0} and slack < 0
    worse = dataclasses.replace(
        exact,
        score={
            n: (0.9 if "diversity" in n else 1) * x - 0.01 * (n == QuantityId.ACCURACY)
            for n, x in exact.score.items()
        },
    )
    lost = losses(exact, worse, quantities)
    assert (
        lost[QuantityId.ACCURACY] == pytest.approx(1)
        and lost[QuantityId.DIVERSITY] == pytest.approx(1)
        and lost[QuantityId.OVERCONFIDENCE] == slack
    )


def as_samples(main, others, tail):
    """The same samples as the product sees them.

    A row for each sample, with names for numbers, a problem's samples in the table's order.
    """
    parts = []
    for family, table in (("main", main), ("other", others)):
        for p, k in np.argwhere(table.there_PK):
            strategy, answer = (
                (f"s{table.strategy_PK[p, k]:02d}", f"a{table.answer_PK[p, k]:05d}")
                if family == "main"
                else (None, None)
            )
            part = "tail" if family == "main" and p in tail else "typical"
            parts.append(
                (table.problems[p], family, part, float(table.right_PK[p, k]), strategy, answer)
            )
    problem, family, part, correct, strategy, answer = (
        np.array(column, dtype=object) for column in zip(*parts, strict=True)
    )
    blank = np.full(len(parts), np.nan)
    text = np.full(len(parts), "", dtype=object)
    return Samples(
        problem,
        family,
        part,
        correct.astype(float),
        blank,
        strategy,
        answer,
        blank,
        blank,
        blank,
        text,
    )


def in_the_products_order(tables):
    """A problem's samples in the product's order (the bench's own is as random), all scored."""
    main, others = (
        Pair(*(shuffled(side) for side in pair)) for pair in (tables.main, tables.others)
    )
    return dataclasses.replace(
        tables,
        main=main,
        with_strategies=main,
        others=others,
        judged=all_judged(main, others),
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shortcut, fast", "sharpen, fast"])
def test_views_and_tables_give_the_same_evidence(name):
    """What a run weighs, from rows of samples, is what the bench weighs, from numbers."""
    stream = Stream(REGIMES[name], 4, 40, 8, 32, 8)
    watcher = Watcher(RULE)
    reference, history = None, []
    for a_round in stream.rounds():
        baseline, main = a_round.tables.main
        tail = set(a_round.tables.tail_P.tolist())
        view = RoundView(a_round.number, as_samples(main, a_round.tables.others[1], tail))
        if reference is None:
            reference = view
            continue
        decision = RULE.decide(view, reference, (), history)
        weights = watcher.weigh(in_the_products_order(a_round.tables))
        for tier in Tier:
            found = decision.evidence[tier]
            assert found.log_e == pytest.approx(weights[tier].log_e), (tier, a_round.number)
            assert found.by_quantity == pytest.approx(weights[tier].by_stream)
            assert found.log_limit == pytest.approx(tiers.limit(tier, watcher.alpha[tier]))
        named = name_mode(
            symptoms_of(main),
            symptoms_of(baseline),
            {main.problems[p] for p in tail},
        )
        assert named == attribute(view, reference, "main")
        history.append(dataclasses.replace(decision, carried_out=False))
    assert (
        max(abs(x) for w in weights.values() for x in w.by_stream.values()) > 1
        and history[0].action == "continue"
    )


def test_the_bench_guards_what_the_rule_guards_with_the_rules_own_shares():
    watcher = Watcher(RULE)
    rounds = list(Stream(HEALTHY, 3, 40, 8, 32, 1).rounds())
    weights = watcher.weigh(rounds[1].tables)[Tier.HALT]
    assert {stream.quantity for stream in weights.share} == {q.id for q in SCORED}
    share = {stream.quantity: found for stream, found in weights.share.items()}
    assert share[QuantityId.ACCURACY] == pytest.approx(0.3)
    assert share[QuantityId.UNSCORED] == pytest.approx(0.02)
    assert sum(share.values()) == pytest.approx(1)


def test_unscored_samples_show_and_change_nothing_else():
    stream = Stream(HEALTHY, 3, 40, 8, 32, 1)
    model = next(stream.models())
    then, now = (
        draw(model, stream.world, stream.probe, 8, np.random.default_rng(seed)) for seed in (0, 1)
    )
    half = dataclasses.replace(model, scored=0.5)
    main, others = Pair(then[0], now[0]), Pair(then[1], now[1])
    found = judged(half, main, others, np.random.default_rng(2))
    assert found.baseline.right_PK.all()
    assert found.now.right_PK.mean() == pytest.approx(0.5, abs=0.1)
    rare = np.zeros((40, 1), dtype=bool)
    before, after = (truth(m, stream.world, stream.probe, rare, 8).score for m in (model, half))
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {QuantityId.UNSCORED}


def test_the_bench_works_out_a_baseline_once_and_to_the_same_result():
    stream = Stream(REGIMES["drift, fast"], 6, 40, 8, 32, 6)
    kept = Watcher(RULE)
    for a_round in stream.rounds():
        if a_round.number:
            weights = kept.weigh(a_round.tables)
            fresh = [q.guard() for q in guarded.quantities(a_round.tables, RULE)]
            bets = RULE.bets([[g for g in fresh if isinstance(g, Guard)]])
            assert all(bets.of(tier) == kept.rounds_[tier][-1] for tier in Tier)
    assert weights[Tier.WATCH].driver


def test_a_step_with_any_number_of_samples_is_the_expectation_of_a_step_with_some():
    the = world(np.random.default_rng(0))
    model = settled(the, HEALTHY)
    regime = dataclasses.replace(REGIMES["sharpen"], num_samples=60_000)
    rng = np.random.default_rng(1)
    mean = np.mean([step(model, the, regime, rng).share_TS for _ in range(200)], axis=0)
    assert mean == pytest.approx(step(model, the, regime, None).share_TS, abs=0.01)
    assert isinstance(model, Model)
