"""How a critic's verdict is read: the last line, in the wording that the prompt asks for."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from hostile_texts import few_texts

from ouroloop.evals.verdicts import read_verdict
from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.rows import CritiqueRow
from ouroloop.loop.stages.decide import weigh_critic
from ouroloop.loop.stages.judging import unreadable
from ouroloop.loop.stages.prompts import CHAT, FREE_TEXT
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.names import Action

# (critique, what it says). None: it says nothing in the wording that was asked for.
CASES = [
    ("Each step is right.\nverdict: right", True),
    ("The first step is wrong.\nverdict: wrong", False),
    ("verdict: right", True),
    ("All good.\n\n**Verdict: Right.**\n", True),
    ("Line 2 is off.\nverdict wrong", False),
    ("One calculation is wrong, but the end is fine.\nverdict: right", True),
]
ADVERSARIAL = [
    "That is right",
    "I am not sure that this is right.",
    "This is not right.",
    "The verdict cannot be right.",
    "verdict: not right",
    "verdict: not wrong",
    "verdict: right or wrong",
    "verdict: right, I think",
    "verdict: mostly right",
    "verdict: right? No.",
    "Is the verdict: right",
    "The verdict is right.",
    "My verdict: right",
    "verdict: rightly rejected",
    "verdict: wrongly marked as an error",
    "verdict: alright",
    "It says verdict: right but the sum is 83",
    "verdict: right\nWait, I have to check line 2 again.",
    "verdict: right\nThe answer is wrong.",
    "verdict: wrong\nOn second thoughts all is right.",
    "End with a line that is either `verdict: right` or `verdict: wrong`.",
    "right",
    "wrong",
    "You have the right idea, what is wrong with it is small.",
    "verdict:",
    "",
]


@pytest.mark.parametrize("prompts", [CHAT, FREE_TEXT], ids=["chat", "free text"])
@pytest.mark.parametrize(("critique", "expected"), CASES)
def test_a_verdict_in_the_wording_that_was_asked_for_is_read(prompts, critique, expected):
    assert read_verdict(prompts, critique) is expected


@pytest.mark.parametrize("critique", ADVERSARIAL)
def test_any_other_sentence_is_unreadable(critique):
    assert len(ADVERSARIAL) >= 18
    assert read_verdict(CHAT, critique) is None


def test_the_prompts_ask_for_the_wording_that_is_read():
    for prompts in (CHAT, FREE_TEXT):
        for word in (prompts.approve, prompts.reject):
            assert prompts.verdict.replace("{verdict}", word) in prompts.critique


def test_the_small_worlds_true_critiques_are_read_as_they_are_meant():
    task = ArithmeticTask()
    rng = random.Random(3)
    problems = [p for p in task.problems("reserve") if p.family not in world.SKILLS]
    for problem in rng.sample(problems, 40):
        for keep in (False, True):
            broken = task.corrupt(problem, problem.solution, rng.randrange(99), keep)
            for text in filter(None, (problem.solution, broken)):
                critique = world.criticise(problem, text)
                assert read_verdict(world.PROMPTS, critique) is critique.endswith(": right")


@pytest.mark.parametrize(
    ("critique", "expected"),
    [
        ("82|no: wrong", False),
        ("40+30=70 ok,12 ok,82 ok: right", True),
        ("82|no: right wrong", None),
        ("82|no: righteous", None),
        ("82|no", None),
    ],
)
def test_the_small_worlds_critic_says_its_verdict_at_the_end_of_its_line(critique, expected):
    assert read_verdict(world.PROMPTS, critique) is expected


def test_a_hostile_text_is_no_verdict():
    for text in few_texts(200):
        assert read_verdict(CHAT, text) is None
        assert read_verdict(world.PROMPTS, text) is None


def test_critiques_without_a_verdict_are_counted():
    critics = [CritiqueRow("p", approved, None, 1.0, None) for approved in (1.0, None, 0.0, None)]
    round = SimpleNamespace(audit=[], verdicts=[], probe=[], critics=critics)
    (counts,) = unreadable(round)
    assert (counts["what"], counts["unreadable"], counts["of"]) == ("critiques", 2, 4)
    round.critics = critics[:1]
    assert list(unreadable(round)) == []


def judged_by(*approved, number=0, critic=True, texts="No verdict here"):
    """The decision on a round whose critics approved so."""
    critics = [CritiqueRow(f"p{i}", a, None, None, None, texts) for i, a in enumerate(approved)]
    round = SimpleNamespace(number=number, critics=critics)
    recipe = SimpleNamespace(filters=SimpleNamespace(critic=critic))
    return weigh_critic(Decision(number, Action.CONTINUE, ("fine",)), round, recipe)


def test_a_critic_without_a_readable_verdict_halts_the_run_before_a_round_is_sampled():
    found = judged_by(*[None] * 7, texts="a very\n\n good decision" * 9)
    assert found.action is Action.HALT and found.reasons[1] == "fine"
    assert "none of 7 critiques" in found.reasons[0] and "good decision'" in found.reasons[0]
    assert "filters.critic: false" in found.reasons[0] and "\n" not in found.reasons[0]


@pytest.mark.parametrize(
    "asked",
    [
        {"approved": (None,) * 6 + (0.0,)},
        # Too few to say, and a round that has been filtered already: there supply speaks.
        {"approved": (None,) * 4},
        {"approved": (None,) * 7, "number": 1},
        {"approved": (None,) * 7, "critic": False},
        {"approved": ()},
    ],
)
def test_it_halts_for_nothing_else(asked):
    approved = asked.pop("approved")
    assert judged_by(*approved, **asked).action is Action.CONTINUE
