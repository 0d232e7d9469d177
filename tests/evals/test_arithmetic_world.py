"""The small world: what it claims to know must be true."""

import random
from itertools import islice

import pytest

from ouroloop.evals.worlds.arithmetic import strategies as st
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import FAMILY_MIX, ArithmeticTask

TASK = ArithmeticTask()
FIRST_HELD_OUT = ("5fa2ae1121fa", "5b309ce2afac", "58c6fb39c165")


def draws(families, count, seed=0):
    rng = random.Random(seed)
    for _ in range(count):
        family = rng.choice(families)
        item = world.draw(family, "train", rng)
        yield item, world.pick_strategy(family, item.metadata["a"], rng), rng


def test_every_demonstration_is_right_and_carries_its_own_strategy():
    for item, strategy, _ in draws(list(st.STRATEGIES), 4000):
        text = world.demonstrate(item, strategy)
        assert TASK.grade(item, text).correct, text
        assert TASK.check_steps(item, text).valid, text
        assert TASK.strategy(item, text) == strategy, text


def test_every_slip_is_found_by_the_step_checker_and_not_before_it_happens():
    for item, strategy, rng in draws(list(st.STRATEGIES), 3000, seed=1):
        right, wrong = world.demonstrate(item, strategy), world.slip(item, strategy, rng)
        check = TASK.check_steps(item, wrong)
        assert check.valid is False and check.first_wrong is not None
        same = 0
        for a, b in zip(right.split("\n"), wrong.split("\n"), strict=False):
            if a != b:
                break
            same += 1
        assert check.first_wrong == same, (right, wrong)


@pytest.mark.parametrize(
    ("text", "strategy", "first_wrong"),
    [
        ("47+35; 7+5=12; 4+3+1=8; answer 82", "column", None),
        ("47+35; 7+5=12; 4+3=7; answer 72", "column", 2),
        ("47+35; 40+30=70; 7+5=12; 70+12=82; answer 82", "split", None),
        ("47+35; 40+30=70; 7+5=13; 70+13=83; answer 83", "split", 2),
        ("47+35; 47+3=50; 50+35=85; 85-3=82; answer 82", "compensate", None),
        ("47+35; 47+30=77; 77+5=82; answer 82", "jump", None),
        ("47+35; 47+30=77; 77+5=82; answer 28", "jump", 3),
        ("47+35; 47+30=77; answer 82", "jump", 2),
        ("47+35; 47+30=77; 77+5=82; 82+0=82; answer 82", "jump", 3),
        ("47+35; 47+35=82; answer 82", None, 0),
        ("47+53; 7+3=10; 4+5+1=10; answer 100", "column", 0),
        ("47*35; 7+5=12; 4+3+1=8; answer 82", None, 0),
    ],
)
def test_a_trace_of_47_plus_35_is_read_as_a_person_would(text, strategy, first_wrong):
    reading = st.read("sum2", 47, 35, st.parse(text.replace("; ", "\n")))
    assert (reading.strategy, reading.first_wrong) == (strategy, first_wrong)


def test_a_right_answer_by_wrong_steps_is_right_but_not_valid():
    item = world.problem("sum2", 47, 35, random.Random(0))
    text = "47+35\n7+5=13\n4+3+1=8\nanswer 82"
    assert TASK.grade(item, text).correct and TASK.check_steps(item, text).valid is False


@pytest.mark.parametrize(
    "text",
    [
        "",
        "answer",
        "answer 82 and more",
        "7+5",
        "answer " + "9" * 500,
        "82",
        "answer 8 2",
        "\x00; answer 1",
    ],
)
def test_junk_is_wrong_and_never_raises(text):
    item = world.problem("sum2", 47, 35, random.Random(0))
    assert TASK.grade(item, text).correct is False
    assert TASK.check_steps(item, text).valid is False
    assert TASK.strategy(item, text) is None


def test_splits_never_share_a_pair_of_numbers_in_either_order():
    seen = {}
    for split in ("train", "reserve", "heldout"):
        for item in TASK.problems(split):
            kind = "sum" if item.family.startswith("sum") else item.family
            key = (kind, *sorted((item.metadata["a"], item.metadata["b"])))
            assert seen.setdefault(key, split) == split, (item, seen[key], split)
    rows = islice(world.demonstrations("pretrain", 3, 0.5, FAMILY_MIX), 3000)
    questions = {
        item.question for split in ("train", "reserve", "heldout") for item in TASK.problems(split)
    }
    assert not questions & {row.pieces[0][0].split("\nA:")[0] for row in rows}


def test_there_are_enough_problems_for_long_runs_and_their_order_never_changes():
    train, held = TASK.problems("train"), TASK.problems("heldout")
    assert len(train) > 1500 and sum(p.family == "sum2" for p in held) > 1000
    assert len({p.id for p in train}) == len(train) and len({p.id for p in held}) == len(held)
    assert [p.id for p in held[:3]] == ["sum2-" + x for x in FIRST_HELD_OUT]
    assert {p.slice for p in held if p.family == "sum2"} == {"typical", "tail"}


def test_novel_families_are_solved_by_one_rare_strategy_alone():
    assert list(st.STRATEGIES["missing"]) == ["jump"] and list(st.STRATEGIES["multibuy"]) == [
        "compensate"
    ]
    rare = sorted(world.STRATEGY_WEIGHTS, key=world.STRATEGY_WEIGHTS.__getitem__)[:2]
    assert set(rare) == {"jump", "compensate"}


def test_a_critique_stops_at_the_first_wrong_step_and_only_a_right_trace_is_approved():
    for item, strategy, rng in draws(list(st.STRATEGIES), 1000, seed=2):
        right, wrong = world.demonstrate(item, strategy), world.slip(item, strategy, rng)
        assert world.criticise(item, right).endswith(": right") and " no" not in world.criticise(
            item, right
        )
        critique = world.criticise(item, wrong)
        assert (
            critique.endswith(": wrong")
            and critique.count(" ok") == TASK.check_steps(item, wrong).first_wrong
        )


def test_pretraining_never_teaches_to_write_more_slips_than_it_says():
    wrong = learnt = 0
    for row in islice(world.demonstrations("pretrain", 5, 0.5, FAMILY_MIX, slips=0.15), 4000):
        if row.family in world.SKILLS or not row.pieces[1][1]:
            continue
        learnt += 1
        critique = next(
            (text for text, _ in row.pieces if text.endswith((": wrong", ": right"))), None
        )
        wrong += critique is not None and critique.endswith("wrong")
    assert wrong / learnt < 0.15 + 0.03


def test_the_reserve_holds_right_demonstrations_of_every_family():
    reserve = TASK.problems("reserve")
    assert {p.family for p in reserve} == set(world.FAMILIES)
    assert all(TASK.grade(p, p.solution).correct for p in reserve)
