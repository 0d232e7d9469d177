"""How drafts, critiques and revisions of a conversation are asked for, in each form."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from real_data import DATA

from ouroloop.evals.tasks import Form, Problem, Prompts, Turn
from ouroloop.loop.engines.scripted import Answer, ScriptedEngine, as_text
from ouroloop.loop.errors import PromptTooLongError
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.stages.constitution import Principle, Shots, load_constitution
from ouroloop.loop.stages.dataset import kept_examples
from ouroloop.loop.stages.dialogue import read_dialogue
from ouroloop.loop.stages.filters import Verdict
from ouroloop.loop.stages.prompts import (
    CHAT,
    answered,
    ask,
    ask_critique,
    ask_revision,
    earlier_answers,
    resolve_prompts,
)
from ouroloop.loop.stages.refine import Refiner

TURNS = (Turn("user", "Hi"), Turn("assistant", "Hello"), Turn("user", "Help me"))
TALK = Problem("t", "flat", None, system="Be kind.", messages=TURNS)
PLAIN = Problem("q", "What is 2+3?", "5")
PRINCIPLE = Principle("kind", "Is it kind?", "Make it kind.")
FREE = Prompts(draft="{question}", critique="", revise="", approve="right", reject="wrong")
FREE = replace(FREE, asks_verdict=False)
IN_TURNS = replace(FREE, chat=True, form=Form.TURNS)
PAPER = replace(FREE, form=Form.PAPER)
SHOT = read_dialogue(
    "\n\nHuman: a\n\nAssistant: b\n\nCritiqueRequest: c\n\nCritique: d\n\nRevisionRequest: e"
    "\n\nRevision: f"
)
PUBLISHED = DATA / "constitutional"


def spoken(prompt):
    return [(turn["role"], turn["content"]) for turn in prompt]


# ----- drafts -----


def test_a_conversation_is_drafted_in_all_its_turns_under_its_system_prompt():
    for form in Form:
        assert spoken(ask(replace(IN_TURNS, form=form), TALK)) == [
            ("system", "Be kind."),
            ("user", "Hi"),
            ("assistant", "Hello"),
            ("user", "Help me"),
        ]


def test_the_draft_template_stands_around_the_last_turn_alone():
    prompts = replace(IN_TURNS, draft="{question}\n\nEnd with: answer N")
    assert [text for _, text in spoken(ask(prompts, TALK))][1:] == [
        "Hi",
        "Hello",
        "Help me\n\nEnd with: answer N",
    ]


def test_without_a_chat_template_a_conversation_has_the_published_form():
    text = "Be kind.\n\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Help me\n\nAssistant:"
    for form in Form:
        assert ask(replace(FREE, form=form), TALK) == text
    # What answers it begins with the blank that follows every label.
    assert answered(PAPER, TALK, "Sure")[1] == " Sure"
    assert answered(IN_TURNS, TALK, "Sure")[1] == "Sure"


def test_a_single_question_is_asked_by_the_template_unless_critiques_are_turns():
    assert ask(FREE, PLAIN) == "What is 2+3?"
    assert ask(PAPER, PLAIN) == "\n\nHuman: What is 2+3?\n\nAssistant:"
    assert spoken(ask(IN_TURNS, PLAIN)) == [("user", "What is 2+3?")]
    chat = replace(FREE, chat=True)
    assert ask(chat, PLAIN) == ask(IN_TURNS, PLAIN)


# ----- critiques and revisions -----


def test_critique_and_revision_are_further_turns_of_the_conversation():
    critique = ask_critique(IN_TURNS, TALK, "No.", PRINCIPLE)
    begun = [*spoken(ask(IN_TURNS, TALK)), ("assistant", "No."), ("user", "Is it kind?")]
    assert spoken(critique) == begun
    revision = ask_revision(IN_TURNS, TALK, "No.", "It is rude.", PRINCIPLE)
    assert spoken(revision) == [*begun, ("assistant", "It is rude."), ("user", "Make it kind.")]
    direct = ask_revision(IN_TURNS, TALK, "No.", None, PRINCIPLE)
    assert spoken(direct)[-2:] == [("assistant", "No."), ("user", "Make it kind.")]


def test_in_the_papers_form_all_is_one_text_which_a_chat_template_gets_as_one_turn():
    critique = ask_critique(PAPER, PLAIN, " 6 ", PRINCIPLE)
    begun = "\n\nHuman: What is 2+3?\n\nAssistant: 6\n\nCritiqueRequest: Is it kind?\n\nCritique:"
    assert critique == begun
    revision = ask_revision(PAPER, PLAIN, " 6 ", " No.", PRINCIPLE)
    assert revision == begun + " No.\n\nRevisionRequest: Make it kind.\n\nRevision:"
    chat = replace(PAPER, chat=True)
    assert ask_critique(chat, PLAIN, "6", PRINCIPLE) == [{"role": "user", "content": begun}]
    # Turns without a template for them are the paper's form.
    assert ask_critique(replace(PAPER, form=Form.TURNS), PLAIN, "6", PRINCIPLE) == begun


@pytest.mark.skipif(not PUBLISHED.exists(), reason="OUROLOOP_DATA holds no published files")
def test_the_papers_requests_stand_in_a_prompt_letter_by_letter():
    path = PUBLISHED / "CritiqueRevisionInstructions.json"
    raw = json.loads(path.read_text())
    for entry, principle in zip(raw.values(), load_constitution(path), strict=True):
        critique = ask_critique(PAPER, TALK, "No.", principle)
        assert critique.endswith(f"\n\nAssistant: No.{entry['prompt'][0]}")
        revision = ask_revision(PAPER, TALK, "No.", "Bad.", principle)
        assert revision == f"{critique} Bad.{entry['edit_request']}"


def test_without_a_constitution_any_fault_is_looked_for():
    assert "worst fault" in spoken(ask_critique(IN_TURNS, TALK, "No.", None))[-1][1]
    assert "no such fault" in spoken(ask_revision(IN_TURNS, TALK, "No.", "x", None))[-1][1]


def test_a_verdict_is_asked_for_where_something_depends_on_it():
    def asks(**sections):
        from ouroloop.loop.setup import prepare

        task = {"kind": "arithmetic"}
        return prepare(resolve({"name": "x", "task": task, **sections})).prompts

    paper = {"form": "paper", "revise_when": "always"}
    assert asks(refine=paper).asks_verdict is False
    assert asks(refine={"form": "paper"}).asks_verdict is True
    assert asks(refine=paper, filters={"critic": True}).asks_verdict is True
    assert asks().asks_verdict is True and asks().form is Form.PROMPTS
    prompts = replace(IN_TURNS, asks_verdict=True)
    for prompt in (
        ask_critique(prompts, TALK, "No.", PRINCIPLE),
        ask_revision(prompts, TALK, "No.", "x", PRINCIPLE)[:-2],
    ):
        assert prompt[-1]["content"].endswith("either `verdict: right` or `verdict: wrong`.")


def test_the_form_is_no_template_of_the_recipe():
    from ouroloop.loop.errors import RecipeError

    with pytest.raises(RecipeError, match="unknown key 'form'"):
        resolve_prompts(CHAT, {"form": "turns"}, True)


def test_worked_dialogues_stand_before_the_conversation():
    text = ask_critique(PAPER, PLAIN, "6", PRINCIPLE, [SHOT, SHOT])
    assert text.count("\n\nRevision: f\n\nHuman: ") == 2 and text.endswith("Critique:")
    turns = spoken(ask_revision(IN_TURNS, TALK, "No.", "x", PRINCIPLE, [SHOT]))
    assert turns[0] == ("system", "Be kind.") and turns[1] == ("user", "a")
    roles = [role for role, _ in turns[1:]]
    assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"]


# ----- through the stages -----


def refined(problem, answer, prompts, shots=(), **refine):
    """(the engine, one sample) of a problem."""
    engine = ScriptedEngine(answer)
    recipe = resolve(
        {
            "name": "x",
            "sampling": {"samples_per_problem": 1, "max_tokens": 64},
            "refine": {"revise_when": "always", "form": "paper", **refine},
        }
    )
    held = Shots(tuple(shots))
    refiner = Refiner(engine, recipe, prompts, 1, (1.0,), (PRINCIPLE,), held)

    async def run():
        await engine.load(Path("base"))
        return await refiner.problem(problem)

    return engine, asyncio.run(run())[0], held


def stage(request):
    return request.id.split("/")[-2]


def test_what_is_learnt_is_the_last_revision_after_the_conversation():
    engine, sample, _ = refined(TALK, lambda request: stage(request), IN_TURNS, form="turns")
    assert [stage(r) for r in engine.requests] == ["draft", "critique0", "revise0"]
    verdict = Verdict(
        "s", "t", "flat", None, "", True, (), None, None, None, None, None, None, 1, 1, 1
    )
    (example,) = kept_examples([sample], [verdict], 1)
    asked = as_text(ask(IN_TURNS, TALK)).encode()
    assert bytes(example.prompt_token_ids) == asked, "the ids that the draft was sampled after"
    assert example.completion_token_ids == sample.revisions[-1].token_ids
    assert sample.critiques[0].approved is None and sample.critiques[0].principle == "kind"


def test_a_model_without_a_chat_template_ends_where_it_begins_to_speak_for_others():
    def answer(request):
        return Answer(f" {stage(request)}\n\nHuman: and so on", stopped=False, logprob=-0.5)

    engine, sample, _ = refined(TALK, answer, PAPER)
    assert sample.draft.text == " draft" and sample.draft.finish_reason == "stop"
    assert sample.draft.token_ids == (*b" draft", 256), "the stop token is learnt"
    assert sample.draft.logprobs == (-0.5,) * 7
    revise = engine.requests[-1].prompt
    assert revise.endswith("Critique: critique0\n\nRevisionRequest: Make it kind.\n\nRevision:")
    assert "and so on" not in revise and sample.final.text == " revise0"


def silent(request):
    return Answer("\n\nHuman: and so on", stopped=False)


def test_a_model_that_says_nothing_as_itself_gives_no_sample():
    _, sample, _ = refined(TALK, silent, PAPER)
    assert (sample.draft.finish_reason, sample.draft.text) == ("length", "")


@pytest.mark.parametrize("revise_when", ["always", "rejected"])
def test_a_draft_that_got_no_revision_stands_but_where_every_draft_is_to_be_revised(revise_when):
    def silent_reviser(request):
        if stage(request) == "critique0":
            return "No. verdict: wrong"
        return silent(request) if stage(request) == "revise0" else " fine"

    asks = replace(PAPER, asks_verdict=True, verdict="verdict: {verdict}")
    _, sample, _ = refined(TALK, silent_reviser, asks, revise_when=revise_when)
    assert sample.draft.text == " fine" and len(sample.critiques) == 1
    if revise_when == "rejected":
        assert sample.final == sample.draft
    else:
        assert (sample.final.text, sample.final.finish_reason) == ("", "length")


def test_a_revision_stands_where_a_later_one_says_nothing():
    def silent_at_last(request):
        return silent(request) if stage(request) == "revise1" else f" {stage(request)}"

    _, sample, _ = refined(TALK, silent_at_last, PAPER, revisions=2)
    assert [each.text for each in sample.revisions] == [" revise0"]
    assert sample.final.finish_reason == "stop"


def test_a_critique_that_says_nothing_is_answered_by_a_direct_revision():
    def silent_critic(request):
        return silent(request) if stage(request) == "critique0" else f" {stage(request)}"

    engine, sample, _ = refined(TALK, silent_critic, PAPER)
    assert sample.final.text == " revise0" and sample.answered_critique is None
    asked = engine.requests[-1].prompt
    assert asked.endswith("Assistant: draft\n\nRevisionRequest: Make it kind.\n\nRevision:")


def test_a_chat_model_in_the_published_form_ends_where_it_begins_to_speak_for_others():
    def answer(request):
        if stage(request) == "draft":
            return "one\n\nHuman: two"
        return f"{stage(request)}\nAssistant: and so on"

    _, sample, _ = refined(TALK, answer, replace(PAPER, chat=True))
    assert sample.draft.text == "one\n\nHuman: two", "asked in turns of a chat"
    assert sample.critiques[0].completion.text == "critique0"
    assert (sample.final.text, sample.final.finish_reason) == ("revise0", "stop")
    assert sample.final.token_ids == (*b"revise0", 256), "the stop token is learnt"


def test_a_chat_models_answer_and_an_answer_cut_by_length_stay_as_they_are():
    def answer(request):
        return "one\n\nHuman: two" if stage(request) == "draft" else Answer("x" * 9, stopped=False)

    _, sample, _ = refined(TALK, answer, IN_TURNS, form="turns")
    assert sample.draft.text == "one\n\nHuman: two"
    assert sample.critiques[0].completion.finish_reason == "length"


@pytest.mark.parametrize(("revise_when", "stages"), [("always", 1), ("rejected", 0)])
def test_a_critique_that_was_cut_is_answered_where_every_draft_is_to_be_revised(
    revise_when, stages
):
    def answer(request):
        return Answer("unkind", stopped=False) if stage(request) == "critique0" else stage(request)

    _, sample, _ = refined(TALK, answer, IN_TURNS, form="turns", revise_when=revise_when)
    assert sample.critiques[0].completion.finish_reason == "length"
    assert len(sample.revisions) == stages, "else the draft would be learnt as it is"


@pytest.mark.parametrize(("room", "kept"), [(10_000, 3), (480, 2), (380, 1), (260, 0)])
def test_whole_shots_are_dropped_from_the_front_until_the_prompt_fits(room, kept):
    shots = [
        tuple(each._replace(text=f"{number}{each.text} " + "x" * 10) for each in SHOT)
        for number in range(3)
    ]

    def answer(request):
        if len(request.prompt) > room:
            raise PromptTooLongError("too long")
        return "fine"

    engine, sample, held = refined(PLAIN, answer, PAPER, shots)
    revise = engine.requests[-1].prompt
    assert sample.final.text == "fine"
    used = [number for number in range(3) if f"Human: {number}a" in revise]
    assert used == [0, 1, 2][3 - kept :], len(revise)
    counts = list(held.counted())
    if kept == 3:
        assert counts == [], "nothing is said where nothing is lost"
    else:
        assert counts == [{"requests": 2, "cut": 2, "fewest": len(used), "of": 3}]
        assert list(held.counted()) == [], "and it is said once"
    assert not any(
        f"{number}a" in request.prompt
        for request in engine.requests
        if stage(request) == "draft"
        for number in range(3)
    )


def test_a_conversation_longer_than_the_context_costs_its_sample_and_nothing_else():
    def answer(request):
        raise PromptTooLongError("too long")

    long = replace(
        TALK, messages=tuple(Turn(("user", "assistant")[i % 2], "x" * 999) for i in range(201))
    )
    engine, sample, held = refined(long, answer, PAPER, [SHOT])
    assert (sample.draft.finish_reason, sample.draft.token_ids, sample.revisions) == (
        "length",
        (),
        (),
    )
    assert len(engine.requests) == 1 and list(held.counted()) == []


def test_the_earlier_answers_of_a_conversation_are_what_its_draft_prompt_holds():
    prompts = replace(IN_TURNS, draft="{question}\nThink.")
    ((before, said),) = earlier_answers(prompts, TALK)
    assert (spoken(before), said) == ([("system", "Be kind."), ("user", "Hi")], "Hello")
    assert earlier_answers(prompts, PLAIN) == []
