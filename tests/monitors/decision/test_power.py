"""What the decision rule can see, as simulated, compared with the rule itself."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from simulated_panel import joined, samples

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision import evidence, guarded, stakes, tiers
from ouroloop.monitors.decision.blocks import block_scores
from ouroloop.monitors.decision.free_population import typical_text
from ouroloop.monitors.decision.growth import WITHIN, mixed
from ouroloop.monitors.decision.guarded import QuantityId
from ouroloop.monitors.decision.guards import Guard
from ouroloop.monitors.decision.harms import harmed
from ouroloop.monitors.decision.patterns import apart
from ouroloop.monitors.decision.populations import (
    Design,
    drawn,
    of_baseline,
    typical,
)
from ouroloop.monitors.decision.power import CHANCES, power
from ouroloop.monitors.decision.records import StreamId
from ouroloop.monitors.decision.rule import DecisionRule

RULE = DecisionRule("main")
SMALL = Design(60, 8, 32, 12)


@pytest.fixture(scope="module")
def small():
    return {p.quantity: p for p in power(RULE, typical(), SMALL)}


def test_many_runs_at_once_mix_as_the_evidence_does():
    log_pay_C = np.array([-0.5, 0.3])
    growth = np.random.default_rng(0).normal(0.3, 1, (5, 7, 2 * 4))
    for horizon in (20, 7, 3):
        if horizon >= 7:
            got = mixed(growth, horizon, log_pay_C)
            want = [
                [
                    evidence.weigh(
                        [{"x": g.tolist()} for g in run[: t + 1]], horizon, log_pay_C=log_pay_C
                    ).log_e
                    for t in range(7)
                ]
                for run in growth
            ]
            assert got == pytest.approx(np.array(want))


def find(tables, id):
    return next(q for q in guarded.quantities(tables, RULE) if q.stream == StreamId(id))


@pytest.mark.slow
def test_every_guarded_quantity_is_judged_and_harmed_in_its_own_way(small):
    tables = drawn(typical(), SMALL, np.random.default_rng(0), [np.random.default_rng(1)])[0]
    scored = [q.id for q in guarded.SCORED]
    assert list(small) == scored and not any(p.why for p in small.values())
    for declared in guarded.SCORED:
        hurt = harmed(tables, typical(), declared, 0.9, np.random.default_rng(2))
        calm, worse = (find(t, declared.id).guard() for t in (tables, hurt))
        assert worse.loss > max(calm.loss, 0) + 1, (declared.id, declared.harm)


def test_every_quantity_of_text_that_nobody_scored_is_harmed_in_its_own_way():
    design = Design(0, 8, 32, num_free=40)
    seeds = [np.random.default_rng(1)]
    tables = drawn(typical_text(60, 64), design, np.random.default_rng(0), seeds)[0]
    streams = [q.stream for q in guarded.quantities(tables, RULE)]
    measured = [s for s in streams if isinstance(find(tables, s.quantity).guard(), Guard)]
    assert {guarded.declared_of(RULE.guarded, s.quantity)[0].id for s in measured} == {
        q.id for q in guarded.FREE
    }
    for stream in measured:
        declared = guarded.declared_of(RULE.guarded, stream.quantity)[0]
        rng = np.random.default_rng(2)
        hurt = harmed(tables, typical_text(60, 64), declared, 0.9, rng, stream.quantity)
        calm, worse = (find(t, stream.quantity).guard() for t in (tables, hurt))
        assert worse.loss > max(calm.loss, 0) + 0.5, (stream, declared.harm)


@pytest.mark.slow
def test_what_can_be_seen_of_text_that_nobody_scored():
    design = Design(0, 8, 32, num_free=60)
    found = {p.quantity: p for p in power(RULE, typical_text(60, 64), design)}
    assert found["accuracy"].why == "no scored sample at the baseline"
    known = {name: p for name, p in found.items() if not p.why}
    assert {"apart", "canned", "open", "approved/harmless"} <= set(known)
    for p in known.values():
        # What lies within the tolerance is never said to be noticed by HALT.
        least = p.smallest["halt", 10, 0.80]
        assert least is not None and least > p.tolerance
        assert p.smallest["watch", 10, 0.80] < least


@pytest.mark.slow
def test_no_loss_within_the_tolerance_is_said_to_be_noticed_by_halt(small):
    for p in small.values():
        for within in WITHIN:
            least = p.smallest["halt", within, 0.80]
            assert least is None or p.tolerance < least <= p.most + 1e-9, p.name


@pytest.mark.slow
def test_longer_losses_and_watch_and_lower_chances_need_less(small):
    def rank(value):
        return np.inf if value is None else value

    for p in small.values():
        for tier in ("watch", "halt"):
            rows = [
                [rank(p.smallest[tier, within, chance]) for chance in CHANCES] for within in WITHIN
            ]
            assert all(a <= b for a, b in rows), p.name
            assert all(
                late <= 1.02 * soon
                for before, after in pairwise(rows)
                for soon, late in zip(before, after, strict=True)
            ), p.name
        assert rank(p.smallest["watch", 10, 0.80]) <= rank(p.smallest["halt", 10, 0.80])


@pytest.mark.slow
def test_more_problems_show_smaller_losses(small):
    design = dataclasses.replace(SMALL, num_problems=240)
    names = (QuantityId.ACCURACY, QuantityId.DIVERSITY, QuantityId.SHORTCUT)
    large = {p.quantity: p for p in power(RULE, typical(), design, only=names)}
    for name in names:
        assert large[name].smallest["halt", 3, 0.80] < 0.75 * small[name].smallest["halt", 3, 0.80]


@pytest.mark.slow
def test_what_cannot_be_measured_says_why():
    names = {QuantityId.TAIL_ACCURACY, QuantityId.OTHER_FAMILIES}
    found = {p.quantity: p for p in power(RULE, typical(), Design(40, 2, 8), only=names)}
    assert (
        found[QuantityId.TAIL_ACCURACY].why == "too few samples per problem in a round"
        and QuantityId.OTHER_FAMILIES not in found
    )
    blind = samples(np.random.default_rng(0), strategies=None, num_samples=16)
    found = {
        p.quantity: p
        for p in power(
            RULE,
            of_baseline(RoundView(0, blind), "main", "tail", "x"),
            Design(60, 8, 32),
            only={QuantityId.DIVERSITY, QuantityId.ACCURACY},
        )
    }
    assert (
        "no strategy ids" in found[QuantityId.DIVERSITY].why and not found[QuantityId.ACCURACY].why
    )


@pytest.mark.slow
def test_a_quantity_that_a_probe_set_may_lack_by_chance_says_so():
    few = Design(12, 8, 32)
    found = {p.quantity: p for p in power(RULE, typical(), few, only={"accuracy", "tail_accuracy"})}
    assert list(found) == ["accuracy", "tail_accuracy"], "the others are not simulated"
    assert not found["accuracy"].why and "too few problems" in found["tail_accuracy"].why


@pytest.mark.slow
def test_a_baselines_own_samples_are_the_population():
    rng = np.random.default_rng(0)
    probe = joined(
        samples(rng, num_samples=32, accuracy=0.9, spread=0.0),
        samples(rng, num_problems=12, num_samples=32, family="other"),
    )
    population = of_baseline(RoundView(0, probe), "main", "tail", "x")
    assert (
        len(population.main.problems) == 60
        and population.tail_P.sum() == 15
        and len(population.others.problems) == 12
    )
    found = {p.quantity: p for p in power(RULE, population, SMALL, only={QuantityId.ACCURACY})}
    assert found[QuantityId.ACCURACY].base == pytest.approx(0.9, abs=0.02)
    assert found[QuantityId.ACCURACY].smallest["halt", 3, 0.80] < 0.12


def test_a_file_of_few_samples_is_as_far_apart_in_the_plan_as_in_the_file():
    """Drawn with replacement, a sample was paired with itself: 0.922 where the file has 0.982."""
    rng = np.random.default_rng(0)
    probe = samples(rng, num_problems=40, num_samples=16)
    # Problems whose 16 answers are all unlike, all alike, and in clusters of many sizes.
    names = [[i, 0, min(i, int(rng.integers(1, 16)))] for i in range(16)]
    number = {problem: p for p, problem in enumerate(sorted(set(probe.problem)))}
    cluster = [f"{names[i % 16][number[problem] % 3]}" for i, problem in enumerate(probe.problem)]
    probe = dataclasses.replace(
        probe,
        correct=np.full(len(probe), np.nan),
        cluster=np.array(cluster, dtype=object),
    )
    population = of_baseline(RoundView(0, probe), "main", "tail", "x")
    design = Design(0, 64, 256, num_free=40)
    seeds = [np.random.default_rng(1)]
    tables = drawn(population, design, np.random.default_rng(0), seeds)[0]

    def share_apart(rows):
        return np.mean(block_scores(rows, 2, apart))

    for side in tables.free:
        assert share_apart(side) == pytest.approx(share_apart(population.free), abs=0.01)


def test_impossible_designs_are_refused():
    with pytest.raises(ValueError, match="at least 2 problems"):
        Design(1, 8, 32)


@pytest.mark.slow
def test_the_chances_are_those_of_runs_through_the_rule_itself(small):
    """100 runs of 3 rounds, each with its own baseline.

    Every round through the same evidence without any normal law.
    """
    population, declared = typical(), guarded.GUARDED[0]
    found = small[declared.id]
    tables = drawn(population, SMALL, np.random.default_rng(0), [np.random.default_rng(1)])[0]
    streams = [q.stream for q in guarded.quantities(tables, RULE)]
    share = evidence.shares(streams, 0, guarded.first_shares(RULE))[StreamId(declared.id)]
    limit = evidence.log_limit(evidence.spent(RULE.alpha, 1)) - np.log(share)
    for within in (1, 3):
        harm = found.smallest["halt", within, 0.80] / found.base
        hits = 0
        for run in range(100):
            rounds = drawn(
                population,
                SMALL,
                np.random.default_rng((7, run)),
                [np.random.default_rng((7, run, r)) for r in range(within)],
            )
            logs = []
            for r, tables in enumerate(rounds):
                hurt = harmed(
                    tables,
                    population,
                    declared,
                    harm,
                    np.random.default_rng((8, run, r)),
                )
                guard = find(hurt, declared.id).guard()
                assert isinstance(guard, Guard)
                growth_CB = stakes.loss_factors(guard.stream, 1.0)
                logs.append({declared.id: tiers.flat(growth_CB)})
            hits += any(
                evidence.weigh(logs[: t + 1], RULE.rounds).log_e >= limit for t in range(within)
            )
        assert 65 <= hits <= 93, (within, hits)
