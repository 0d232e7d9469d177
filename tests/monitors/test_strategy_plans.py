"""`Dataflow` and `Plan`: what counts as the same plan of calculation, and what does not."""

from __future__ import annotations

from fractions import Fraction

import pytest

from ouroloop.monitors.arith.calculations import calculations
from ouroloop.monitors.arith.quantities import givens
from ouroloop.monitors.strategies.strategy import CANONICALISERS

DATAFLOW, PLAN = CANONICALISERS["dataflow"], CANONICALISERS["plan"]
SHIRTS = (
    "Ann buys 3 shirts at $20 each and half as many hats at $8. There is 40% off. She has 200"
    " dollars."
)


@pytest.mark.parametrize(
    ("why", "one", "other"),
    [
        ("order of steps", "3*20=60\n8*2=16\n60+16=76", "8*2=16\n3*20=60\n16+60=76"),
        ("steps in one", "3*20=60\n60+8=68", "20*3+8=68"),
        ("a wrong result, followed", "3*20=60\n60+8=68", "3*20=70\n70+8=78"),
        (
            "a wrong result, written as the answer",
            "3*20=60\n60+8=68\n#### 68",
            "3*20=60\n60+8=68\n#### 70",
        ),
        ("half", "3/2=1.5\n1.5*8=12", "3*.5=1.5\n8*1.5=12"),
        ("half as a fraction", "1/2*3=1.5\n1.5*8=12", "3*0.5=1.5\n1.5*8=12"),
        ("per cent", "60*40/100=24", "40%*60=24"),
        ("per cent as a decimal", "60*.4=24", "40/100*60=24"),
        ("times one", "20*1=20\n20+8=28", "20+8=28"),
        ("taken away together", "200-(20+8)=172", "200-20=180\n180-8=172"),
        ("the direction of a difference", "20-200=-180", "200-20=180"),
        ("an idle calculation", "3*8=24\n3*20=60\n#### 60", "20*3=60\n#### 60"),
        ("units", "3 shirts * 20 dollars/shirt = 60 dollars", "3*20=60"),
        ("words", "3 times 20 is 60.", "3*20=60"),
        ("thousands and signs", "$1,000 × 3 = $3,000", "1000*3=3000"),
        ("notes", "3*20 = $<<3*20=60>>60", "3 x $20 = $60"),
        ("a side written anew", "3*20+8*2=60+16=76", "3*20+8*2=76"),
    ],
)
def test_notation_order_and_slips_are_the_same_plan(why, one, other):
    assert DATAFLOW(SHIRTS, one) == DATAFLOW(SHIRTS, other) is not None, why


@pytest.mark.parametrize(
    ("why", "one", "other"),
    [
        ("another operation", "3*20=60", "3+20=23"),
        ("another given", "3*20=60", "3*8=24"),
        ("another constant", "20*7=140", "20*12=240"),
        ("distributed", "3*(20+8)=84", "3*20=60\n3*8=24\n60+24=84"),
        ("a step more", "3*20=60", "3*20=60\n60+8=68"),
        ("subtrahend and minuend elsewhere", "200-20=180\n180*3=540", "3*20=60\n200-60=140"),
    ],
)
def test_another_plan_has_another_name(why, one, other):
    assert DATAFLOW(SHIRTS, one) != DATAFLOW(SHIRTS, other), why


def test_the_same_question_with_other_numbers_gives_the_same_dataflow():
    other = SHIRTS.replace("3", "7").replace("200", "900").replace("20", "31").replace("$8", "$5")
    assert DATAFLOW(SHIRTS, "3*20=60\n200-60=140") == DATAFLOW(other, "7*31=217\n900-217=683")


