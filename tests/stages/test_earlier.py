"""What earlier rounds kept: told apart without its texts, and read only where it is drawn."""

import random
from dataclasses import replace

import pytest

from ouroloop.loop.config import DatasetConfig
from ouroloop.loop.errors import DamagedError
from ouroloop.loop.folder import tables
from ouroloop.loop.round import Round
from ouroloop.loop.rows import Example
from ouroloop.loop.stages.dataset import Sources, own_examples
from ouroloop.loop.stages.earlier import Kept, drawn, key_of
from ouroloop.loop.stages.reserve import Reserve


def example(number, strategy="a", origin="kept", round=1):
    return Example(
        f"p{number}",
        (1, number),
        tuple(range(number % 5)),
        f"text {number}",
        origin,
        round,
        strategy,
    )


ROWS = [
    [example(10 * i + j, "ab"[j % 2], round=i) for j in range(8)] + [example(99, "c", "archive")]
    for i in (1, 2, 3)
]
# Round 3 kept once more what round 1 had kept.
ROWS[2].append(replace(ROWS[0][1], round=3))


@pytest.fixture
def rounds(tmp_path):
    """Three committed rounds, and their examples on disk alone."""
    for number, rows in enumerate(ROWS, start=1):
        made = Round.of(tmp_path, number)
        made.examples = rows
        made.commit()
    return [Round.of(tmp_path, number) for number in (1, 2, 3)]


@pytest.fixture
def reads(monkeypatch):
    """The rounds whose records were read."""
    found, plain = [], tables.read_table

    def counted(path, record, rows=None):
        found.append((int(path.parent.name), None if rows is None else len(rows)))
        return plain(path, record, rows)

    monkeypatch.setattr(tables, "read_table", counted)
    return found


def test_the_same_examples_are_drawn_from_disk_as_from_memory(rounds, reads):
    in_memory, on_disk = [Kept.of(rows) for rows in ROWS], [Kept.in_round(r) for r in rounds]
    target, own = {"a": 0.3, "b": 0.7}, [example(500, "a"), ROWS[1][3]]
    for earlier in (on_disk, in_memory):
        reserve = Reserve.gather([], earlier, earlier[:1])
        archived, _ = reserve.refill(own, 9, target, random.Random(3))
        again = reserve.of_baseline(4, own, random.Random(3))
        policy = DatasetConfig(policy="accumulate_subsample", size=10)
        learnt = own_examples(Sources(own, reserve, earlier), policy, random.Random(3))
        found = (archived, again, learnt)
        if earlier is on_disk:
            first = found
    assert first == found
    assert len(archived) == 9 and {e.origin for e in archived} == {"archive"}
    assert len(again) == 4 and {e.origin for e in again} == {"baseline"}
    assert len(learnt) == 10 and {e.origin for e in learnt} == {"kept", "earlier"}
    assert ROWS[1][3].text not in {e.text for e in archived}, "it is learnt from already"
    texts = [e.text for e in archived]
    assert len(set(texts)) == len(texts), "what two rounds kept is drawn once"
    assert {number for number, _ in reads} <= {1, 2, 3}
    assert all(rows is not None and rows <= 9 for _, rows in reads), "only what was drawn"


def test_nothing_is_read_where_nothing_is_drawn(rounds, monkeypatch):
    monkeypatch.setattr(tables, "read_columns", None)
    kept = [Kept.in_round(round) for round in rounds]
    reserve = Reserve.gather([], kept, kept)
    assert reserve.refill([example(1)], 0, {"a": 1.0}, random.Random(0)) == ([], [])
    assert reserve.of_baseline(0, [], random.Random(0)) == []
    own = own_examples(Sources([example(1)], reserve, kept), DatasetConfig(), random.Random(0))
    assert own == [example(1)]


def test_a_rounds_table_is_looked_through_once_and_never_where_it_is_damaged(rounds, monkeypatch):
    found, plain = [], tables.read_columns
    monkeypatch.setattr(
        tables, "read_columns", lambda path, names: found.append(path) or plain(path, names)
    )
    for _ in range(3):
        assert len(list(Kept.in_round(rounds[0]).places())) == 8
    assert len(found) == 1
    path = rounds[1].folder / "examples.parquet"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DamagedError, match=r"002/examples\.parquet"):
        list(Kept.in_round(rounds[1]).places())


def test_a_key_is_that_of_the_token_ids_wherever_they_are(rounds):
    on_disk = [place.key for place in Kept.in_round(rounds[0]).places()]
    assert on_disk == [key_of(row) for row in ROWS[0] if row.origin == "kept"]
    assert key_of(replace(ROWS[0][0], text="other", strategy=None)) == on_disk[0]
    assert len(set(on_disk)) == 8


def test_what_is_drawn_comes_in_the_order_in_which_it_was_drawn(rounds):
    places = [place for round in rounds for place in Kept.in_round(round).places()]
    random.Random(1).shuffle(places)
    every = [row for rows in ROWS for row in rows if row.origin == "kept"]
    assert sorted(e.text for e in drawn(places, "earlier")) == sorted(e.text for e in every)
    assert [key_of(e) for e in drawn(places, "earlier")] == [place.key for place in places]


def test_who_drafted_a_kept_example_is_known_from_its_samples_id(tmp_path):
    made = Round.of(tmp_path, 2)
    ids = ["002/student/p0/0", "002/round0/p1/0", None]
    made.examples = [replace(example(i), sample_id=name) for i, name in enumerate(ids)]
    made.commit()
    for kept in (Kept.in_round(Round.of(tmp_path, 2)), Kept.of(made.examples)):
        assert [place.source for place in kept.places()] == ["student", "round0", ""]
