"""Clusters of unit vectors that are learned once and then frozen.

A later vector gets its nearest centre, or "new" when none is near.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
NEW = "new"
MIN_STRUCTURE = 0.25
"""Below this mean silhouette there is no substantial structure, and one cluster is taken.

Source: Kaufman & Rousseeuw 1990, Table 2.4.
"""
MAX_COMPARED = 1_000
"""Vectors that the silhouette is computed on, at most: its cost is quadratic."""


@dataclass
class Clusters:
    """k-means on unit vectors.

    Attributes:
        num_clusters: None chooses it at the elbow of the mean silhouette, up to `max_clusters`.
        max_clusters: see `num_clusters`.
        coverage: the share of a cluster's own vectors that lie within its limit; what is farther
            from every centre is "new".
        seed: of k-means.
        centres_: learned, (K, D); numbered by size, the largest cluster first.
        limits_: learned, (K,), Euclidean distances.
    """

    num_clusters: int | None = None
    max_clusters: int = 12
    coverage: float = 0.99
    seed: int = 0
    centres_: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    limits_: Matrix = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        if self.num_clusters is not None and self.num_clusters < 1:
            raise ValueError(f"num_clusters: expected at least 1 or None, got {self.num_clusters}")
        if self.max_clusters < 3:
            raise ValueError(f"max_clusters: expected at least 3, got {self.max_clusters}")
        if not 0 < self.coverage <= 1:
            raise ValueError(f"coverage: expected a share in (0, 1], got {self.coverage}")

    def fit(self, vectors: Matrix) -> Clusters:
        """Learn centres and limits from (N, D) unit vectors.

        Raises:
            ValueError: no vectors, or some that are not finite.
        """
        if vectors.ndim != 2 or not len(vectors) or not np.isfinite(vectors).all():
            raise ValueError(
                "vectors: expected a finite matrix with at least one row, got shape"
                f" {vectors.shape}"
            )
        labels = self._choose(vectors)
        order = np.argsort(-np.bincount(labels), kind="stable")
        self.centres_ = np.array([vectors[labels == k].mean(axis=0) for k in order])
        limits = []
        for k, centre in zip(order, self.centres_, strict=True):
            own = np.linalg.norm(vectors[labels == k] - centre, axis=1)
            limits.append(float(np.quantile(own, self.coverage)))
        # 1e-6: a cluster of identical texts has the limit 0, and must hold those texts.
        self.limits_ = np.array(limits) + 1e-6
        return self

    def label(self, vector: Matrix) -> str:
        """The number of the nearest centre as text, or "new"."""
        distances = np.linalg.norm(self.centres_ - vector, axis=1)
        nearest = int(np.argmin(distances))
        within = distances <= self.limits_
        return str(nearest) if within[nearest] else NEW

    def _choose(self, vectors: Matrix) -> NDArray[np.int64]:
        """Labels of the chosen number of clusters: where the silhouette's rise bends most.

        A rule of thumb: the silhouette alone keeps rising down to clusters of identical texts,
        which is finer than a strategy.
        """
        # Here and not above: importing scikit-learn takes a second, and few runs cluster texts.
        from sklearn.cluster import KMeans
        from sklearn.metrics import silhouette_score

        def cluster(k: int) -> NDArray[np.int64]:
            fitted = KMeans(k, n_init=5, random_state=self.seed).fit(vectors)
            labels: NDArray[np.int64] = fitted.labels_.astype(np.int64)
            return labels

        # K-means warns and gives empty clusters when asked for more than there are different
        # vectors.
        num_distinct = len(np.unique(vectors.round(9), axis=0))
        if self.num_clusters is not None:
            return cluster(min(self.num_clusters, num_distinct))
        most = min(self.max_clusters, num_distinct, len(vectors) - 1)
        if most < 2:
            return np.zeros(len(vectors), dtype=np.int64)
        # From two on: a silhouette needs a second cluster to compare with.
        tried = [cluster(k) for k in range(2, most + 1)]
        size = min(MAX_COMPARED, len(vectors))
        scores = np.array(
            [
                silhouette_score(vectors, labels, sample_size=size, random_state=self.seed)
                for labels in tried
            ]
        )
        if scores.max() < MIN_STRUCTURE:
            return np.zeros(len(vectors), dtype=np.int64)
        # A bend needs a neighbour on both sides.
        if len(scores) < 3 or scores.argmax() == 0:
            return tried[int(scores.argmax())]
        bends = 2 * scores[1:-1] - scores[:-2] - scores[2:]
        return tried[int(bends.argmax()) + 1]

    def state(self) -> dict[str, Any]:
        """Settings and what was learned, JSON-able; centres to nine significant digits."""
        return {
            "num_clusters": self.num_clusters,
            "max_clusters": self.max_clusters,
            "coverage": self.coverage,
            "seed": self.seed,
            "centres": [[float(f"{x:.9g}") for x in row] for row in self.centres_],
            "limits": [float(x) for x in self.limits_],
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Clusters:
        """What `state` gave.

        Raises:
            ValueError: centres and limits do not fit together.
        """
        centres = np.array(state["centres"], dtype=np.float64)
        limits = np.array(state["limits"], dtype=np.float64)
        if centres.ndim != 2 or limits.shape != (len(centres),) or not len(centres):
            raise ValueError(
                f"clusters: expected one limit per centre, got centres {centres.shape} and limits"
                f" {limits.shape}"
            )
        settings = {
            name: state[name] for name in ("num_clusters", "max_clusters", "coverage", "seed")
        }
        return cls(**settings, centres_=centres, limits_=limits)
