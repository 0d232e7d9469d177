"""Markers of doubt counted by hand.

And the order-2 Vendi score held against eigenvalues, inverse Simpson and simulated truth.
"""

import numpy as np
import pytest

from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.metrics.similarity import Similarity, squared_cosine, unit
from ouroloop.monitors.metrics.style import Style


def samples(texts, problems=None, correct=None):
    num = len(texts)
    fixed = {"family": "f", "slice": "typical", "strategy": None, "answer": None}
    objects = {
        "problem": problems or ["p"] * num,
        **{name: [value] * num for name, value in fixed.items()},
    }
    columns = {}
    for name, values in (*objects.items(), ("text", texts)):
        columns[name] = np.empty(num, dtype=object)
        columns[name][:] = values
    nan = np.full(num, np.nan)
    right = np.array(correct, dtype=float) if correct else np.ones(num)
    return Samples(**columns, correct=right, valid=nan, nll=nan, num_tokens=nan, truncated=nan)


def read(monitor, rows):
    return {
        r.name: r
        for r in monitor.measure(
            RoundView(0, rows, rows.where(np.zeros(len(rows), dtype=bool))), None
        )
    }


def test_hedging_counts_whole_words_in_any_case():
    texts = ["Maybe 4", "the awaited mighty answer 4", "4. WAIT, no: 5", "I think so", "4"]
    found = read(Style(), samples(texts, correct=[1, 1, 0, 0, 1]))["style/hedging"]
    assert found.value == pytest.approx(3 / 5)
    assert (
        found.details["right"]["value"] == pytest.approx(1 / 3)
        and found.details["wrong"]["value"] == 1
    )
    assert found.details["per_1000_chars"] == pytest.approx(1000 * 3 / sum(map(len, texts)))
    assert (
        read(Style(markers=["vielleicht"]), samples(["Vielleicht 4", "4"]))["style/hedging"].value
        == 0.5
    )


def test_without_texts_both_are_undefined_with_a_reason():
    for monitor in (Style(), Similarity()):
        for found in read(monitor, samples([None, None])).values():
            assert np.isnan(found.value) and found.status == "undefined" and "text" in found.reason


def test_the_pair_sum_is_that_of_the_gram_matrix_without_its_diagonal():
    rng = np.random.default_rng(0)
    x = unit(rng.normal(size=(12, 5)))
    eigenvalues = np.linalg.eigvalsh(
        x @ x.T / 12
    )  # plug-in RKE is 1 / sum of their squares (Ospanov & Farnia 2410.21719, equation 5)
    off_diagonal = squared_cosine(x) * (1 - 1 / 12) + 1 / 12
    assert off_diagonal == pytest.approx(float((eigenvalues**2).sum()))
    assert np.isnan(squared_cosine(x[:1]))


@pytest.mark.slow
def test_one_hot_vectors_give_the_inverse_simpson_index_without_bias():
    """Zipf over 50 kinds, 16 samples.

    The plug-in estimate of 12.5 is 8.0, the U-statistic lies within its error of the truth.
    """
    share = 1 / np.arange(1, 51)
    share /= share.sum()
    rng = np.random.default_rng(1)
    kinds = rng.choice(50, (1500, 16), p=share)
    texts = [str(k) for k in kinds.ravel()]
    problems = [f"p{i}" for i in range(1500) for _ in range(16)]
    one_hot = Similarity(embed=lambda texts: np.eye(50)[[int(t) for t in texts]])
    found = read(one_hot, samples(texts, problems))["similarity/effective_number_all"]
    truth = 1 / float((share**2).sum())
    assert found.low < truth < found.high and found.high - found.low < 0.8


def test_characters_tell_copies_from_paraphrases_from_other_texts_and_wrong_samples_are_left_out_of_right():
    same = ["3+4=7\nanswer 7"] * 8
    other = [
        "3+4=7\nanswer 7",
        "4+3=7\nanswer 7",
        "first add ten, then take three away: answer 7",
        "jump by four from three to seven",
    ] * 2
    assert read(Similarity(), samples(same))[
        "similarity/effective_number_all"
    ].value == pytest.approx(1)
    found = read(Similarity(), samples(other, correct=[1, 1, 0, 0] * 2))
    assert (
        1
        < found["similarity/effective_number_right"].value
        < found["similarity/effective_number_all"].value
        < 4
    )
