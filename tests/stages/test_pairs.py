"""Preference pairs: which two texts become one, which never do, and who is the better one."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ouroloop.evals.near import NO_COPIES
from ouroloop.evals.tasks import Problem, Prompts
from ouroloop.loop.config import PairsConfig
from ouroloop.loop.engines.scripted import STOP_TOKEN, ScriptedEngine
from ouroloop.loop.errors import DataError, PromptTooLongError
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.records import Completion, Critique, Sample
from ouroloop.loop.rows import Verdict
from ouroloop.loop.stages import pairs
from ouroloop.loop.stages.encode import Encoder
from ouroloop.loop.stages.pairs import Seeds
from ouroloop.loop.stages.preferring import PRINCIPLE, Comparer, Comparison

PROMPTS = Prompts(draft="{question}", critique="", revise="", approve="right", reject="wrong")
SEEDS = Seeds(0, 3)


def said(text: str, prompt: str = "Q p", is_cut: bool = False) -> Completion:
    """A text in the scripted engine's token ids."""
    ids = list(text.encode())
    if not is_cut:
        ids.append(STOP_TOKEN)
    return Completion(
        request_id="r",
        prompt_token_ids=tuple(prompt.encode()),
        token_ids=tuple(ids),
        logprobs=(-0.1,) * len(ids),
        text=text,
        finish_reason="length" if is_cut else "stop",
        weight_version="w",
    )


def judged(
    name: str,
    draft: Completion,
    *revisions: Completion,
    kept: bool = True,
    correct: bool | None = None,
    approved: bool | tuple[bool | None, ...] | None = False,
    problem: str = "p",
) -> tuple[Sample, Verdict]:
    """A sample with the filters' verdict on it."""
    verdicts = approved if isinstance(approved, tuple) else (approved,) * len(revisions)
    critiques = tuple(Critique(said("c"), each, None) for each in verdicts)
    sample = Sample(name, problem, 0, 1.0, draft, critiques, tuple(revisions))
    verdict = Verdict(
        sample_id=name,
        problem_id=problem,
        question=f"Q {problem}",
        gold=None,
        text=sample.final.text,
        kept=kept,
        reasons=() if kept else ("gold",),
        answer=None,
        correct=correct,
        valid=None,
        strategy=None,
        approved=None,
        agreement=None,
        temperature=1.0,
        num_tokens=len(sample.final.token_ids),
        revised=bool(revisions),
    )
    return sample, verdict


def setting_of(sources, heldout=(), **config):
    """As much of a run's setting as pairs are made of; problems are p, q, ..."""
    names = "pqrs"
    recipe = resolve({"name": "x", "pairs": {"sources": list(sources), **config}})
    return SimpleNamespace(
        recipe=recipe,
        problems=tuple(Problem(name, f"Q {name}", None) for name in names),
        probe_set=SimpleNamespace(heldout=frozenset(heldout)),
        reasoning=None,
        copies=NO_COPIES,
    )


def made(entries, setting, engine=None):
    """The round's pairs of judged samples."""
    engine = engine or ScriptedEngine(loaded=[Path("w")])
    round = SimpleNamespace(number=3, verdicts=[verdict for _, verdict in entries])
    encoder = Encoder(engine, PROMPTS)
    work = pairs.training_pairs(
        round, [sample for sample, _ in entries], setting, encoder, lambda *what: None
    )
    return asyncio.run(work)


def ids(text: str) -> tuple[int, ...]:
    return (*text.encode(), STOP_TOKEN)


# -- revisions --------------------------------------------------------------------------


def test_a_kept_revision_is_preferred_to_its_draft_in_the_engines_own_ids():
    (pair,) = made([judged("s", said("bad"), said("good"))], setting_of(["revision"]))
    assert (pair.chosen, pair.rejected, pair.origin) == ("good", "bad", "revision")
    assert pair.prompt_token_ids == tuple(b"Q p")
    assert (pair.chosen_token_ids, pair.rejected_token_ids) == (ids("good"), ids("bad"))
    assert (pair.chosen_id, pair.rejected_id, pair.round) == ("s", "s", 3)


def test_of_several_revisions_the_last_one_stands_against_the_draft():
    (pair,) = made([judged("s", said("a"), said("b"), said("c"))], setting_of(["revision"]))
    assert (pair.chosen, pair.rejected) == ("c", "a")


@pytest.mark.parametrize(
    "entry",
    [
        judged("s", said("bad"), said("good"), kept=False),
        judged("s", said("bad"), said("good"), approved=True),
        judged("s", said("bad", is_cut=True), said("good")),
        judged("s", said("bad"), said("good", is_cut=True)),
        judged("s", said("good\n"), said("good")),
        judged("s", said("good")),
    ],
    ids=["rejected", "draft approved", "draft cut", "revision cut", "same text", "no revision"],
)
def test_what_makes_no_pair_of_draft_and_revision(entry):
    assert made([entry], setting_of(["revision"])) == []


