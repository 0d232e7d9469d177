"""What the decision rule can see, as simulated: held against the rule itself."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from simulated_panel import joined, samples

from ouroloop.monitors.base import RoundView
from ouroloop.monitors.decision import evidence, guarded
from ouroloop.monitors.decision.guards import Guard
from ouroloop.monitors.decision.populations import (
    Design,
    drawn,
    harm_of,
    harmed,
    of_anchor,
    typical,
)
from ouroloop.monitors.decision.power import CHANCES, WITHIN, mixed, power
from ouroloop.monitors.decision.rule import DecisionRule

PANEL = DecisionRule("main")
SMALL = Design(60, 8, 32, 12)


@pytest.fixture(scope="module")
def small():
    return {p.name: p for p in power(PANEL, typical(), SMALL)}


def test_many_runs_at_once_mix_as_the_evidence_does():
    growth = np.random.default_rng(0).normal(0.3, 1, (5, 7, 4))
    for horizon in (20, 7, 3):
        if horizon >= 7:
            got = mixed(growth, horizon)
            want = [
                [
                    evidence.weigh([{"x": g.tolist()} for g in run[: t + 1]], horizon).log_e
                    for t in range(7)
                ]
                for run in growth
            ]
            assert got == pytest.approx(np.array(want))


@pytest.mark.slow
def test_every_guarded_quantity_is_judged_and_harmed_in_its_own_way(small):
    tables = drawn(typical(), SMALL, np.random.default_rng(0), [np.random.default_rng(1)])[0]
    names = [q.name for q in guarded.quantities(tables, PANEL)]
    assert list(small) == names and len(names) == 9 and not any(p.why for p in small.values())
    for name in names:
        hurt = harmed(tables, typical(), name, 0.9, np.random.default_rng(2))
        calm, worse = (
            next(q for q in guarded.quantities(t, PANEL) if q.name == name).guard()
            for t in (tables, hurt)
        )
        assert worse.loss > max(calm.loss, 0) + 1, (name, harm_of(name))


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
    large = {
        p.name: p for p in power(PANEL, typical(), dataclasses.replace(SMALL, num_problems=240))
    }
    for name in (
        "pass@1",
        "distinct-correct-pair probability",
        "share of the most repeated wrong answer",
    ):
        assert large[name].smallest["halt", 3, 0.80] < 0.75 * small[name].smallest["halt", 3, 0.80]


@pytest.mark.slow
def test_what_cannot_be_measured_says_why():
    found = {p.name: p for p in power(PANEL, typical(), Design(40, 2, 8))}
    assert (
        found["pass@4 of the tail"].why == "too few samples per problem in a round"
        and "pass@1 of the other families" not in found
    )
    blind = samples(np.random.default_rng(0), strategies=None, num_samples=16)
    found = {
        p.name: p
        for p in power(
            PANEL, of_anchor(RoundView(0, blind), "main", "tail", "x"), Design(60, 8, 32)
        )
    }
    assert (
        "no strategy ids" in found["distinct-correct-pair probability"].why
        and not found["pass@1"].why
    )


@pytest.mark.slow
def test_an_anchors_own_samples_are_the_population():
    rng = np.random.default_rng(0)
    probe = joined(
        samples(rng, num_samples=32, accuracy=0.9, spread=0.0),
        samples(rng, num_problems=12, num_samples=32, family="other"),
    )
    population = of_anchor(RoundView(0, probe), "main", "tail", "x")
    assert (
        len(population.main.problems) == 60
        and population.tail_P.sum() == 15
        and len(population.others.problems) == 12
    )
    found = {p.name: p for p in power(PANEL, population, SMALL)}
    assert found["pass@1"].base == pytest.approx(0.9, abs=0.02)
    assert found["pass@1"].smallest["halt", 3, 0.80] < 0.12


def test_impossible_designs_are_refused():
    with pytest.raises(ValueError, match="at least 2 problems"):
        Design(1, 8, 32)


@pytest.mark.slow
def test_the_chances_are_those_of_runs_through_the_rule_itself():
    """100 runs of 3 rounds, each with its own anchor.

    Every round through the same evidence without any normal law.
    """
    population, name = typical(), "pass@1"
    found = next(p for p in power(PANEL, population, SMALL) if p.name == name)
    guards = [
        q.name
        for q in guarded.quantities(
            drawn(population, SMALL, np.random.default_rng(0), [np.random.default_rng(1)])[0], PANEL
        )
    ]
    alpha, num_guards = evidence.spent(PANEL.alpha, 1), len(guards)
    share = evidence.shares(list(guards), num_guards, guarded.FIRST)[name]
    limit, z = evidence.log_limit(alpha) - np.log(share), evidence.anchor_z(alpha, num_guards)
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
                hurt = harmed(tables, population, name, harm, np.random.default_rng((8, run, r)))
                guard = next(q for q in guarded.quantities(hurt, PANEL) if q.name == name).guard()
                assert isinstance(guard, Guard)
                logs.append({name: evidence.loss_factors(guard.stream, 1.0, z).tolist()})
            hits += any(
                evidence.weigh(logs[: t + 1], PANEL.rounds).log_e >= limit for t in range(within)
            )
        assert 65 <= hits <= 93, (within, hits)
