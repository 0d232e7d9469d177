"""What the monitors get beside the probe set.

Real texts kept out of training, and planted items before the filter.
"""

import re
from collections import Counter

import numpy as np
import pytest
from scripted_world import TASK, Model, carry, recipe, recommit, rows

from ouroloop.evals.questions import normalised
from ouroloop.evals.tasks import Problem
from ouroloop.loop.config import ProbeConfig
from ouroloop.loop.engines.scripted import Answer
from ouroloop.loop.errors import PromptTooLongError
from ouroloop.loop.folder.store import read_json
from ouroloop.loop.round import Round
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages.texts import hold_out

CRITIC = {"gold": False, "steps": False, "critic": True}


def views(path, numbers):
    return [Round.of(path, number).view for number in numbers]


def says(word):
    """A model whose critic always gives the same verdict."""
    model = Model()
    plain = model.answer
    model.engine.answer = lambda request: (
        f"so: {word}" if request.prompt.endswith("\nC:\n") else plain(request)
    )
    return model


@pytest.mark.slow
def test_the_same_real_texts_are_scored_in_every_round_and_reach_the_monitors(tmp_path):
    model, settings = Model(), recipe(rounds=2)
    model.engine.surprise = lambda prompt, text: (-0.1 - model.round, 0.5 + model.round)
    _, path = carry(tmp_path, model, settings)
    tables = [rows(path, n, "texts") for n in range(3)]
    assert len(tables[0]) == 16 and len({r["problem"] for r in tables[0]}) == 16
    assert (
        [r["text"] for r in tables[0]]
        == [r["text"] for r in tables[1]]
        == [r["text"] for r in tables[2]]
    )
    for number, view in enumerate(views(path, range(3))):
        assert view.texts.nll == pytest.approx([0.1 + number] * 16)
        assert view.texts.entropy == pytest.approx([0.5 + number] * 16)
        assert view.texts.num_tokens == pytest.approx(
            [len(r["text"].encode()) + 1 for r in tables[0]]
        )


@pytest.mark.slow
def test_held_out_demonstrations_are_never_trained_on_in_any_wording(tmp_path):
    settings = recipe(rounds=2, dataset={"replay_fraction": 0.9})
    _, path = carry(tmp_path, Model(), settings)
    setting = prepare(settings)
    held = (*setting.held_out.texts, *setting.held_out.audit_items)
    assert {normalised(p.question) for p in held} <= set(
        read_json(path / "probe_set.json")["heldout_questions"]
    )
    trained = [r for n in (1, 2) for r in rows(path, n, "examples")]
    assert sum(r["origin"] == "demonstration" for r in trained) > 1000, (
        "the reserve was drawn on until little was left"
    )
    numbers = {tuple(sorted(re.findall(r"\d+", p.question))) for p in held}
    asked = [bytes(r["prompt_token_ids"]).decode().partition("\nA:")[0] for r in trained]
    assert not [q for q in asked if tuple(sorted(re.findall(r"\d+", q))) in numbers]


@pytest.mark.slow
def test_a_text_that_does_not_fit_costs_itself(tmp_path):
    model, settings = Model(), recipe(rounds=1)

    def surprise(prompt, text):
        if "answer 1" in text:
            raise PromptTooLongError("no room")
        return -0.1, 0.2

    model.engine.surprise = surprise
    _, path = carry(tmp_path, model, settings)
    (view,) = views(path, [1])
    lost = np.array(["answer 1" in r["text"] for r in rows(path, 1, "texts")])
    assert 0 < lost.sum() < 16
    assert (np.isnan(view.texts.nll) == lost).all() and (np.isnan(view.texts.entropy) == lost).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("texts", "audit_items"),
    [
        (0, 0),
        pytest.param(10, 0, marks=pytest.mark.slow),
        pytest.param(0, 10, marks=pytest.mark.slow),
    ],
)
def test_what_is_switched_off_is_not_there_and_leaves_the_reserve_alone(
    tmp_path, texts, audit_items
):
    settings = recipe(rounds=1, probe={"texts": texts, "audit_items": audit_items})
    _, path = carry(tmp_path, Model(), settings)
    for view in views(path, [0, 1]):
        assert (view.texts is None) == (not texts) and (view.audit is None) == (not audit_items)
    left = len(prepare(settings).demonstrations)
    assert (
        left == len(TASK.problems("reserve"))
        if not texts + audit_items
        else left < len(TASK.problems("reserve"))
    )