@pytest.mark.parametrize(
    ("strategy", "one", "other"),
    [
        ("digits with and without carry", ("47+35", "7+5=12\n4+3+1=8"), ("41+32", "1+2=3\n4+3=7")),
        (
            "digits of longer numbers",
            ("47+35", "7+5=12\n4+3+1=8"),
            ("347+135", "7+5=12\n4+3+1=8\n3+1=4"),
        ),
        (
            "parts",
            ("47+35", "40+30=70\n7+5=12\n70+12=82"),
            ("347+135", "300+100=400\n40+30=70\n7+5=12\n400+70=470\n470+12=482"),
        ),
        (
            "parts of round numbers",
            ("47+35", "40+30=70\n7+5=12\n70+12=82"),
            ("40+35", "40+30=70\n0+5=5\n70+5=75"),
        ),
        (
            "jumps",
            ("47+35", "47+30=77\n77+5=82"),
            ("347+135", "347+100=447\n447+30=477\n477+5=482"),
        ),
        (
            "jumps from a round number",
            ("47+35", "47+30=77\n77+5=82"),
            ("40+44", "40+40=80\n80+4=84"),
        ),
        (
            "there and back",
            ("47+35", "47+3=50\n50+35=85\n85-3=82"),
            ("49+61", "49+1=50\n50+61=111\n111-1=110"),
        ),
        (
            "there and back, multiplied",
            ("48*3", "48+2=50\n50*3=150\n2*3=6\n150-6=144"),
            ("39*4", "39+1=40\n40*4=160\n1*4=4\n160-4=156"),
        ),
        (
            "counting up",
            ("47+?=82", "47+3=50\n50+30=80\n80+2=82\n3+30+2=35\nanswer 35"),
            ("47+?=49", "47+2=49\nanswer 2"),
        ),
        ("a misread number", ("47+35", "47+30=77\n77+5=82"), ("47+36", "48+36\n48+30=78\n78+6=84")),
    ],
)
def test_a_plan_is_the_same_for_numbers_of_any_length_and_digits(strategy, one, other):
    assert PLAN(*one) == PLAN(*other) is not None, strategy


def test_the_plans_of_the_small_world_differ():
    texts = [
        "7+5=12\n4+3+1=8",
        "40+30=70\n7+5=12\n70+12=82",
        "47+30=77\n77+5=82",
        "47+3=50\n50+35=85\n85-3=82",
        "47+35=82",
    ]
    assert len({PLAN("47 and 35", text) for text in texts}) == len(texts)


def test_a_digit_that_two_givens_share_by_chance_is_no_column():
    assert PLAN("47 and 35", "7+5=12") != PLAN("47 and 35", "7+5=12\n4+3=7")


def test_numbers_of_a_question_are_read_in_digits_and_in_words():
    found = givens("Twenty-five of 1,200 dogs, two-thirds of ten, 3/5 of .5 and half of 40% twice")
    assert [str(amount) for amount in found.values] == [
        "20",
        "25",
        "1200",
        "2",
        "2/3",
        "10",
        "3/5",
        "1/2",
        "40",
    ]
    assert found.index(Fraction(2, 5)) == found.index(Fraction(40)) == 9
    assert found.index(Fraction(7)) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("3 bushes * 25 roses/bush = 75 roses", ["3*25=75"]),
        ("He drives 24 feet / 4 feet/hour = 6 hours. Then 6 + 1 = 7", ["24/4=6", "6+1=7"]),
        ("40 plus 30 is 70, 70 divided by 2 gives 35", ["40+30=70", "70/2=35"]),
        ("3/5 of 30 = 18", ["3/5*30=18"]),
        ("12+10=22+5=27", ["12+10=22", "22+5=27"]),
        ("3*4+2*5=12+10=22", ["3*4+2*5=22"]),
        ("1. 3 + 4 = 7", ["3+4=7"]),
        ("5 apples and 3 + 4 = 7", ["3+4=7"]),
        ("x + 30 = 40", []),
    ],
)
def test_calculations_are_read_past_units_and_words(text, expected):
    assert list(map(str, calculations(text))) == expected
