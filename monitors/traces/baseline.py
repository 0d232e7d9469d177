"""What a baseline file looks like it gets wrong, or a round that repeats another one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def gold_answers(columns: Mapping[str, list[Any]]) -> list[str]:
    """A warning when `answer` seems to be the right answer instead of the sample's."""
    given, judged = defaultdict(set), defaultdict(set)
    fields = (columns[name] for name in ("problem", "answer", "correct"))
    for problem, answer, correct in zip(*fields, strict=True):
        given[problem].add(answer)
        judged[problem].add(correct)
    # Only problems with right and wrong samples can show it: there the answers must differ.
    mixed = [p for p, seen in judged.items() if {0.0, 1.0} <= seen]
    if len(mixed) < 2 or any(len(given[p]) != 1 for p in mixed):
        return []
    return [
        f"WARNING: in all {len(mixed):,} problems with right and wrong samples these have"
        " one and the same `answer`; is it the right answer? Expected is the sample's own"
        " final answer. Leave the field out to have it read from the texts."
    ]


def few_samples(each: Sequence[float]) -> list[str]:
    """A remark when the baseline has no more samples than the rounds that it is compared with.

    Args:
        each: samples per problem of each round, over all families; no decision hangs on it.
    """
    # The median: a later baseline may have more samples than the other rounds.
    later = float(np.median(each[1:] or [0.0]))
    if each[0] >= 2 * later:
        return []
    samples = "sample" if each[0] == 1 else "samples"
    return [
        f"round 0 measures {each[0]:.3g} {samples} per problem, later rounds {later:.3g}: four"
        " times as many at the baseline see smaller losses"
    ]


def is_collapsed(columns: Mapping[str, list[Any]]) -> bool:
    """Whether all texts of each problem are one: then fresh samples can be the same rows again.

    One sample of each problem shows nothing of the kind.
    """
    problems, texts = columns["problem"], columns["text"]
    num_texts = len(set(zip(problems, texts, strict=True)))
    return num_texts == len(set(problems)) < len(problems) and None not in texts
