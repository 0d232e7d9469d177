"""Rules that every monitor keeps, whatever it measures."""

import dataclasses
import functools
import json
import re
import time

import numpy as np
import pytest
from simulated_panel import critics, joined, pool, samples, texts, view

from ouroloop.monitors.base import RoundView, Samples
from ouroloop.monitors.registry import MONITORS, measure_all

NAMES = sorted(MONITORS)


@functools.cache  # monitors change nothing that they read; a test below holds them to it
def rounds(**model):
    rng = np.random.default_rng(0)
    # Clusters are strategies here: what is measured of them is measured of any labels.
    first, second = (
        dataclasses.replace(each, probe=edited(each.probe, cluster=each.probe.strategy))
        for each in (view(rng, 0, **model), view(rng, 1, **model))
    )
    return first, second


def edited(probe: Samples, **columns):
    return dataclasses.replace(probe, **columns)


PARTS = ("probe", "greedy", "critics", "pool", "texts", "audit", "judge", "traces")


def rows(part, chosen):
    """The chosen rows of any part of a view; a column that is not known stays unknown."""
    if isinstance(part, Samples):
        return part.where(chosen)
    columns = {f.name: getattr(part, f.name) for f in dataclasses.fields(part)}
    return type(part)(
        **{name: None if column is None else column[chosen] for name, column in columns.items()}
    )


def shuffled(view, rng):
    """The same view with the rows of every part in another order."""
    parts = {name: part for name in PARTS if (part := getattr(view, name)) is not None}
    return dataclasses.replace(
        view,
        **{name: rows(p, rng.permutation(len(p.problem))) for name, p in parts.items()},
    )


def flat(value, path=""):
    """Every leaf of a reading's details, with its path."""
    if isinstance(value, dict):
        return [leaf for key in sorted(value) for leaf in flat(value[key], f"{path}/{key}")]
    if isinstance(value, list):
        return [leaf for i, item in enumerate(value) for leaf in flat(item, f"{path}/{i}")]
    return [(path, value)]


def check(readings):
    """What holds for every reading at all."""
    assert readings
    assert len({r.name for r in readings}) == len(readings)
    for reading in readings:
        assert reading.status in ("ok", "undefined"), reading
        assert np.isnan(reading.value) == (reading.status == "undefined"), reading
        if reading.status == "undefined":
            assert len(reading.reason) > 10, reading
        else:
            assert reading.num_clusters > 0, reading
            assert np.isnan(reading.low) or reading.low <= reading.value + 1e-12, reading
            assert np.isnan(reading.high) or reading.value <= reading.high + 1e-12, reading
        json.dumps(dict(reading.details), allow_nan=False)
    return readings


@functools.cache
def kinds(name):
    """Unit and direction of each reading of a healthy round, which undefined ones must have too."""
    first, second = rounds()
    return {any_size(r.name): (r.unit, r.better) for r in MONITORS[name].measure(second, first)}


def any_size(name):
    """The id whatever number of samples it names: a damaged probe has fewer."""
    return re.sub(r"@\d+", "@n", name)


def check_kinds(name, readings):
    for reading in readings:
        assert kinds(name)[any_size(reading.name)] == (reading.unit, reading.better), reading


def same(left, right):
    assert [r.name for r in left] == [r.name for r in right]
    for a, b in zip(left, right, strict=True):
        assert (a.value, a.low, a.high) == pytest.approx(
            (b.value, b.low, b.high),
            abs=1e-9,
            nan_ok=True,
        ), a.name
        assert (a.status, a.reason, a.num_clusters) == (b.status, b.reason, b.num_clusters)
        for (path, x), (other, y) in zip(flat(dict(a.details)), flat(dict(b.details)), strict=True):
            assert path == other
            assert x == (pytest.approx(y, abs=1e-9) if isinstance(y, float) else y), (a.name, path)


