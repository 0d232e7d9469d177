"""A million traces: columns that know their codes, and memory that does not grow with problems."""

import json
import tracemalloc

import numpy as np
import pytest
from simulated_panel import objects

from ouroloop.monitors import columns
from ouroloop.monitors.base import RoundView
from ouroloop.monitors.columns import Column, codes, counts, distinct, indexed, is_among
from ouroloop.monitors.metrics.repetition import Repetition, _hash, _in_order
from ouroloop.monitors.metrics.similarity import Similarity
from ouroloop.monitors.registry import measure_all
from ouroloop.monitors.traces.reader import TraceReader

VALUES = ["b", None, "a", "c", "b", 3, "a", "é", ""]


def rows(num_problems, seed=0, samples=4):
    rng = np.random.default_rng(seed)
    for problem in range(num_problems):
        for _ in range(samples):
            a, b = map(int, rng.integers(2, 90, 2))
            yield {
                "problem": f"p{problem}",
                "family": f"f{problem % 3}",
                "slice": "tail" if problem % 4 == 0 else "typical",
                "strategy": rng.choice(["x", "y", "z"]).item() if a % 5 else None,
                "answer": str(b % 7),
                "text": f"First {a} + {b} = {a + b}. " * (1 + b % 3),
                "correct": bool(a % 3),
                "num_tokens": a + b,
                "nll": a / 100,
                "truncated": b % 9 == 0,
            }


def view_of(given, number=0):
    view = TraceReader().read((f"row {i}", row) for i, row in enumerate(given))
    return RoundView(number, view.probe)


def test_the_codes_of_any_part_are_those_of_a_plain_array():
    rng = np.random.default_rng(0)
    plain = objects(VALUES * 5)
    column = Column.of(plain)
    for _ in range(50):
        mask = rng.random(len(column)) < rng.random()
        part, expected = column[mask], codes(plain[mask])
        assert codes(part)[0] == expected[0] and (codes(part)[1] == expected[1]).all()
        twice = rng.random(len(part)) < 0.5
        again = codes(part[twice])
        assert again[0] == codes(plain[mask][twice])[0]
        assert (again[1] == codes(plain[mask][twice])[1]).all()


def test_a_whole_column_is_sorted_once_however_often_its_parts_are_read(monkeypatch):
    sorted_columns = []
    before = columns._sorted_codes
    monkeypatch.setattr(
        columns, "_sorted_codes", lambda values: sorted_columns.append(1) or before(values)
    )
    column = Column.of(objects(VALUES))
    for start in range(5):
        codes(column[np.arange(len(column)) > start])
    assert sorted_columns == [1]


def test_writing_into_a_column_forgets_its_codes_and_what_is_computed_is_a_plain_array():
    column = Column.of(objects(["a", "b"]))
    assert codes(column)[0] == ["a", "b"]
    column[0] = "z"
    assert codes(column)[0] == ["b", "z"] and list(column) == ["z", "b"]
    assert type(column == "z") is np.ndarray and (column == "z").tolist() == [True, False]


def test_questions_about_a_column_are_answered_as_row_by_row():
    for values in (objects(VALUES), Column.of(objects(VALUES))):
        assert is_among(values, ["a", "é"]).tolist() == [v in ("a", "é") for v in VALUES]
        known = ["c", "a", "unused"]
        at = [known.index(v) if v in known else -1 for v in VALUES]
        assert indexed(values, known).tolist() == at
        assert counts(values) == {"": 1, "a": 2, "b": 2, "c": 1, "é": 1}


def test_rows_are_distinct_as_whole_rows_are():
    rng = np.random.default_rng(1)
    fields = [rng.integers(0, 3, 200), rng.choice([0.0, 1.0, np.nan], 200), rng.integers(0, 4, 200)]
    ranks = [np.unique(field, return_inverse=True)[1] for field in fields]
    expected = np.unique(np.stack(ranks, axis=1), axis=0, return_inverse=True)[1].ravel()
    assert distinct(fields).tolist() == expected.tolist()


def test_blocks_of_windows_are_those_of_all_rows_sorted_by_their_hashes():
    probe = view_of(rows(30)).probe
    found = Repetition(num_windows=8, most_blocks=3)
    names = [name for name, _, _ in _in_order(probe)]
    keyed = sorted(
        (_hash(p), p, _hash(t), t) for p, t in zip(probe.problem, probe.text, strict=True)
    )
    assert names == [p for _, p, _, _ in keyed]
    windows = [window for block in found.blocks(probe) for window in block]
    expected = [found._window(text, key) for _, _, key, text in keyed]
    assert windows and all(w in set(expected) or len(w) < found.window_bytes for w in windows)


def test_no_reading_depends_on_the_order_of_the_rows():
    given = list(rows(24))
    shuffled = [given[i] for i in np.random.default_rng(2).permutation(len(given))]
    first, second = (
        [reading.to_json() for reading in measure_all(view_of(each), None)]
        for each in (given, shuffled)
    )
    assert len(first) == len(second) > 40
    for one, other in zip(first, second, strict=True):
        assert (one["id"], one["reason"]) == (other["id"], other["reason"])
        if one["value"] is None:
            assert other["value"] is None
        else:
            assert other["value"] == pytest.approx(one["value"], rel=1e-12)


def test_rows_that_say_the_same_share_one_string():
    raw = [json.loads(json.dumps(row)) for row in rows(2)]
    probe = view_of(raw).probe
    assert len({id(problem) for problem in probe.problem.tolist()}) == 2


def peak(num_problems, samples):
    """Bytes that similarity needs beside the texts themselves."""
    view = view_of(rows(num_problems, samples=samples))
    codes(view.probe.text), codes(view.probe.problem)
    tracemalloc.start()
    Similarity().measure(view, None)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


@pytest.mark.slow
def test_similarity_takes_little_memory_whether_problems_or_samples_are_many():
    few, many = peak(2_000, 4), peak(6_000, 4)
    # The portions are as large in both; what grows are a few numbers for each row.
    assert many - few < 4_000 * 4 * 400 and many < 64 * 2**20
    # Not problems x samples x n-grams: 16,384 columns of counts for each of them took 120 MiB.
    assert peak(1, 1_000) < 90 * 2**20
