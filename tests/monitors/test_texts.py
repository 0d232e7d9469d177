import dataclasses

import numpy as np
import pytest
from simulated_panel import samples, texts, view

from ouroloop.monitors.base import RoundView, Texts
from ouroloop.monitors.metrics.entropy import TraceEntropy
from ouroloop.monitors.metrics.texts import RealText


def read(now, then=None, **settings):
    return {r.name: r for r in RealText(**settings).measure(now, then)}


def test_entropy_and_cross_entropy_are_means_over_tokens_with_clustered_errors(statsmodels):
    """Weighted least squares on a constant, clustered, is the same estimate."""
    text = texts(np.random.default_rng(0))
    readings = read(RoundView(1, samples(np.random.default_rng(1), 40), texts=text))
    for name, value in (
        ("text/entropy:all:all:texts", text.entropy),
        ("text/cross_entropy:all:all:texts", text.nll),
    ):
        fit = statsmodels.api.WLS(value, np.ones(len(value)), weights=text.num_tokens).fit()
        fit = fit.get_robustcov_results(
            "cluster",
            groups=np.unique(text.problem, return_inverse=True)[1],
        )
        assert readings[name].value == pytest.approx(fit.params[0])
        half = (readings[name].high - readings[name].low) / 2
        assert half == pytest.approx(
            2.02 * fit.bse[0],
            rel=0.15,
        )  # statsmodels counts its degrees of freedom differently


def test_own_perplexity_is_the_exponential_of_the_entropy_per_token_and_the_gap_is_the_difference():
    now = view(np.random.default_rng(2))
    readings = read(now)
    token = TraceEntropy().measure(now, None)[0]
    assert readings["text/own_perplexity"].value == pytest.approx(np.exp(token.value))
    assert readings["text/gap:all:all:texts"].value == pytest.approx(
        readings["text/cross_entropy:all:all:texts"].value - token.value
    )
    wide = readings["text/gap:all:all:texts"].high - readings["text/gap:all:all:texts"].low
    parts = [r.high - r.low for r in (readings["text/cross_entropy:all:all:texts"], token)]
    assert wide == pytest.approx(np.hypot(*parts))


def test_the_gap_of_a_model_that_writes_as_the_text_is_written_is_zero():
    rng, held = np.random.default_rng(3), 0
    for _ in range(200):
        probe = samples(rng, 40)
        real = Texts(
            probe.problem,
            rng.gamma(4.0, 0.1, len(probe)),
            probe.nll,
            rng.integers(10, 40, len(probe)).astype(float),
        )
        gap = read(RoundView(1, dataclasses.replace(probe, problem=probe.problem), texts=real))[
            "text/gap:all:all:texts"
        ]
        held += gap.low <= 0 <= gap.high
    assert held >= 182


def test_the_change_since_round_0_is_paired_by_problem():
    text = texts(np.random.default_rng(4))
    lower = dataclasses.replace(text, entropy=text.entropy - 0.1)
    probe = samples(np.random.default_rng(5), 10)
    change = read(RoundView(1, probe, texts=lower), RoundView(0, probe, texts=text))[
        "text/entropy:all:all:texts"
    ].details["change"]
    assert change["value"] == pytest.approx(-0.1)


def test_away_from_temperature_1_only_what_the_real_text_says_is_left():
    readings = read(view(np.random.default_rng(6)), temperature=0.7)
    assert (
        readings["text/own_perplexity"].status
        == readings["text/gap:all:all:texts"].status
        == "undefined"
    )
    assert "0.7" in readings["text/gap:all:all:texts"].reason
    assert readings["text/entropy:all:all:texts"].status == "ok"
