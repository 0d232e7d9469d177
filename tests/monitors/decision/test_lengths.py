"""Lengths of samples: their unit, and which of them are usual."""

import numpy as np
import pytest
from simulated_panel import samples

from ouroloop.monitors.decision.lengths import Unit, lengths, units, usual

ENGLISH = "Sure, here is a plan; see https://example.org/a-very-long-address-of-a-page for more."
CHINESE = "好的，我们先看一下这个问题的背景和原因。"


def of_texts(texts, **columns):
    probe = samples(np.random.default_rng(0), num_problems=1, num_samples=len(texts))
    values = {"text": np.array(texts, dtype=object), "num_tokens": np.full(len(texts), np.nan)}
    return type(probe)(**{**vars(probe), **values, **columns})


def test_text_without_blanks_is_as_long_as_its_characters():
    """A Chinese answer of any length was one word: half of it could go unseen."""
    probe = of_texts([CHINESE, CHINESE * 2, ""])
    unit = units(probe)
    assert set(unit.values()) == {Unit.CHARACTERS}
    num = float(len(CHINESE))
    assert lengths(probe, unit).tolist()[:2] == [num, 2 * num]
    assert np.isnan(lengths(probe, unit)[2])


def test_the_unit_of_words_and_of_tokens_is_as_it_was():
    probe = of_texts([ENGLISH, "Donaudampfschifffahrtsgesellschaft ist ein Wort."])
    assert lengths(probe, units(probe)).tolist() == [9.0, 4.0]
    counted = of_texts([CHINESE, CHINESE], num_tokens=np.array([3.0, 5.0]))
    assert lengths(counted, units(counted)).tolist() == [3.0, 5.0]


def test_the_unit_is_the_familys_own_and_frozen_with_the_baseline():
    family = np.array(["en", "zh"], dtype=object)
    unit = units(of_texts([ENGLISH, CHINESE], family=family))
    assert unit == {"en": Unit.WORDS, "zh": Unit.CHARACTERS}
    # A round that answers Chinese prompts in English is counted as the baseline was.
    assert lengths(of_texts(["a bc", "a bc"], family=family), unit).tolist() == [2.0, 3.0]


@pytest.mark.parametrize("num", [20, 41, 160])
def test_fresh_lengths_are_as_usual_as_those_that_the_band_was_taken_from(num):
    rng = np.random.default_rng(num)
    then, now = [], []
    for _ in range(2000):
        # Of uniform values the share between two ends is their distance.
        x_N = rng.random(num)
        low, high = usual(x_N)
        then.append(((x_N >= low) & (x_N <= high)).mean())
        now.append(high - low)
    assert 0.9 <= np.mean(then) <= 0.96
    # It was up to 0.04 less for 20, and never the other way round.
    assert -0.001 < np.mean(now) - np.mean(then) < 0.01


def test_lengths_that_do_not_differ_are_all_usual():
    assert usual(np.array([7.0] * 9)) == (7.0, 7.0)
    low, high = usual(np.array([7.0, np.nan]))
    assert low < 7.0 < high and np.isfinite([low, high]).all()
    assert np.isnan(usual(np.array([np.nan]))).all()
