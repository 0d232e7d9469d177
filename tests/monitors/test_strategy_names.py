import json
import time

import pytest
from real_data import DATA

from ouroloop.monitors.arith.calculations import calculations
from ouroloop.monitors.strategies.strategy import CANONICALISERS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("47 + 38 = 85. So 85.", "47+38=85"),
        ("7+8=15, write 5 carry 1; 4+3+1=8", "4+3+1=8;7+8=15"),
        (
            "Natalia sold 48/2 = <<48/2=24>>24 clips. 48+24 = <<48+24=72>>72\n#### 72",
            "48+24=72;48/2=24",
        ),
        ("She pays $1,200.50 + $99.5 = $1,300.00", "1200.5+99.5=1300"),
        ("3 × 4 = 12 and 12 ÷ 4 = 3 and 9 − 2 = 7", "12/4=3;3*4=12;9-2=7"),
        ("2 x 5 = 10", "2*5=10"),
        ("20*.2=$<<20*.2=4.0>>4", "20*0.2=4"),
        ("3 - 5 = -2", "3-5=-2"),
        ("(2 + 3) * 4 = 20 = 15 + 5", "(2+3)*4=20"),
        ("2 + 3 = 5 + 4 = 9", "2+3=5;5+4=9"),
        ("- 5 + 6 = 11", "5+6=11"),
        ("The answer is 7", None),
        ("x = 5", None),
        ("10 = 10", None),
        ("4 + = 5", None),
        ("", None),
    ],
)
def test_calculations_are_read(text, expected):
    assert CANONICALISERS["calculations"]("", text) == expected


def test_calculations_do_not_depend_on_order_or_words_but_on_how_often():
    name = CANONICALISERS["calculations"]
    assert name("", "First 1+2=3, then 4+4=8.") == name("", "4 + 4 = 8; 1 + 2 = 3 (done)")
    assert name("", "1+2=3") != name("", "1+2=3 1+2=3")
    assert name("", "1+2=3") != name("", "2+1=3")


def test_operators_forget_the_numbers_but_keep_the_order_of_the_text():
    name = CANONICALISERS["operators"]
    assert name("", "40+30=70; 7+8=15; 70+15-1=84") == "+|+|+-"
    assert name("", "47 * 2 = 94, 94 - 4 = 90") == "*|-" != name("", "94 - 4 = 90, 47 * 2 = 94")
    assert name("", "no sum here") is None


def test_answers_are_read_in_plain_form():
    name = CANONICALISERS["answer"]
    texts = (
        "so 1,250.0 it is",
        "#### 72\n",
        r"thus \boxed{x+1}.",
        "none",
        "#### $5",
        "that leaves .50",
    )
    assert [name("", text) for text in texts] == ["1250", "72", "x+1", None, "5", "0.5"]


HOSTILE = [
    "1+" * 200_000,
    "9" * 200_000 + "+1=2",
    "((((" * 50_000 + "1+1=2",
    "=" * 100_000,
    "1 = " * 50_000,
    "1,111" * 50_000,
]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_is_read_in_no_time(text):
    start = time.process_time()
    for canonicaliser in CANONICALISERS.values():
        canonicaliser("", text)
    assert time.process_time() - start < 1.0


def test_the_same_text_has_the_same_name_and_names_are_the_keys():
    for key, canonicaliser in CANONICALISERS.items():
        assert canonicaliser.name == key
        assert canonicaliser("q", "1+1=2") == canonicaliser("another question", "1+1=2")


@pytest.mark.slow
def test_most_published_solutions_have_calculations_and_every_annotated_one_is_found():
    path = DATA / "gsm8k" / "train_first_1000.jsonl"
    if not path.exists():
        pytest.skip(f"needs {path}: set OUROLOOP_DATA to the folder that holds gsm8k/")
    solutions = [json.loads(line)["answer"] for line in path.read_text().splitlines()]
    named = [CANONICALISERS["calculations"]("", s) for s in solutions]
    assert sum(n is not None for n in named) / len(named) > 0.95
    annotated = found = 0
    for solution in solutions:
        ours = {step.amount for step in calculations(solution)}
        for part in solution.split("<<")[1:]:
            right = part.split(">>")[0].rsplit("=", 1)[-1]
            if right.isdigit():
                annotated += 1
                found += int(right) in ours
    assert found / annotated > 0.99
