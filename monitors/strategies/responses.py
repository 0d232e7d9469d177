"""Response clusters: which answers are alike, learned on the baseline's samples, then frozen.

Answers to different prompts differ in their subject. Clusters of whole answers are therefore mostly
subjects, and two samples of one prompt share theirs however diverse a model is. So an answer is
first compared with the baseline's answers to its own prompt:

    near/12   it is near their mean; 12 is the cell of its difference from that mean
    new/7     it is not; 7 is the cell of the whole answer, whatever was asked
    all/7     the same cells, for a prompt that the baseline did not answer (or hardly)
    blank     nothing but white space

One canned text is far from what most prompts were answered with, so it is "new/7" everywhere, while
many different new texts lie in different cells. A label depends on the text and its problem's id
alone, never on other samples or their order. Figures: docs/decisions/018-response-clusters.md.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ouroloop.monitors.fence import Unreadable, attempt
from ouroloop.monitors.strategies.clusters import Matrix
from ouroloop.monitors.strategies.lexical import Lexical
from ouroloop.monitors.strategies.packing import as_kept, packed, unpacked

# Of the frozen file: a change of the vectors would give old cells another meaning.
VERSION = 1
NEAR, NEW, ALL, BLANK = "near", "new", "all", "blank"
MAX_CELLS = 64
# Fewer texts than this for each cell, and cells describe single texts of the baseline: two of its
# own samples would then look more different than two fresh samples of the same model do.
TEXTS_PER_CELL = 16
MIN_ANSWERS = 12
"""Answers of the baseline to a prompt, below which their own mean is not used.

Labels of the very answers that were fitted look more different from each other than those of fresh
ones do: `apart` is higher by 0.3 (lexical) to 0.8 (sentence vectors) over the answers per prompt.
A run fits on answers that it draws for this alone.
"""
MAX_TEXTS = 5_000
"""Texts that cells are fitted on, at most; means are taken over all."""

Embed = Callable[[Sequence[str]], Matrix]
"""Texts to vectors, (N,) -> (N, D), deterministic."""


class Encoder(Protocol):
    """Texts to vectors of length one. What it learns from the baseline it gives back as state."""

    @property
    def name(self) -> str:
        """In messages and in the frozen file."""
        ...

    def fit(self, texts: Sequence[str]) -> Encoder:
        """Learn from the baseline's texts; a pretrained one has nothing to learn."""
        ...

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """(N,) texts to (N, D) vectors."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What was learned, JSON-able."""
        ...


@dataclass(frozen=True)
class Pretrained:
    """A sentence encoder from outside: `embed` is its function, the model stays with the user."""

    name: str
    embed: Embed

    def fit(self, texts: Sequence[str]) -> Pretrained:
        """Nothing to learn."""
        return self

    def __call__(self, texts: Sequence[str]) -> Matrix:
        """The vectors at length one.

        Raises:
            ValueError: `embed` gave an array of another shape.
        """
        vectors = np.asarray(self.embed(texts), dtype=np.float64)
        if vectors.ndim != 2 or len(vectors) != len(texts):
            raise ValueError(
                f"{self.name}: expected {len(texts)} vectors, got an array of shape {vectors.shape}"
            )
        return _unit(vectors)

    def state(self) -> dict[str, Any]:
        """Nothing was learned."""
        return {}