@pytest.mark.slow
def test_filters_that_know_the_answer_and_the_steps_accept_every_right_item_and_no_wrong_one(
    finished_run,
):
    _, path = finished_run
    for number, view in enumerate(views(path, [0, 1])):
        items = rows(path, number, "audit")
        assert Counter(i["kind"] for i in items) == {
            "right": 10,
            "wrong_answer": 10,
            "wrong_step": 10,
        }
        assert {i["problem"].split("-")[0] for i in items} == {"sum2"}, (
            "the family that the loop practises on"
        )
        assert (view.audit.accepted == view.audit.right).all()
        assert all("gold" in i["reasons"] for i in items if i["kind"] == "wrong_answer")
        assert all(i["reasons"] == ["steps"] for i in items if i["kind"] == "wrong_step")


@pytest.mark.slow
def test_a_filter_that_does_not_claim_to_see_steps_is_not_tried_on_them(tmp_path):
    _, path = carry(tmp_path, Model(), recipe(rounds=1, filters={"steps": False}))
    assert Counter(i["kind"] for i in rows(path, 1, "audit")) == {
        "right": 10,
        "wrong_answer": 10,
    }


@pytest.mark.slow
def test_without_gold_the_critic_alone_decides_and_an_easy_one_lets_wrong_answers_in(tmp_path):
    # Fewer critiques of the probe set than say that a critic is mute: that would end the run.
    settings = recipe(rounds=1, refine={"revisions": 0}, filters=CRITIC, probe={"critiques": 4})
    sharp, easy, mute = Model(), says("right"), says("hmm")
    accepted = {}
    for name, model in {"sharp": sharp, "easy": easy, "mute": mute}.items():
        _, path = carry(tmp_path / name, model, settings)
        items = rows(path, 1, "audit")
        accepted[name] = {
            kind: {i["accepted"] for i in items if i["kind"] == kind}
            for kind in ("right", "wrong_answer", "wrong_step")
        }
    assert accepted["sharp"] == {"right": {1.0}, "wrong_answer": {0.0}, "wrong_step": {0.0}}
    assert accepted["easy"] == {"right": {1.0}, "wrong_answer": {1.0}, "wrong_step": {1.0}}
    assert accepted["mute"] == {
        "right": {0.0},
        "wrong_answer": {0.0},
        "wrong_step": {0.0},
    }, "no verdict is no approval, as for a sample"


@pytest.mark.slow
def test_the_critic_is_asked_under_the_weights_that_sample_the_round_with_the_same_requests(
    tmp_path,
):
    model = Model()
    seen = []
    plain = model.answer

    def answer(request):
        if "/critique_canary/" in request.id:
            seen.append((model.round, request))
        return plain(request)

    model.engine.answer = answer
    carry(tmp_path, model, recipe(rounds=3, filters={"critic": True}))
    assert Counter(number for number, _ in seen) == {
        0: 2 * 30,
        1: 30,
        2: 30,
    }, "rounds 0 and 1 both judge with the base model"
    by_round = [[r for _, r in seen[i : i + 30]] for i in range(0, 120, 30)]
    assert by_round[0] == by_round[1] == by_round[2] == by_round[3]


