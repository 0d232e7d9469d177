"""Markers of doubt counted by hand.

The order-2 Vendi score compared with eigenvalues, explicit counts and inverse Simpson.
"""

import random
from collections import Counter

import numpy as np
import pytest

from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.metrics import similarity
from ouroloop.monitors.metrics.similarity import Similarity, ngram_cosines, unit
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
            RoundView(0, rows, rows.where(np.zeros(len(rows), dtype=bool))),
            None,
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
    embedded = Similarity(embed=lambda texts: x[[int(text) for text in texts]])
    name = "similarity/effective_number_all"
    found = read(embedded, samples([str(i) for i in range(12)]))[name]
    assert 1 / found.value * (1 - 1 / 12) + 1 / 12 == pytest.approx((eigenvalues**2).sum())
    assert np.isnan(read(embedded, samples(["0"]))[name].value), "one sample has no pair"


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


UNRELATED = (
    "The train leaves Oslo at nine.",
    "Quadratic forms diagonalise over R.",
    "My neighbour's cat hunts voles.",
    "Boil 3 eggs for 7 minutes!",
    "KERNEL PANIC: unable to mount root",
    "Jazz fugue by Zbigniew, 1958",
    "x^2 + y^2 = 25, so y = 4",
    "we lost both umbrellas downtown",
)


def ngram_counts(text):
    """Every 2, 3 and 4 bytes in a row, between one mark at either end."""
    marked = ["begin", *text.encode("utf-8", "surrogatepass"), "end"]
    return Counter(
        tuple(marked[i : i + size]) for size in (2, 3, 4) for i in range(len(marked) - size + 1)
    )


def mean_squared_cosine(texts):
    """Of two of these texts, by the eigenvalues of the plug-in estimate.

    Sum of squares = 1 / K + (1 - 1 / K) mean.
    """
    counts, num = [ngram_counts(text) for text in texts], len(texts)
    vocabulary = sorted({gram for count in counts for gram in count}, key=repr)
    vectors = np.array([[count[gram] for gram in vocabulary] for count in counts], dtype=float)
    vectors /= np.sqrt((vectors**2).sum(axis=1, keepdims=True))
    eigenvalues = np.linalg.eigvalsh(vectors @ vectors.T / num)
    return (float((eigenvalues**2).sum()) - 1 / num) / (1 - 1 / num)


def random_texts(num, seed):
    """Texts of 0 to 60 characters from few letters, so that n-grams recur.

    NUL, accents, emoji and a lone surrogate among them.
    """
    rng = random.Random(seed)
    letters = "aab 12=+\0é\U0001f40d\ud800"
    return ["".join(rng.choices(letters, k=rng.randint(0, 60))) for _ in range(num)]