@dataclass
class ResponseClusters:
    """Fitted once on the baseline's samples of all prompts, then frozen.

    Attributes:
        encoder: texts to vectors.
        coverage: share of fresh answers of the baseline's own model that count as near.
        seed: of k-means.
        means_: learned: a problem's id -> the mean vector of its answers, (D,).
        limit_: learned: the cosine with that mean, below which an answer is new.
        near_: learned, (K, D): centres of the answers' differences from their prompts' means.
        whole_: learned, (K, D): centres of whole answers.
        is_fitted_: whether `fit` was called.
    """

    encoder: Encoder = field(default_factory=Lexical)
    coverage: float = 0.98
    seed: int = 0
    means_: dict[str, Matrix] = field(default_factory=dict)
    limit_: float = -1.0
    near_: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    whole_: Matrix = field(default_factory=lambda: np.zeros((0, 0)))
    is_fitted_: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage: expected a share between 0 and 1, got {self.coverage}")

    def fit(self, texts: Sequence[str], problems: Sequence[str]) -> ResponseClusters:
        """Learn from the baseline's samples, right and wrong ones alike.

        Raises:
            ValueError: no text has anything to read.
        """
        pairs = [
            (text, problem)
            for text, problem in zip(texts, problems, strict=True)
            if not _is_blank(text)
        ]
        # An encoder that was fitted on nothing has no axes to project on.
        if pairs:
            self.encoder = self.encoder.fit([text for text, _ in pairs])
        vectors, is_read = self._vectors([text for text, _ in pairs])
        keys = np.array([problem for _, problem in pairs], dtype=object)[is_read]
        vectors = vectors[is_read]
        if not len(vectors):
            raise ValueError(
                f"{self.encoder.name}: expected texts to learn response clusters from, got"
                f" {len(texts)} texts without anything that could be read"
            )
        self._learn_prompts(vectors, keys)
        self.whole_ = self._cells(vectors)
        # Differences exist only for prompts with enough answers to have a mean.
        is_known = np.array([key in self.means_ for key in keys])
        if is_known.any():
            self.near_ = self._cells(self._differences(vectors[is_known], keys[is_known]))
        self.is_fitted_ = True
        return self

    def labels(self, texts: Sequence[str], problems: Sequence[str]) -> list[str | None]:
        """Each text's cluster; None where the encoder could not read it.

        Raises:
            RuntimeError: `fit` was not called.
        """
        if not self.is_fitted_:
            raise RuntimeError(
                "response clusters: not fitted; call fit(texts, problems) on the baseline's"
                " samples, or from_json on what a run has frozen"
            )
        rows = [row for row, text in enumerate(texts) if not _is_blank(text)]
        vectors, is_read = self._vectors([texts[row] for row in rows])
        keys = np.array([problems[row] for row in rows], dtype=object)
        whole = _nearest(vectors, self.whole_)
        near = self._near(vectors, keys)
        found: list[str | None] = [BLANK] * len(texts)
        for index, row in enumerate(rows):
            if not is_read[index]:
                found[row] = None
            elif near[index] >= 0:
                found[row] = f"{NEAR}/{near[index]}"
            elif keys[index] in self.means_:
                found[row] = f"{NEW}/{whole[index]}"
            else:
                found[row] = f"{ALL}/{whole[index]}"
        return found

    def _near(self, vectors: Matrix, keys: NDArray[np.object_]) -> NDArray[np.int64]:
        """The cell of each answer that is near its prompt's mean, -1 for the others."""
        near = np.full(len(vectors), -1)
        is_known = np.array([key in self.means_ for key in keys], dtype=bool)
        if not is_known.any():
            return near
        own, keys = vectors[is_known], keys[is_known]
        cells = _nearest(self._differences(own, keys), self.near_)
        is_near = self._cosines(own, keys) >= self.limit_
        near[is_known] = np.where(is_near, cells, -1)
        return near

    def _vectors(self, texts: Sequence[str]) -> tuple[Matrix, NDArray[np.bool_]]:
        """Vectors of all texts, and which of them are to be believed."""
        found = attempt(self.encoder.name, self.encoder, texts)
        if isinstance(found, Unreadable):
            found = self._one_by_one(texts)
        # k-means refuses what is not finite; such a text gets no label.
        is_read = np.asarray(np.isfinite(found).all(axis=1), dtype=np.bool_)
        vectors: Matrix = np.where(is_read[:, np.newaxis], found, 0.0)
        return vectors, is_read

    def _one_by_one(self, texts: Sequence[str]) -> Matrix:
        """Vectors of texts of which some cannot be read: those are NaN.

        One hostile text must not cost the others their labels.
        """
        width = self.whole_.shape[1]
        read: dict[int, Matrix] = {}
        for row, text in enumerate(texts):
            vector = attempt(self.encoder.name, self.encoder, [text])
            if not isinstance(vector, Unreadable):
                read[row], width = vector[0], vector.shape[1]
        vectors = np.full((len(texts), width), np.nan)
        for row, one in read.items():
            vectors[row] = one
        return vectors

    def _learn_prompts(self, vectors: Matrix, keys: NDArray[np.object_]) -> None:
        """The prompts' means, and how far from them a fresh answer may lie."""
        cosines = []
        for key in sorted(set(keys)):
            own = vectors[keys == key]
            if len(own) < MIN_ANSWERS:
                continue
            self.means_[key] = as_kept(own.mean(axis=0))
            # Without itself: a fresh answer will not be part of the mean either.
            others = _unit((own.sum(axis=0) - own) / (len(own) - 1))
            cosines.append((own * others).sum(axis=1))
        # One limit for all prompts: a dozen answers say little about a quantile of their own.
        if cosines:
            self.limit_ = float(np.quantile(np.concatenate(cosines), 1 - self.coverage))

    def _cosines(self, vectors: Matrix, keys: NDArray[np.object_]) -> NDArray[np.float64]:
        means = _unit(np.array([self.means_[key] for key in keys]))
        cosines: NDArray[np.float64] = (vectors * means).sum(axis=1)
        return cosines

    def _differences(self, vectors: Matrix, keys: NDArray[np.object_]) -> Matrix:
        return _unit(vectors - np.array([self.means_[key] for key in keys]))

    def _cells(self, vectors: Matrix) -> Matrix:
        """Centres of k-means, the largest cell first."""
        from sklearn.cluster import KMeans

        # Evenly spread and not the first: families come one after the other.
        stride = -(-len(vectors) // MAX_TEXTS)  # rounded up
        chosen = vectors[::stride]
        # K-means warns and gives empty cells when asked for more than there are different vectors.
        num_distinct = len(np.unique(chosen.round(6), axis=0))
        wanted = max(1, min(MAX_CELLS, len(chosen) // TEXTS_PER_CELL, num_distinct))
        fitted = KMeans(wanted, n_init=1, random_state=self.seed).fit(chosen)
        sizes = np.bincount(fitted.labels_, minlength=wanted)
        return as_kept(fitted.cluster_centers_[np.argsort(-sizes, kind="stable")])

    def to_json(self) -> str:
        """Settings and what was learned."""
        means = list(self.means_.values())
        state = {
            "kind": "response clusters",
            "version": VERSION,
            "encoder": {"name": self.encoder.name, **self.encoder.state()},
            "coverage": self.coverage,
            "seed": self.seed,
            "limit": self.limit_,
            "problems": list(self.means_),
            "dimensions": self.whole_.shape[1],
            "means": packed(np.array(means)),
            "near": {"cells": len(self.near_), "centres": packed(self.near_)},
            "whole": {"cells": len(self.whole_), "centres": packed(self.whole_)},
        }
        return json.dumps(state, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, encoder: Encoder | None = None) -> ResponseClusters:
        """What `to_json` gave.

        Args:
            text: the frozen clusters.
            encoder: the pretrained encoder that they were fitted with; None: the built-in one.

        Raises:
            ValueError: another kind, version or encoder, or numbers that do not fit together.
        """
        state = json.loads(text)
        found = None
        if isinstance(state, dict):
            found = (state.get("kind"), state.get("version"))
        if found != ("response clusters", VERSION):
            raise ValueError(
                f"expected frozen response clusters of version {VERSION}, got something else"
            )
        kept = state["encoder"]
        if encoder is None and kept["name"] == Lexical.name:
            encoder = Lexical.from_state(kept)
        given = getattr(encoder, "name", None)
        if encoder is None or kept["name"] != given:
            raise ValueError(
                f"response clusters: fitted with the encoder {kept['name']!r}, but {given!r} was"
                " given; use the one that they were fitted with"
            )
        width = int(state["dimensions"])
        means = unpacked(state["means"], (len(state["problems"]), width))
        return cls(
            encoder=encoder,
            coverage=state["coverage"],
            seed=state["seed"],
            means_=dict(zip(state["problems"], means, strict=True)),
            limit_=state["limit"],
            near_=_centres(state["near"], width),
            whole_=_centres(state["whole"], width),
            is_fitted_=True,
        )


def _is_blank(text: str) -> bool:
    return not text.strip()


def _unit(vectors: Matrix) -> Matrix:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Matrix = vectors / np.where(lengths > 0, lengths, 1.0)
    return unit


def _nearest(vectors: Matrix, centres: Matrix) -> NDArray[np.int64]:
    """The nearest centre of each vector, by Euclidean distance."""
    if not len(vectors):
        return np.zeros(0, dtype=np.int64)
    # The vectors' own lengths are the same for all centres, and are left out.
    distances = (centres**2).sum(axis=1) - 2 * vectors @ centres.T
    nearest: NDArray[np.int64] = distances.argmin(axis=1)
    return nearest


def _centres(state: Mapping[str, Any], width: int) -> Matrix:
    return unpacked(state["centres"], (int(state["cells"]), width))
