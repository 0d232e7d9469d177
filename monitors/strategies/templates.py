"""Strategies of free text, learned on round 0 and then frozen: clusters of step templates."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ouroloop.monitors.fence import Unreadable, attempt
from ouroloop.monitors.strategies.clusters import Clusters, Matrix
from ouroloop.monitors.strategies.masking import Step, steps

# Of the frozen file: a change of the features would give old centres another meaning.
VERSION = 1
# K-means takes time in texts times features; 5,000 texts place the centres well enough.
MAX_TEXTS = 5_000
MAX_FEATURES = 2_000
MAX_GRAM = 3


@dataclass
class Templates:
    """Clusters of the step templates of whole texts.

    A text is the set of what its steps do to numbers; how they are worded and how often one is
    repeated does not count. Of a text without numbers it is the set of its steps' word n-grams.
    The features are not weighted by rarity: what is rare here is mostly a coincidence of numbers,
    not a plan. A later text that is near no cluster is "new".

    Attributes:
        name: in messages and in the frozen file.
        clusters: learned by `fit`, once, on round 0's texts, and then frozen.
        min_share: features that fewer of the fitted texts have are left out.
        features_: learned likewise, in the order of the vectors.
        is_fitted_: whether `fit` was called.
    """

    name: str = "templates"
    clusters: Clusters = field(default_factory=Clusters)
    min_share: float = 0.02
    features_: tuple[str, ...] = ()
    is_fitted_: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_share < 1:
            raise ValueError(f"min_share: expected a share in [0, 1), got {self.min_share}")

    def fit(self, questions: Sequence[str], texts: Sequence[str]) -> Templates:
        """Learn the clusters of these texts, right and wrong ones alike.

        At most `MAX_TEXTS` are read, evenly spread over the sequence.

        Raises:
            ValueError: no text has any step.
        """
        chosen = _spread(list(zip(questions, texts, strict=True)))
        # Through the fence: one hostile text must not end the fit.
        read = (attempt(self.name, _read, question, text) for question, text in chosen)
        found = [features for features in read if features and not isinstance(features, Unreadable)]
        if not found:
            raise ValueError(
                f"{self.name}: expected texts with words or numbers to learn from, got {len(texts)}"
                " texts without any"
            )
        counts = Counter(feature for features in found for feature in features)
        least = self.min_share * len(found)
        # The name breaks ties, so that the same texts in another order give the same features.
        common = sorted(counts, key=lambda feature: (-counts[feature], feature))[:MAX_FEATURES]
        self.features_ = tuple(sorted(feature for feature in common if counts[feature] >= least))
        self.clusters.fit(np.array([self._vector(features) for features in found]))
        self.is_fitted_ = True
        return self

    def __call__(self, question: str, text: str) -> str | None:
        """The cluster's number, or "new"; None for a text without words and numbers.

        Raises:
            RuntimeError: `fit` was not called.
        """
        _demand_fitted(self.is_fitted_, self.name)
        features = _read(question, text)
        if not features:
            return None
        return self.clusters.label(self._vector(features))

    def _vector(self, features: set[str]) -> Matrix:
        """(D,), of length one, or zero when no feature is known."""
        # Presence, not frequency: a repeated step is the same plan.
        vector = np.array([float(feature in features) for feature in self.features_])
        length = float(np.linalg.norm(vector))
        return vector / length if length else vector

    def to_json(self) -> str:
        """All settings and all that was learned, so that a run can freeze it in its folder."""
        state = {
            "kind": self.name,
            "version": VERSION,
            "min_share": self.min_share,
            "features": self.features_,
        }
        state["clusters"] = self.clusters.state()
        return json.dumps(state, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Templates:
        """What `to_json` gave.

        Raises:
            ValueError: another kind or version, or clusters that do not fit the features.
        """
        state = _read_state(text, cls.name)
        features = tuple(str(feature) for feature in state["features"])
        clusters = Clusters.from_state(state["clusters"])
        if clusters.centres_.shape[1] != len(features):
            raise ValueError(
                f"templates: expected centres of {len(features)} features, got"
                f" {clusters.centres_.shape[1]}"
            )
        return cls(
            clusters=clusters,
            min_share=state["min_share"],
            features_=features,
            is_fitted_=True,
        )


def _read(question: str, text: str) -> set[str]:
    return _features(steps(question, text))


def _features(found: Sequence[Step]) -> set[str]:
    """What the steps do, whole and in part; of steps without numbers their word n-grams."""
    if not any(step.form for step in found):
        return {gram for step in found for gram in _grams(step.words)}
    features = set()
    # The whole form, and each pair of its first part and another: near forms share features.
    for form in {step.form for step in found if step.form}:
        parts = form.split(" ")
        features |= {form, *(f"{parts[0]}.{part}" for part in parts[1:])}
    return features


def _grams(words: Sequence[str]) -> Iterator[str]:
    for size in range(1, MAX_GRAM + 1):
        for start in range(len(words) - size + 1):
            yield "_".join(words[start : start + size])


def _spread(items: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """At most `MAX_TEXTS` of them, evenly spread."""
    stride = -(-len(items) // MAX_TEXTS) or 1  # rounded up
    return items[::stride]


def _demand_fitted(is_fitted: bool, name: str) -> None:
    if not is_fitted:
        raise RuntimeError(
            f"{name}: not fitted; call fit(questions, texts) on round 0's samples, or from_json on"
            " what a run has frozen"
        )


def _read_state(text: str, kind: str) -> dict[str, Any]:
    # The file may come from anywhere, or from another version of this code.
    state = json.loads(text)
    if not isinstance(state, dict) or (state.get("kind"), state.get("version")) != (kind, VERSION):
        raise ValueError(f"expected frozen {kind} of version {VERSION}, got something else")
    return state
