"""Likeness of texts by hand, and what a pool's revisions became."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ouroloop.monitors.base import Pool, RoundView, Samples
from ouroloop.monitors.metrics.revisions import Revisions, likeness

TEXTS = st.text(max_size=40)


@given(TEXTS, TEXTS)
def test_likeness_is_symmetric_and_between_0_and_1(one, other):
    assert 0.0 <= likeness(one, other) == likeness(other, one) <= 1.0
    assert likeness(one, one) == 1.0


def test_likeness_counts_runs_of_four_characters():
    # abcd bcde cdef | abcd bcde cdeg: two of four
    assert likeness("abcdef", "abcdeg") == pytest.approx(2 / 4)
    assert likeness("I cannot help.", "  i CANNOT\n help. ") == 1.0
    assert likeness("", "") == 1.0
    assert likeness("", "a text") == 0.0
    # Of a script without blanks between words, too.
    assert likeness("我不能帮助你做这件事", "我不能帮助你做那件事") == pytest.approx(4 / 10)


def test_a_quoted_part_is_as_like_as_it_is_long():
    better = "Please see a doctor about it."
    critique = f"It is harmful to tell people how to treat a wound at home. Better: {better}"
    assert likeness(better, critique) < 0.5
    assert likeness(critique.replace("harmful", "dangerous"), critique) > 0.7


def read(*likenesses):
    """The readings of one sample a problem, each with its likeness to (critique, draft)."""
    num = len(likenesses)
    like_critique, like_draft = np.array(likenesses, dtype=float).T
    names = np.array([f"p{i}" for i in range(num)], dtype=object)
    nothing, nan = np.full(num, None, dtype=object), np.full(num, np.nan)
    kept = np.ones(num, dtype=bool)
    pool = Pool(names, nothing, nothing, nan, kept, nothing)
    pool = replace(pool, like_critique=like_critique, like_draft=like_draft)
    no_rows = Samples(*[np.zeros(0)] * 11)
    view = RoundView(1, no_rows, no_rows, pool=pool)
    return {r.estimand.statistic: r for r in Revisions().measure(view, None)}


def test_shares_are_of_what_was_revised():
    found = read((0.5, 0.1), (0.49, 1.0), (None, 1.0), (None, None))
    assert found["revision/copied_critique"].value == pytest.approx(1 / 2)
    assert found["revision/unchanged"].value == pytest.approx(2 / 3)


def test_without_revisions_both_say_why():
    found = read((None, None), (None, None))
    assert [r.reason for r in found.values()] == [
        "no text was revised after a critique",
        "no text was revised",
    ]
    direct = read((None, 0.3))
    assert direct["revision/unchanged"].value == 0.0
    assert direct["revision/copied_critique"].reason == "no text was revised after a critique"