def test_both_readings_are_those_of_explicit_ngram_counts_and_eigenvalues():
    sizes = (8, 2, 5, 1, 16)  # the problem with one sample has no pair
    texts = [random_texts(size, seed) for seed, size in enumerate(sizes)]
    texts[0][3] = texts[0][5]  # a copy within a problem
    problems = [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]
    correct = [int(i % 3 != 1) for i in range(len(problems))]
    order = np.random.default_rng(0).permutation(
        len(problems)
    )  # a problem's rows need not lie side by side
    flat = [text for group in texts for text in group]
    shuffled = samples(
        [flat[i] for i in order],
        [problems[i] for i in order],
        [correct[i] for i in order],
    )
    found = read(Similarity(), shuffled)

    def expected(keep):
        groups = [
            [t for t, p, c in zip(flat, problems, correct, strict=True) if p == name and keep(c)]
            for name in set(problems)
        ]
        return 1 / np.mean([mean_squared_cosine(group) for group in groups if len(group) > 1])

    assert found["similarity/effective_number_all"].value == pytest.approx(
        expected(lambda c: True),
        rel=1e-9,
    )
    assert found["similarity/effective_number_right"].value == pytest.approx(
        expected(lambda c: c == 1),
        rel=1e-9,
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("limit", [None, "FEW", "LONG"])
def test_every_cosine_is_that_of_the_explicit_counts(seed, limit, monkeypatch):
    """As one table; and where there are too many texts for one, or too many characters."""
    if limit:
        monkeypatch.setattr(similarity, limit, 4)
    texts = [*random_texts(12, seed), "", "", "4", "4", "\0ab", "ab"]
    counts = [ngram_counts(text) for text in texts]
    dot = np.array(
        [[sum(a[gram] * b[gram] for gram in a) for b in counts] for a in counts],
        dtype=float,
    )
    expected = dot / np.sqrt(np.outer(dot.diagonal(), dot.diagonal()))
    np.testing.assert_allclose(cosines(texts), expected, rtol=0, atol=1e-12)


def cosines(texts):
    """All texts as one problem's, (K, K)."""
    found = np.eye(len(texts))
    for i, j, cosine in ngram_cosines(texts, np.zeros(len(texts), dtype=np.int64)):
        found[i, j] = cosine
    return found


def test_portions_change_no_number_and_no_pair_joins_two_problems(monkeypatch):
    """A few characters and texts at a time, beside all problems in one portion."""
    sizes = (8, 1, 40, 3, 2, 5)
    texts = [text for seed, size in enumerate(sizes) for text in random_texts(size, seed)]
    problems = [f"p{i}" for i, size in enumerate(sizes) for _ in range(size)]
    correct = [int(i % 4 > 0) for i in range(len(texts))]
    rows = samples(texts, problems, correct)
    whole = {name: reading.to_json() for name, reading in read(Similarity(), rows).items()}
    monkeypatch.setattr(similarity, "CHUNK", 60)
    monkeypatch.setattr(similarity, "BLOCK", 7)
    pairs = list(ngram_cosines(texts, np.repeat(np.arange(len(sizes)), sizes)))
    assert len(pairs) > len(sizes), "several portions and blocks"
    for i, j, _ in pairs:
        assert [problems[k] for k in i] == [problems[k] for k in j] and (i != j).all()
    for name, reading in read(Similarity(), rows).items():
        for key in ("value", "low", "high", "num_clusters"):
            assert getattr(reading, key) == pytest.approx(whole[name][key], rel=1e-12)


def test_the_number_is_that_of_the_package_vendi_score_without_the_pairs_of_a_text_with_itself():
    vendi = pytest.importorskip("vendi_score.vendi", reason="needs vendi-score (extra dev)")
    texts = random_texts(9, 3)
    order_2 = float(vendi.score_K(cosines(texts), q=2))
    found = read(Similarity(), samples(texts))["similarity/effective_number_all"]
    # Its K / n has the diagonal too: 1 / V = 1 / n + (1 - 1 / n) x the mean over pairs.
    assert 1 / order_2 == pytest.approx(1 / 9 + (1 - 1 / 9) / found.value, rel=1e-6)


def test_a_text_that_cannot_hold_a_marker_is_not_searched_and_no_marker_is_missed():
    style, rng = Style(), random.Random(0)
    others = ("4", "awaited", "mighty", "PERHAPS", "\u017feems", "\u212a", "x.", "\u0130")
    pieces = (*style.markers, *others)
    for _ in range(500):
        text = "".join(rng.choice(("", " ", "-")) + rng.choice(pieces) for _ in range(4))
        assert style._count(text) == len(style._pattern.findall(text)), text


def test_unrelated_texts_count_as_many_and_copies_as_one():
    """A hash that mapped nearly all n-grams to the same few buckets read 1.21 here."""
    value = read(Similarity(), samples(UNRELATED))["similarity/effective_number_all"].value
    assert value > 8 and value == pytest.approx(1 / mean_squared_cosine(UNRELATED), rel=1e-9)
    for copied in (UNRELATED[0], "4", ""):
        assert read(Similarity(), samples([copied] * 8))[
            "similarity/effective_number_all"
        ].value == pytest.approx(1, abs=1e-12)


def test_a_collapse_from_many_texts_to_few_lowers_the_number_step_by_step():
    values = []
    for kinds in (8, 4, 2, 1):
        texts = [UNRELATED[i % kinds] for i in range(8)]
        values.append(read(Similarity(), samples(texts))["similarity/effective_number_all"].value)
    assert values == sorted(values, reverse=True)
    # Copies alone allow at most 28/4, 28/12 and 1 for 4, 2 and 1 kinds: pairs over pairs that are
    # copies.
    assert 5 < values[1] <= 7 and 2 < values[2] <= 28 / 12 and values[3] == pytest.approx(1)


def test_texts_without_anything_in_common_are_undefined_with_that_reason():
    found = read(Similarity(), samples(["ab", "cd", "ef"]))["similarity/effective_number_all"]
    assert found.status == "undefined" and "anything in common" in found.reason
    alone = read(Similarity(), samples(["ab", "cd"], problems=["p", "q"]))[
        "similarity/effective_number_all"
    ]
    assert alone.status == "undefined" and "two samples" in alone.reason


def test_an_embedding_is_called_once_on_the_different_texts():
    calls = []

    def embed(texts):
        calls.append(list(texts))
        return [[len(text), 1.0] for text in texts]

    found = read(
        Similarity(embed=embed),
        samples(["a", "bbb", "a", "bbb"], problems=["p", "p", "q", "q"]),
    )
    cosine = 4 / np.sqrt(2 * 10)
    assert calls == [["a", "bbb"]]
    assert found["similarity/effective_number_all"].value == pytest.approx(1 / cosine**2)


def test_wrong_samples_are_left_out_of_right():
    texts = [
        "3+4=7\nanswer 7",
        "4+3=7\nanswer 7",
        "first add ten, then take three away: answer 7",
        "jump by four from three to seven",
    ] * 2
    found = read(Similarity(), samples(texts, correct=[1, 1, 0, 0] * 2))
    right, every = (
        found["similarity/effective_number_right"].value,
        found["similarity/effective_number_all"].value,
    )
    assert 1 < right < every
    assert right == pytest.approx(1 / mean_squared_cosine(texts[:2] * 2), rel=1e-9)
