"""How much of their probability round 0's answers have kept: exact, for nothing is sampled.

Suffixes: `_N` answers, `_G` groups of a problem, `_P` problems.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ouroloop.monitors.base import Floats, Objects, Traces
from ouroloop.monitors.columns import codes

# exp(50) is far beyond any use, and far from overflowing.
LARGEST = 50.0


@dataclass(frozen=True)
class Kept:
    """How the probability of each group's answers changed, (G,) each; a group: see `Traces`.

    Attributes:
        problem_G: its problem.
        share_G: its share of the problem's answers in round 0.
        ratio_G: mean over its answers of p_now / p_then. Where `then` is the model that the answers
            were drawn from, this estimates without bias how often the group occurs now as a
            multiple of how often it did (importance sampling).
        token_G: mean of min(1, (p_now / p_then)^(1 / tokens)): for answers of any length, and
            nearly blind to the one token at which strategies part.
    """

    problem_G: Objects
    share_G: Floats
    ratio_G: Floats
    token_G: Floats

    @property
    def whole_G(self) -> Floats:
        """The ratio, at most 1: what another group gained replaces nothing that this one lost."""
        return np.minimum(self.ratio_G, 1.0)

    def mean_P(self, x_G: Floats) -> Floats:
        """Mean over the groups of each problem, problems by name."""
        at_G = codes(self.problem_G)[1]
        return np.bincount(at_G, weights=x_G) / np.bincount(at_G)

    @property
    def distinct_P(self) -> Floats:
        """Probability that two samples of a problem fall into two groups, from shares and ratios.

        Where the ratios add up to more than 1 in a problem, they are scaled to 1. It knows no group
        that round 0 had not.
        """
        at_G = codes(self.problem_G)[1]
        # What a sample of round 0's model did so often, one of this model does so often.
        mass_G = self.share_G * self.ratio_G
        total_P = np.bincount(at_G, weights=mass_G)
        alike_P = np.bincount(at_G, weights=mass_G**2)
        return np.asarray((total_P**2 - alike_P) / np.maximum(total_P, 1.0) ** 2)


def kept(now: Traces, then: Traces) -> Kept:
    """The answers' probability now beside then.

    Those that one side could not score are left out.
    """
    before = dict(zip(_keys(then), then.logprob, strict=True))
    then_N = np.array([before.get(key, np.nan) for key in _keys(now)], dtype=float)
    named_N = np.array([isinstance(group, str) for group in now.group], dtype=bool)
    known_N = named_N & np.isfinite(now.logprob) & np.isfinite(then_N) & (now.num_tokens > 0)
    gain_N = (now.logprob - then_N)[known_N]
    # Sorted: no number may depend on the order of the rows.
    pairs = list(zip(now.problem[known_N], now.group[known_N], strict=True))
    groups = sorted(set(pairs))
    place = {pair: i for i, pair in enumerate(groups)}
    at_N = np.array([place[pair] for pair in pairs], dtype=np.int64)
    size_G = np.bincount(at_N, minlength=len(groups))

    def mean(x_N: Floats) -> Floats:
        return np.asarray(np.bincount(at_N, weights=x_N, minlength=len(groups)) / size_G)

    problem_G = np.empty(len(groups), dtype=object)
    problem_G[:] = [problem for problem, _ in groups]
    return Kept(
        problem_G,
        mean(now.share[known_N]),
        mean(np.exp(np.minimum(gain_N, LARGEST))),
        mean(np.exp(np.minimum(gain_N / now.num_tokens[known_N], 0.0))),
    )


def _keys(traces: Traces) -> list[tuple[str, str, str]]:
    """What an answer is known by: a group holds no text twice."""
    return list(zip(traces.problem, traces.group, traces.text, strict=True))
