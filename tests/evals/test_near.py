"""Near copies of held-out questions are found; other problems of the same template are none."""

import json
import random
import time

import pytest
from real_data import DATA
from transformations import EACH, all_of_them, other_numbers

from ouroloop.evals.near import Copies, features
from ouroloop.evals.questions import visible
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask

SETS = {
    "gsm8k": ("gsm8k/train_first_1000.jsonl", "gsm8k/test_first_660.jsonl"),
    "asdiv": ("wordproblems/asdiv_train.jsonl", "wordproblems/asdiv_heldout.jsonl"),
    "svamp": ("wordproblems/svamp_first_500.jsonl", "wordproblems/svamp_first_500.jsonl"),
}
PENS = "Zoe had 24 pens, lost 5 of them, and bought 31 more in April. How many pens has Zoe now?"


def read(name):
    """(training questions, held-out questions); SVAMP's file is cut in two halves."""
    train, held = SETS[name]
    if not (DATA / train).is_file():
        pytest.skip(f"needs {train} in $OUROLOOP_DATA")
    lists = [
        [json.loads(line)["question"] for line in (DATA / file).read_text().splitlines()]
        for file in (train, held)
    ]
    return (lists[0][250:], lists[0][:250]) if train == held else tuple(lists)


@pytest.mark.parametrize("change", [*EACH, all_of_them], ids=lambda change: change.__name__)
def test_a_copy_in_other_clothes_is_found(change):
    copies = Copies.of([PENS, "What is the capital of France?"])
    copy = change(PENS, random.Random(0))
    assert copy != PENS and copies.find(copy) == PENS


@pytest.mark.parametrize(
    "other",
    [
        PENS.replace("24", "25"),
        "Zoe had 5 pens, lost 24 of them, and bought 31 more in May. How many pens lost Zoe now?",
        "Tom saw 24 birds on a wall. 5 flew to a tree, and 31 came back. How many birds are there?",
        "What is the capital of Germany?",
        "",
        "24 5 31",
    ],
)
def test_another_problem_is_no_copy(other):
    questions = [PENS, "What is the capital of France?"]
    assert Copies.of([questions[0].replace("April", "May"), questions[1]]).find(other) is None


def test_the_order_of_numbers_in_a_clause_counts_and_the_order_of_clauses_does_not():
    copies = Copies.of(["Compute 34 - 12 and say what you get.", "Add 5 to it, take 7 from that."])
    assert copies.find("Compute 12 - 34 and say what you get.") is None
    assert copies.find("Take 7 from that, add 5 to it.") is not None


def test_a_question_inside_a_long_text_is_found():
    text = f"Let us first look at another problem. {PENS} So 24 - 5 + 31 = 50. Now ours: 2 + 2 = 4."
    assert Copies.of([PENS]).find(text) == PENS


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("twenty-one pens", {"21": 1}),
        ("three hundred five of 1,000", {"305": 1, "1000": 1}),
        ("2.50 or 2.5 or 002", {"2.5": 2, "2": 1}),
        ("five, six", {"5": 1, "6": 1}),
        ("9" * 5000 + " five", {"9" * 5000: 1, "5": 1}),
    ],
)
def test_numbers_are_read_in_digits_and_words(text, numbers):
    assert dict(features(text).numbers) == numbers


def test_characters_that_show_nothing_are_not_there():
    assert visible("p\u200be\u00adn\u2060s Ｆｏｕｒ ﬁsh") == "pens Four fish"


@pytest.mark.slow
def test_in_a_world_of_one_template_no_training_problem_is_a_copy():
    task = ArithmeticTask()
    copies = Copies.of(problem.question for problem in task.problems("heldout"))
    for split in ("train", "reserve"):
        found = [p.question for p in task.problems(split) if copies.find(p.question)]
        assert found == []
    asked = task.problems("heldout")[7].question
    assert copies.find(asked) == asked


@pytest.mark.slow
def test_ten_thousand_problems_against_a_thousand_take_seconds():
    """Every question of one template, the worst case for an index of words."""
    rng = random.Random(0)

    def made(first, count):
        for number in range(first, first + count):
            yield PENS.replace("24", str(number)).replace("31", str(rng.randrange(10, 99)))

    started = time.process_time()
    copies = Copies.of(made(100_000, 1000))
    assert not any(copies.find(question) for question in made(500_000, 10_000))
    assert time.process_time() - started < 15  # a slow machine; two seconds on an idle core


@pytest.mark.slow
@pytest.mark.parametrize("name", list(SETS))
@pytest.mark.parametrize("change", EACH, ids=lambda change: change.__name__)
def test_of_published_questions_95_percent_of_the_copies_are_found(name, change):
    _, held = read(name)
    copies, rng = Copies.of(held), random.Random(0)
    changed = [change(question, rng) for question in held]
    assert sum(copies.find(copy) is not None for copy in changed) / len(held) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "at_most"), [("gsm8k", 0.001), ("asdiv", 0.002), ("svamp", 0.012)]
)
def test_of_published_training_questions_next_to_none_counts_as_a_copy(name, at_most):
    """Those that do tell the same story with the same numbers and ask something else of it."""
    train, held = read(name)
    copies, rng = Copies.of(held), random.Random(0)
    assert sum(copies.find(question) is not None for question in train) / len(train) <= at_most
    digits = [question for question in held if other_numbers(question, rng) != question]
    others = [other_numbers(question, rng) for question in digits]
    same = sum(copies.find(other) is not None for other in others) / len(others)
    assert same <= 0.02, "the same templates with other numbers"