DAMAGES = {
    "no rows": lambda p: p.where(np.zeros(len(p), dtype=bool)),
    "nothing scored": lambda p: edited(p, correct=np.full(len(p), np.nan)),
    "all numbers missing": lambda p: edited(
        p,
        **{
            k: np.full(len(p), np.nan)
            for k in ("correct", "valid", "nll", "num_tokens", "truncated")
        },
    ),
    "no strategies": lambda p: edited(p, strategy=np.full(len(p), None, dtype=object)),
    "no answers": lambda p: edited(p, answer=np.full(len(p), None, dtype=object)),
    "all wrong": lambda p: edited(p, correct=np.zeros(len(p))),
    "all right": lambda p: edited(p, correct=np.ones(len(p))),
    "one sample per problem": lambda p: p.where(np.arange(len(p)) % 8 == 0),
    "one problem": lambda p: p.where(p.problem == p.problem[0]),
    "one row": lambda p: p.where(np.arange(len(p)) == 0),
    "half of the numbers missing": lambda p: edited(
        p,
        correct=np.where(np.arange(len(p)) % 2 == 0, p.correct, np.nan),
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_it_reads_a_healthy_round_and_round_0_and_says_the_same_twice(name):
    first, second = rounds()
    check(MONITORS[name].measure(first, None))
    readings = check(MONITORS[name].measure(second, first))
    assert all(r.status == "ok" for r in readings)
    same(readings, MONITORS[name].measure(second, first))


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_rows_does_not_matter(name):
    first, second = rounds()
    rng = np.random.default_rng(1)
    same(
        MONITORS[name].measure(second, first),
        MONITORS[name].measure(shuffled(second, rng), shuffled(first, rng)),
    )


@pytest.mark.parametrize("name", NAMES)
def test_it_changes_nothing(name):
    first, second = rounds()
    for part in (
        p for v in (first, second) for name in PARTS if (p := getattr(v, name)) is not None
    ):
        for column in dataclasses.fields(part):
            values = getattr(part, column.name)
            # Approvals are a mapping of columns; a column may not be known of any row.
            for array in values.values() if column.name == "approvals" else (values,):
                if array is not None:
                    array.setflags(write=False)
    check(MONITORS[name].measure(second, first))


@pytest.mark.parametrize("damage", sorted(DAMAGES))
@pytest.mark.parametrize("name", NAMES)
def test_damaged_rounds_are_undefined_with_a_reason_and_the_same_unit_never_an_error_or_a_zero(
    name,
    damage,
):
    first, second = rounds()
    nothing = dict.fromkeys(PARTS[1:])
    broken = dataclasses.replace(second, probe=DAMAGES[damage](second.probe), **nothing)
    for now, then in ((broken, first), (second, broken), (broken, None), (broken, broken)):
        readings = MONITORS[name].measure(now, then)
        for reading in readings:
            check([reading])
        if now is broken:
            check_kinds(name, readings)


def blind(part, *columns):
    """The part with these columns unknown in every row."""
    return dataclasses.replace(part, **{c: np.full(len(part.problem), np.nan) for c in columns})


def none_of(part):
    return rows(part, slice(0, 0))


class Watched:
    """A view that notes which of its parts were looked at."""

    def __init__(self, view):
        self.view, self.read = view, set()

    def __getattr__(self, name):
        self.read.add(name)
        return getattr(self.view, name)


@functools.cache
def parts_read(name):
    """The parts of a round that a monitor looks at."""
    first, second = rounds()
    watched = Watched(second)
    MONITORS[name].measure(watched, first)
    return watched.read


def test_every_part_of_a_round_is_read_by_some_monitor():
    assert {part for name in NAMES for part in parts_read(name)} >= set(PARTS) - {"greedy"}


OTHER_DAMAGES = {
    "critics say nothing": lambda v: {
        "critics": blind(v.critics, "approved", "probability", "agreement")
    },
    "critics of unknown truth": lambda v: {"critics": blind(v.critics, "correct")},
    "critics of right drafts only": lambda v: {
        "critics": dataclasses.replace(v.critics, correct=np.ones(len(v.critics.problem)))
    },
    "empty pool": lambda v: {"pool": none_of(v.pool)},
    "pool with nothing kept": lambda v: {
        "pool": dataclasses.replace(v.pool, kept=np.zeros(len(v.pool.kept), dtype=bool))
    },
    "pool with everything kept": lambda v: {
        "pool": dataclasses.replace(v.pool, kept=np.ones(len(v.pool.kept), dtype=bool))
    },
    "pool of one row": lambda v: {"pool": rows(v.pool, slice(0, 1))},
    "pool of one problem": lambda v: {"pool": rows(v.pool, v.pool.problem == v.pool.problem[0])},
    "pool without gold": lambda v: {"pool": blind(v.pool, "correct")},
    "pool that knows the least": lambda v: {
        "pool": dataclasses.replace(
            blind(v.pool, "correct"),
            strategy=np.full(len(v.pool.kept), None, dtype=object),
            valid=None,
            approved=None,
            text=None,
            slice=None,
        )
    },
    "no texts": lambda v: {"texts": none_of(v.texts)},
    "texts of one problem": lambda v: {
        "texts": rows(v.texts, v.texts.problem == v.texts.problem[0])
    },
    "texts without entropy": lambda v: {"texts": blind(v.texts, "entropy")},
    "texts without anything": lambda v: {"texts": blind(v.texts, "entropy", "nll", "num_tokens")},
    "no audit items": lambda v: {"audit": none_of(v.audit)},
    "audit items without verdict": lambda v: {"audit": blind(v.audit, "accepted")},
    "no judgement": lambda v: {"judge": none_of(v.judge)},
    "judgements without verdict": lambda v: {"judge": blind(v.judge, "approved", "num_tokens")},
    "planted items only": lambda v: {"judge": rows(v.judge, v.judge.problem == "item1")},
    "right audit items only": lambda v: {"audit": rows(v.audit, v.audit.right == 1)},
}


@pytest.mark.parametrize("damage", sorted(OTHER_DAMAGES))
def test_damaged_critics_pools_texts_and_audit_items_are_undefined_with_a_reason_and_the_same_unit(
    damage,
):
    first, second = rounds()
    broken_parts = OTHER_DAMAGES[damage](second)
    broken = dataclasses.replace(second, **broken_parts)
    # The others cannot notice: they do not look at what is broken.
    readers = [name for name in NAMES if parts_read(name) & set(broken_parts)]
    assert readers
    for name in readers:
        for then in (first, None):
            check_kinds(name, check(MONITORS[name].measure(broken, then)))


def hurt(part, rng):
    """The part with random rows and values gone, or None."""
    if part is None or rng.random() < 0.15:
        return None
    part = rows(part, rng.random(len(part.problem)) < rng.choice([0.0, 0.02, 0.1, 0.5, 1.0]))
    broken = {}
    for name in (f.name for f in dataclasses.fields(part)):
        column = getattr(part, name)
        if (
            column is None
            or name in ("problem", "family", "slice", "kept", "reason", "right", "approvals")
            or name in ("criterion", "principle")
            or rng.random() < 0.6
        ):
            continue
        gone = {
            "text": rng.choice(["", "\ud800 cut", "a" * 500]),
            "strategy": None,
            "answer": None,
            "cluster": None,
        }.get(name, np.nan)
        broken[name] = np.where(rng.random(len(column)) < rng.choice([0.1, 0.5, 1.0]), gone, column)
    return dataclasses.replace(part, **broken)


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_whatever_is_missing_no_monitor_raises_warns_or_leaves_out_a_reason():
    rng = np.random.default_rng(0)
    for _ in range(60):
        first, second = rounds()
        none = first.probe.where(np.zeros(len(first.probe), dtype=bool))
        now, then = (
            dataclasses.replace(
                v,
                probe=hurt(v.probe, rng) or none,
                **{part: hurt(getattr(v, part), rng) for part in PARTS[1:]},
            )
            for v in (second, first)
        )
        for pair in ((now, then), (now, first), (second, then), (then, None)):
            check(measure_all(*pair))


def test_a_monitor_that_raises_becomes_an_error_reading_and_the_others_still_read():
    class Broken:
        name = "broken"

        def measure(self, view, reference):
            raise ZeroDivisionError("no such thing")

    first, second = rounds()
    readings = measure_all(second, first, {"broken": Broken(), **MONITORS})
    assert readings[0].status == "error" and np.isnan(readings[0].value)
    assert "broken" in readings[0].reason and "no such thing" in readings[0].reason
    assert len(readings) == 1 + len(measure_all(second, first))


@pytest.mark.slow
def test_a_round_of_200_x_16_is_read_within_a_second_and_time_grows_with_the_rows_only():
    def seconds(num_problems, times):
        rng = np.random.default_rng(0)
        drawn = pool(rng, num_problems, 4)
        sides = [
            RoundView(
                i,
                samples(rng, num_problems, 16),
                None,
                critics(rng),
                drawn,
                texts(rng, num_problems),
            )
            for i in range(2)
        ]
        best = np.inf
        for _ in range(times):
            start = time.process_time()
            measure_all(sides[1], sides[0])
            best = min(best, time.process_time() - start)
        return best

    # Once for the large one: what disturbs a long measurement is small beside it.
    small, large = seconds(200, times=3), seconds(2_000, times=1)
    assert small < 1.0
    assert large < 25 * small


@pytest.mark.slow
def test_a_strategy_per_sample_costs_no_more_than_a_few():
    rng = np.random.default_rng(0)
    probe = samples(rng, 200, 16)
    probe = edited(probe, strategy=np.array([f"s{i}" for i in range(len(probe))], dtype=object))
    start = time.process_time()
    check(measure_all(RoundView(1, probe), RoundView(0, probe)))
    assert time.process_time() - start < 2.0


def test_families_do_not_leak_into_each_other():
    rng = np.random.default_rng(0)
    main, other = samples(rng, 30), samples(rng, 10, family="other", accuracy=0.1, spread=0.0)
    alone = {r.name: r for r in MONITORS["accuracy"].measure(RoundView(0, main), None)}
    both = {
        r.name: r for r in MONITORS["accuracy"].measure(RoundView(0, joined(main, other)), None)
    }
    assert alone["accuracy/pass@1:main"] == both["accuracy/pass@1:main"]
    assert both["accuracy/pass@1:other"].value < 0.3
