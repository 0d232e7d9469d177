"""A made-up model whose text nobody scores: what `ouroloop plan` and the bench draw from.

Suffixes: `_P` problems, `_K` samples of a problem, `_C` clusters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.base import Floats
from ouroloop.monitors.decision.lengths import BAND
from ouroloop.monitors.decision.populations import SEED, Population
from ouroloop.monitors.decision.responses import APPROVED, CAP_IN_MEDIANS, Grid
from ouroloop.monitors.decision.tables import Table

NUM_CLUSTERS, NUM_OPENINGS, NUM_TEXTS = 12, 60, 64
# Dirichlet with 0.7 in each of twelve clusters: two samples of a prompt lie apart in 80 % of the
# pairs, and its commonest cluster holds a third of them, as with instruction-tuned models whose
# answers are clustered by meaning.
CONCENTRATION = 0.7
APPROVALS = {"harmless": 0.85, "helpful": 0.70}
CUT = 0.02
CRITERIA = tuple(APPROVALS)


def typical_text(num_problems: int = 200, num_samples: int = 128) -> Population:
    """A simulated model of free text, and no scored problem."""
    rng = np.random.default_rng(SEED)
    shape = (num_problems, num_samples)
    there = np.ones(shape, dtype=bool)
    none = np.full(shape, -1, dtype=np.int64)
    free = Table(
        tuple(f"t{i}" for i in range(num_problems)),
        there,
        there,
        none,
        none,
        grids=_columns(rng, shape),
    )
    about = (
        f"a typical model of text that nobody scores: {NUM_CLUSTERS} response clusters with"
        f" Dirichlet({CONCENTRATION:g}) shares for each prompt, {NUM_OPENINGS} openings, token"
        f" entropies Gamma(4), {CUT:.0%} of the samples cut by length, approved by a frozen judge:"
        f" {', '.join(f'{name} {share:.0%}' for name, share in APPROVALS.items())}"
    )
    nobody = Table((), there[:0], there[:0], none[:0], none[:0])
    entropy_P = np.minimum(rng.gamma(4.0, 0.25, NUM_TEXTS) / (CAP_IN_MEDIANS * 0.92), 1.0)
    return Population(nobody, np.empty(0, dtype=bool), None, about, free, _texts(entropy_P))


def _columns(
    rng: np.random.Generator,
    shape: tuple[int, int],
) -> dict[str, NDArray[np.generic]]:
    """The columns of `responses.py`."""
    share_PC = rng.dirichlet(np.full(NUM_CLUSTERS, CONCENTRATION), shape[0])
    bound_PC = share_PC.cumsum(axis=1)[:, :-1]
    cluster_PK = (rng.random(shape)[..., None] > bound_PC[:, None]).sum(axis=2)
    # Zipf: the commonest opening begins a fifth of the samples.
    chance = 1 / np.arange(1, NUM_OPENINGS + 1)
    opening_PK = rng.choice(NUM_OPENINGS, size=shape, p=chance / chance.sum())
    # A Gamma(4) has its median at 3.67 times its scale.
    open_PK = np.minimum(rng.gamma(4.0, 1.0, shape) / (CAP_IN_MEDIANS * 3.67), 1.0)
    columns: dict[str, NDArray[np.generic]] = {
        Grid.CLUSTER: cluster_PK.astype(np.int64),
        Grid.OPENING: opening_PK.astype(np.int64),
        # No two samples are the same text.
        Grid.TEXT: np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape),
        Grid.OPEN: open_PK,
        Grid.ANSWERED: (rng.random(shape) >= CUT).astype(float),
        Grid.LENGTH: (rng.random(shape) < BAND[1] - BAND[0]).astype(float),
        Grid.JUDGED: np.ones(shape),
    }
    for name, share in APPROVALS.items():
        # Prompts differ: some are nearly always approved of, others seldom.
        chance_P1 = rng.beta(6 * share, 6 * (1 - share), (shape[0], 1))
        columns[f"{APPROVED}/{name}"] = (rng.random(shape) < chance_P1).astype(float)
    return columns


def _texts(entropy_P: Floats) -> Table:
    there = np.ones((len(entropy_P), 1), dtype=bool)
    none = np.full(there.shape, -1, dtype=np.int64)
    problems = tuple(f"text{i}" for i in range(len(entropy_P)))
    return Table(problems, there, there, none, none, grids={Grid.OPEN: entropy_P[:, None]})
