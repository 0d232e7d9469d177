"""When two questions are the same: what must not hide a held-out question from decontamination."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ouroloop.evals.dataset import jsonl_task
from ouroloop.evals.problem_files import question_id
from ouroloop.evals.questions import normalised
from ouroloop.loop.stages import dataset, probe, texts

QUESTION = "Tom's shop sells 3 pens at $1.50 each, and 2½ kg of flour. What is 5 − 3 × 2?"

DISGUISES = [
    ("case", QUESTION.upper()),
    ("white space", "  " + QUESTION.replace(" ", "\n \t")),
    ("no final mark", QUESTION.rstrip("?")),
    ("dots", QUESTION.replace("? ", "... ").rstrip("?") + " ..."),
    ("other punctuation", QUESTION.replace(",", ";").replace("'", "’").replace(". ", "! ")),
    ("quotes around it", f"“{QUESTION}”"),
    ("zero-width spaces", QUESTION.replace("e", "e\u200b")),
    ("joiners and marks", "\ufeff\u200e" + QUESTION.replace("l", "\u200cl\u2060")),
    ("soft hyphens", QUESTION.replace("ll", "l\u00adl")),
    ("tag characters", QUESTION + "\U000e0041\U000e0042"),
    ("variation selectors", QUESTION.replace("3", "3\ufe0f")),
    ("fillers", QUESTION.replace("T", "T\u3164\u034f")),
    ("no-break spaces", QUESTION.replace(" ", "\u00a0")),
    ("full width", "".join(chr(ord(c) + 0xFEE0) if "!" < c < "~" else c for c in QUESTION)),
    ("a ligature", QUESTION.replace("fl", "\ufb02")),
    ("ASCII signs", QUESTION.replace("−", "-").replace("×", "*").replace("½", " 1/2")),
]


@pytest.mark.parametrize(("what", "other"), DISGUISES, ids=[what for what, _ in DISGUISES])
def test_a_question_in_another_dress_is_the_same_question(what: str, other: str) -> None:
    assert other != QUESTION
    assert normalised(other) == normalised(QUESTION)
    assert question_id(other) == question_id(QUESTION)


@pytest.mark.parametrize(
    "others",
    [
        ["5-3?", "5+3?", "53?", "5.3?", "5*3?", "-5*3?", "5/3?", "5 3?", "5=3?", "5<3?", "5%3?"],
        ["2½", "21/2", "2 1/3", "1/2"],
        ["resume", "résumé"],
        ["How many pens has Tom?", "How many pens does Tom have?"],
        ["राम की किताब", "राम के किताब", "राम का किताब"],
        ["กินข้าว", "กันข้าว"],
        ["😀", "😂", "😀 😂"],
    ],
)
def test_what_changes_a_question_makes_another_one(others: list[str]) -> None:
    assert len({normalised(question) for question in others}) == len(others)


@given(st.text(max_size=80))
@example("a .. b. ")
@example("İ\u0307ﬁ ½")
@example("की\u0301 ก\u0338ิ ?😀Ⓐ")
def test_a_normalised_question_stays_as_it_is_and_can_be_hashed(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert once == " ".join(once.split())
    once.encode()


def test_an_empty_question_of_signs_alone_is_nothing() -> None:
    assert normalised(" ?! \u200b… ") == ""


def test_splits_decontamination_and_held_out_checks_ask_the_same_function() -> None:
    for module in (dataset, probe, texts):
        assert vars(module)["normalised"] is normalised


def test_a_held_out_question_in_disguise_leaves_training(tmp_path: Path) -> None:
    train, heldout = tmp_path / "train.jsonl", tmp_path / "heldout.jsonl"
    heldout.write_text(json.dumps({"question": QUESTION, "answer": "-1"}) + "\n")
    rows = [{"question": other, "answer": "-1"} for _, other in DISGUISES]
    rows += [{"question": f"What is {number}+1?", "answer": number + 1} for number in range(9)]
    train.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = jsonl_task(train, heldout)
    assert len(task.problems("train")) == 9
    assert [problem.question for problem in task.problems("heldout")] == [QUESTION]
