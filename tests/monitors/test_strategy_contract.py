"""What every canonicaliser promises, those that learn included."""

from __future__ import annotations

import functools
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw

from ouroloop.monitors.strategies.strategy import CANONICALISERS
from ouroloop.monitors.strategies.templates import Templates

QUESTION = "Tom has 47 apples and gets 35 more, then half of 10 %. How many in all?"
TEXTS = [
    "40+30=70\n7+5=12\n70+12=82",
    "47+30=77\n77+5=82",
    "He has 47 + 35 = 82 apples.\n#### 82",
    "first add, then look",
    "It is 5 * 4 = 20",
] * 4


@functools.cache
def learned():
    """What has to see texts first. Not fitted on import: that loads scikit-learn."""
    return Templates().fit([QUESTION] * 20, TEXTS)


def canonicaliser(name):
    return CANONICALISERS[name] if name in CANONICALISERS else learned()


NAMES = [*CANONICALISERS, Templates.name]
every = pytest.mark.parametrize("name", NAMES)

MEGABYTE = {
    "digits": "9" * 10**6,
    "sum": "1+" * 500_000,
    "brackets": "(" * 10**6 + "1+1=2",
    "closing": "1+1" + ")" * 10**6,
    "equals": "=" * 10**6,
    "chain": "1 = " * 250_000,
    "commas": "1,111" * 200_000,
    "notes": "<<1+1=2>>" * 110_000,
    "minus": "-" * 10**6 + "1=1",
    "words": "of " * 333_000,
    "lines": "\n" * 10**6,
    "sums": "1+1=2\n" * 160_000,
    "doubling": "".join(f"{2**i}+{2**i}={2 ** (i + 1)}\n" for i in range(1_200)),
    "powers": "9" * 59 + "*" + "*".join(["9" * 59] * 60) + "=1\n",
    "sentences": "a. " * 333_000,
    "percent": "40% of 1/0 = " * 80_000,
    "unicode": "٣+٤=٧ " * 150_000,
    "boxed": "\\boxed{" * 140_000,
    "hashes": "####" * 250_000,
    "divisions": "1/0=1/0=" * 125_000,
}


def test_names_are_the_keys():
    assert all(canonicaliser(name).name == name for name in NAMES)


# These six of twenty take 70 % of the time of all.
LONG_MEGABYTES = ("divisions", "brackets", "words", "percent", "sums", "notes")


@every
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow) if kind in LONG_MEGABYTES else kind
        for kind in MEGABYTE
    ],
)
def test_a_hostile_megabyte_is_read_in_a_second_as_text_and_as_question(name, kind):
    took = []
    # The least of a few: beside other work a processor's second holds less.
    while not took or (min(took) >= 1.0 and len(took) < 3):
        start = time.process_time()
        named = (
            canonicaliser(name)(QUESTION, MEGABYTE[kind]),
            canonicaliser(name)(MEGABYTE[kind], "47+35=82"),
        )
        took.append(time.process_time() - start)
    assert min(took) < 1.0
    assert all(label is None or isinstance(label, str) for label in named)


@every
def test_the_same_text_has_the_same_name_again(name):
    assert [canonicaliser(name)(QUESTION, text) for text in TEXTS] == [
        canonicaliser(name)(QUESTION, text) for text in TEXTS
    ]


@every
@pytest.mark.parametrize("text", ["", " \n\t ", "…"])
def test_a_text_that_says_nothing_has_no_strategy(name, text):
    assert canonicaliser(name)(QUESTION, text) is None


@pytest.mark.parametrize(
    "name",
    ["calculations", "calculation_list", "operators", "dataflow", "plan"],
)
def test_a_text_without_calculations_has_no_calculation_strategy(name):
    assert canonicaliser(name)(QUESTION, "The answer is 7, since x = 5") is None


@every
@settings(max_examples=60, deadline=None)
@given(
    question=draw.text(max_size=80),
    text=draw.text(alphabet="0123456789+-*/()=.,%$ \nxofA#<>\\{}", max_size=200),
)
def test_nothing_that_a_model_may_write_raises(name, question, text):
    label = canonicaliser(name)(question, text)
    assert label is None or label


@pytest.mark.parametrize(
    ("name", "cares"),
    [
        ("calculations", False),
        ("dataflow", False),
        ("plan", False),
        ("templates", False),
        ("calculation_list", True),
        ("operators", True),
    ],
)
def test_the_order_of_independent_steps_counts_only_where_it_is_promised(name, cares):
    one, other = "4*5=20\n30-10=20\n20+20=40", "30-10=20\n4*5=20\n20+20=40"
    assert (
        canonicaliser(name)("4 5 30 10", one) != canonicaliser(name)("4 5 30 10", other)
    ) is cares


@pytest.mark.parametrize("name", ["operators", "plan", "templates"])
def test_other_numbers_other_names_and_another_question_are_the_same_strategy(name):
    one = canonicaliser(name)("Tom has 47 apples and gets 35 more.", "Tom: 47+30=77\n77+5=82")
    other = canonicaliser(name)("Add 61 and 28, says Eva.", "Eva: 61+20=81\n81+8=89")
    assert one == other is not None


def test_importing_the_canonicalisers_loads_no_scikit_learn():
    code = "import sys, ouroloop.monitors.strategies.templates; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
