import numpy as np
import pytest
from simulated_panel import audit_items, samples

from ouroloop.monitors.base import AuditItems, RoundView
from ouroloop.monitors.metrics.audit import AuditErrors, error_rate


def read(planted):
    view = RoundView(1, samples(np.random.default_rng(0), 4), audit=planted)
    return {r.name: r for r in AuditErrors().measure(view, None)}


@pytest.mark.slow
def test_rates_and_exact_intervals_are_those_of_scipy_and_statsmodels(statsmodels):
    from scipy.stats import binomtest

    planted = audit_items(np.random.default_rng(1))
    judged = np.isfinite(planted.accepted)
    readings = read(planted)
    for name, right in (
        ("audit/false_acceptance:all:all:audit", 0),
        ("audit/false_rejection:all:all:audit", 1),
    ):
        mine = judged & (planted.right == right)
        hits, num = int((planted.accepted[mine] != right).sum()), int(mine.sum())
        exact = binomtest(hits, num).proportion_ci(0.95, "exact")
        assert (readings[name].value, readings[name].low, readings[name].high) == pytest.approx(
            (hits / num, exact.low, exact.high)
        )
        assert (readings[name].low, readings[name].high) == pytest.approx(
            statsmodels.stats.proportion.proportion_confint(hits, num, method="beta")
        )
    assert readings["audit/no_verdict:all:all:audit"].value == pytest.approx(1 - judged.mean())


def test_none_accepted_still_allows_what_two_hundred_items_cannot_exclude():
    names = np.array([f"c{i}" for i in range(200)], dtype=object)
    clean = AuditItems(names, np.zeros(200), np.zeros(200))
    assert error_rate(clean, 0.0).high == pytest.approx(0.0183, abs=1e-4)


def test_items_of_one_problem_that_go_together_widen_the_interval():
    rng = np.random.default_rng(2)
    accepted = np.repeat((rng.random(40) < 0.3).astype(float), 5)
    alone = AuditItems(
        np.array([f"c{i}" for i in range(200)], dtype=object),
        np.zeros(200),
        accepted,
    )
    together = AuditItems(
        np.array([f"c{i // 5}" for i in range(200)], dtype=object),
        np.zeros(200),
        accepted,
    )
    narrow, wide = error_rate(alone, 0.0), error_rate(together, 0.0)
    assert wide.value == narrow.value and wide.high - wide.low > 1.8 * (narrow.high - narrow.low)


def test_no_verdict_is_no_acceptance_and_no_rejection():
    planted = AuditItems(
        np.array(["a", "b", "c"], dtype=object),
        np.array([0.0, 0.0, 1.0]),
        np.array([1.0, np.nan, np.nan]),
    )
    readings = read(planted)
    assert readings["audit/false_acceptance:all:all:audit"].value == 1.0
    assert readings["audit/false_rejection:all:all:audit"].status == "undefined"
    assert readings["audit/no_verdict:all:all:audit"].value == pytest.approx(2 / 3)