@pytest.mark.slow
def test_an_item_without_room_for_a_critique_has_no_verdict(tmp_path):
    model, settings = Model(), recipe(rounds=1, filters=CRITIC)
    plain = model.answer

    def answer(request):
        if "/critique_canary/1" in request.id:
            raise PromptTooLongError("no room")
        return plain(request)

    model.engine.answer = answer
    _, path = carry(tmp_path, model, settings)
    (view,) = views(path, [1])
    kinds = np.array([i["kind"] for i in rows(path, 1, "audit")])
    assert (np.isnan(view.audit.accepted) == (kinds == "wrong_answer")).all()


@pytest.mark.slow
def test_an_unfinished_critique_is_no_approval(tmp_path):
    model = Model()
    plain = model.answer
    model.engine.answer = lambda r: (
        Answer("so: right", stopped=False) if "/critique_canary/" in r.id else plain(r)
    )
    _, path = carry(tmp_path, model, recipe(rounds=1, filters=CRITIC))
    assert {i["accepted"] for i in rows(path, 1, "audit")} == {0.0}


@pytest.mark.slow
def test_the_pool_says_what_the_gates_knew_of_each_sample(tmp_path):
    settings = recipe(rounds=1, refine={"revisions": 0}, filters=CRITIC)
    _, path = carry(tmp_path, Model(lambda n: 0.5), settings)
    (view,) = views(path, [1])
    verdicts = rows(path, 1, "verdicts")
    assert list(view.pool.text) == [v["text"] for v in verdicts]
    assert {1.0, 0.0} == set(view.pool.approved) == set(view.pool.valid)
    by_id = {p.id: p for p in TASK.problems("train")}
    assert list(view.pool.slice) == [by_id[v["problem_id"]].slice for v in verdicts] and {
        "typical",
        "tail",
    } == set(view.pool.slice)


@pytest.mark.slow
def test_a_committed_round_of_an_earlier_version_is_left_as_it_is(tmp_path):
    settings = recipe(rounds=1)
    _, path = carry(tmp_path, Model(), settings)
    for name in ("texts", "audit"):
        (path / f"rounds/000/{name}.parquet").unlink()
    recommit(path, 0)
    carry(tmp_path, Model(), settings)
    assert not list((path / "rounds/000").glob("texts*")) and not list(
        (path / "rounds/000").glob("audit*")
    )
    (view,) = views(path, [0])
    assert view.texts is None and view.audit is None


def demonstrations(count):
    return [
        Problem(
            f"p{i}",
            f"What is {i} and {i}?",
            str(2 * i),
            "a" if i % 3 else "b",
            solution=f"answer {2 * i}",
        )
        for i in range(count)
    ]


def test_at_most_half_of_the_subjects_are_held_out_whatever_the_order_of_the_file():
    reserve = [*demonstrations(20), Problem("none", "No demonstration of 5 and 9?", "1")]
    held = hold_out(reserve, ProbeConfig(texts=64, audit_items=40), {"a"})
    assert len(held.texts) == 10 and len(held.rest) == 11
    assert not {p.id for p in held.texts} & {p.id for p in held.rest}
    assert held.audit_items == tuple(p for p in held.texts if p.family == "a")
    assert hold_out(reserve[::-1], ProbeConfig(), {"a"}).texts == held.texts
    assert hold_out(reserve, ProbeConfig(), {"none of them"}).audit_items == held.texts


def test_one_subject_gives_one_text_and_takes_its_other_wordings_along():
    wordings = ("What is {a} and {b}?", "Add {b} to {a}.", "{b} more than {a}?")
    reserve = [
        Problem(f"{a}/{i}", wording.format(a=a, b=a + 1), "0", solution=f"answer {i}")
        for a in (3, 7)
        for i, wording in enumerate(wordings)
    ]
    held = hold_out(reserve, ProbeConfig(), {"default"})
    assert len(held.texts) == 1 and held.audit_items == held.texts
    assert {p.id[0] for p in held.rest} == {"3", "7"} - {held.texts[0].id[0]} and len(
        held.rest
    ) == 3