def test_a_critique_without_a_verdict_still_makes_its_revision_the_better_text():
    entry = judged("s", said("bad"), said("good"), approved=None)
    assert len(made([entry], setting_of(["revision"]))) == 1


@pytest.mark.parametrize(("approved", "number"), [((True, False), 1), ((True, True, False), 0)])
def test_one_critique_that_objects_is_enough_but_only_where_a_revision_answered_it(
    approved, number
):
    entry = judged("s", said("bad"), said("bad"), said("good"), approved=approved)
    assert len(made([entry], setting_of(["revision"]))) == number


# -- right against wrong ------------------------------------------------------------------


def test_right_samples_stand_against_wrong_ones_each_once():
    entries = [judged(f"r{i}", said(f"right{i}"), correct=True) for i in range(3)]
    entries += [judged(f"w{i}", said(f"wrong{i}"), correct=False, kept=False) for i in range(2)]
    found = made(entries, setting_of(["gold"]))
    assert len(found) == 2
    assert all(p.chosen.startswith("right") and p.rejected.startswith("wrong") for p in found)
    assert len({p.chosen for p in found}) == len({p.rejected for p in found}) == 2


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (judged("r", said("a"), correct=True), judged("w", said("b"), correct=None, kept=False)),
        (judged("r", said("a"), correct=True, kept=False), judged("w", said("b"), correct=False)),
        (
            judged("r", said("a"), correct=True),
            judged("w", said("b", is_cut=True), correct=False, kept=False),
        ),
        (
            judged("r", said("a"), correct=True),
            judged("w", said("b", prompt="Be short. Q p"), correct=False, kept=False),
        ),
        (
            judged("r", said("a"), correct=True),
            judged("w", said("b"), correct=False, kept=False, problem="q"),
        ),
    ],
    ids=["unscored is not wrong", "right but rejected", "cut", "other prompt", "other problem"],
)
def test_what_makes_no_pair_of_right_and_wrong(right, wrong):
    assert made([right, wrong], setting_of(["gold"])) == []


# -- compared -------------------------------------------------------------------------------


def judge(quality, letter_bias=0.0):
    """A model that compares by the texts' quality (log-odds), with a bias towards (A)."""

    def surprise(prompt, text):
        asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
        letter = text.strip()[1]
        # The last question's options: worked comparisons stand before it.
        options = dict(re.findall(r"^\(([AB])\) (.*)$", asked, re.MULTILINE))
        score = quality.get(options[letter], 0.0) + (letter_bias if letter == "A" else 0.0)
        # The stop token is scored too, and must not count.
        return score / len(text), 0.2

    return ScriptedEngine(surprise=surprise, loaded=[Path("w")])


def preferences(engine, comparisons, **settings):
    return asyncio.run(Comparer(**settings).compare(engine, comparisons, lambda *what: None))


COMPARISON = Comparison(Problem("p", "Which?", None), "good", "bad", seed=1)


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("letter_bias", [0.0, 3.0, -8.0])
def test_a_bias_towards_a_letter_cancels_over_both_orders(letter_bias, chat):
    engine = judge({"good": 1.5}, letter_bias)
    swapped = replace(COMPARISON, first="bad", second="good")
    first, second = preferences(engine, [COMPARISON, swapped], chat=chat)
    expected = 1 / (1 + 2.718281828459045**-1.5)
    assert first.first_is_better == pytest.approx(expected, abs=1e-9)
    assert second.first_is_better == pytest.approx(1 - expected, abs=1e-9)


def test_one_order_alone_would_have_followed_the_letter():
    engine = judge({"good": 1.5}, letter_bias=-8.0)
    preferences(engine, [COMPARISON])
    scores = [engine.surprise(prompt, text)[0] for prompt, text in engine.scored]
    a_first, b_first = scores[0], scores[1]
    assert a_first < b_first, "asked once, the model would have chosen the bad text"


def test_the_question_is_the_published_one_with_one_principle_in_both_orders():
    engine = judge({})
    (found,) = preferences(engine, [COMPARISON], principles=("Be kind.", "Be brief."))
    prompts = list(dict.fromkeys(prompt for prompt, _ in engine.scored))
    assert len(prompts) == 2 and found.principle in ("Be kind.", "Be brief.")
    for prompt, options in zip(prompts, (("good", "bad"), ("bad", "good")), strict=True):
        assert prompt == (
            "Consider the following conversation between a human and an assistant:\n\n"
            f"Human: Which?\n\n{found.principle}\nOptions:\n(A) {options[0]}\n(B) {options[1]}\n"
            "The answer is:"
        )
    assert {text for _, text in engine.scored} == {" (A)", " (B)"}


def test_of_two_kept_samples_the_one_that_the_model_prefers_surely_is_chosen():
    entries = [judged("a", said("good")), judged("b", said("bad"))]
    (pair,) = made(entries, setting_of(["compared"]), judge({"good": 2.0}, 5.0))
    assert (pair.chosen_id, pair.rejected_id, pair.origin) == ("a", "b", "compared")
    assert pair.probability == pytest.approx(0.8808, abs=1e-4)
    assert pair.principle == PRINCIPLE


@pytest.mark.parametrize(("confidence", "number"), [(0.85, 1), (0.9, 0)])
def test_a_preference_below_the_asked_confidence_makes_no_pair(confidence, number):
    entries = [judged("a", said("good")), judged("b", said("bad"))]
    setting = setting_of(["compared"], confidence=confidence)
    assert len(made(entries, setting, judge({"good": 2.0}))) == number


def test_a_question_that_does_not_fit_makes_no_pair_and_costs_no_other():
    def surprise(prompt, text):
        if "long" in prompt:
            raise PromptTooLongError("too long")
        return (-1.0 if text == " (A)" else -2.0), 0.1

    engine = ScriptedEngine(surprise=surprise, loaded=[Path("w")])
    short, long = COMPARISON, replace(COMPARISON, first="long")
    found = preferences(engine, [short, long])
    assert [p.first_is_better for p in found] == [pytest.approx(0.5), None]


def test_rejected_and_cut_samples_are_not_compared():
    entries = [
        judged("a", said("one")),
        judged("b", said("two"), kept=False),
        judged("c", said("three", is_cut=True)),
    ]
    engine = judge({})
    assert made(entries, setting_of(["compared"]), engine) == [] and engine.scored == []


def test_principles_and_worked_comparisons_come_from_the_published_files(tmp_path):
    (tmp_path / "p.json").write_text(json.dumps(["\nPlease be kind. Options:"]))
    shot = {"prompt": "\n\nHuman: Hi\n\nAssistant:", "corrects": ["yes"], "incorrects": ["no"]}
    (tmp_path / "s.json").write_text(json.dumps([shot]))
    config = PairsConfig(principles=tmp_path / "p.json", few_shots=tmp_path / "s.json")
    comparer = Comparer.of(config, chat=False)
    engine = judge({})
    (found,) = asyncio.run(comparer.compare(engine, [COMPARISON], lambda *what: None))
    assert found.principle == "Please be kind."
    asked = engine.scored[0][0]
    assert asked.count("Please be kind.") == 2 and asked.index("Human: Hi") < asked.index("Which?")
    with pytest.raises(DataError, match="no such file"):
        Comparer.of(PairsConfig(principles=tmp_path / "nothing.json"), chat=False)


# -- selection --------------------------------------------------------------------------------


def test_a_problem_has_at_most_so_many_pairs_and_the_first_source_comes_first():
    entries = [judged(f"s{i}", said(f"bad{i}"), said(f"good{i}")) for i in range(6)]
    entries += [judged("q", said("x"), said("y"), problem="q")]
    entries = [(s, replace(v, correct=True)) for s, v in entries]
    entries += [judged("w", said("wrong"), kept=False, correct=False)]
    found = made(entries, setting_of(["revision", "gold"], per_problem=3))
    assert sorted(p.problem_id for p in found) == ["p", "p", "p", "q"]
    assert {p.origin for p in found} == {"revision"}
    unlimited = made(entries, setting_of(["gold", "revision"], per_problem=None))
    assert len(unlimited) == 8 and {p.origin for p in unlimited} == {"gold", "revision"}


def test_two_texts_are_one_pair_whichever_is_said_to_be_better():
    same = [judged(name, said("bad"), said("good")) for name in ("s", "t")]
    assert len(made(same, setting_of(["revision"]))) == 1
    other = judged("u", said("good"), said("bad"))
    assert len(made([same[0], other], setting_of(["revision"]))) == 1


def test_no_pair_asks_a_held_out_question():
    entries = [
        judged("s", said("bad"), said("good")),
        judged("t", said("bad"), said("good"), problem="q"),
    ]
    found = made(entries, setting_of(["revision"], heldout={"q p"}))
    assert [p.problem_id for p in found] == ["q"]


def test_the_same_round_makes_the_same_pairs_in_the_same_order():
    entries = [judged(f"r{i}", said(f"right{i}"), correct=True) for i in range(4)]
    entries += [judged(f"w{i}", said(f"wrong{i}"), correct=False, kept=False) for i in range(4)]
    setting = setting_of(["gold"])
    assert made(entries, setting) == made(entries, setting)
