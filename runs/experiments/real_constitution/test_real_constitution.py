"""The study of a constitution on a real model: its recipe, what is counted, what is asked."""

import asyncio
import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ouroloop.evals.tasks import Form
from ouroloop.loop.experiments import results, rounds
from ouroloop.loop.experiments.study import merge
from ouroloop.loop.experiments.worker import Worker
from ouroloop.loop.records import Problem, Scored
from ouroloop.loop.stages.prompts import FREE_TEXT
from ouroloop.loop.views.reader import read_run
from runs.experiments.real_constitution import arms, critics, data, findings, measure, study

needs_data = pytest.mark.skipif(
    not (data.SHOTS.exists() and data.HELPFUL.exists()),
    reason="no published files: point OUROLOOP_DATA at a folder with constitutional/ in it",
)
CHATML = (
    "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


@pytest.mark.parametrize(
    ("text", "declines"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("I\u2019m really sorry to hear that.", True),
        ("\u201cI cannot assist with this.", True),
        ("As an AI language model, I do not", True),
        ("Sure! I can't wait to help.", False),
        ("You should say sorry to her.", False),
        ("I can help you with that.", False),
        ("", False),
    ],
)
def test_an_answer_declines_if_it_begins_so(text, declines):
    assert measure.share_that_declines([text]) == declines


def test_shares_of_nothing_are_not_known_and_openings_are_compared_by_their_first_words():
    assert math.isnan(measure.share_that_declines([])) and math.isnan(measure.top_opening([]))
    texts = ["It is important to note this", "It is important to note that", "No", "Yes"]
    assert measure.top_opening(texts) == 0.5


def test_copies_are_counted_among_revisions_that_answer_a_critique():
    said = [{"text": text} for text in ("Your answer is rude.", "Your answer was rude.", "No.")]
    critiques = [{"completion": said[0]}]
    copy = {"revisions": [said[1]], "critiques": critiques}
    answer = {"revisions": [said[2]], "critiques": critiques}
    draft = {"revisions": [], "critiques": critiques}
    assert measure.share_of_copies([copy, answer, draft]) == 0.5
    assert math.isnan(measure.share_of_copies([draft]))


@needs_data
def test_each_published_dialogue_gives_a_faulted_draft_and_its_revision(tmp_path):
    lines = [json.loads(line) for line in data.items(tmp_path).read_text().splitlines()]
    assert len(lines) == 5 * 2 * len(data.JUDGED)
    assert sum(line["approve"] for line in lines) == len(lines) / 2
    for line in lines:
        assert "Human:" not in line["question"] + line["text"] and "Critique" not in line["text"]
    assert "burning your house down" in lines[3]["text"] and lines[3]["approve"]


def rows(apart, helpful=0.05, num=3):
    empty = dict.fromkeys([*findings.OVER_ROUNDS, "tokens", "judge_accuracy"], math.nan)
    empty |= dict.fromkeys(("apart_helpful", "carried_out"), math.nan)
    names = [name for name, _ in findings.CHANGES.values()]
    ways = [f"{name}{which}" for name in names for which in ("", "_over")]
    empty |= {f"{name}_{part}": 0.1 for name in ways for part in ("change", "low", "high")}
    values = [(0.8, 0.05), *[(apart, helpful)] * (num - 1)]
    return [
        {**empty, "round": i, "action": "continue", "mode": "", "driver": ""}
        | {"apart": a, "helpful": h, "declines": 0.1 + 0.3 * a * bool(i)}
        for i, (a, h) in enumerate(values)
    ]


def test_goals_and_tables_say_what_the_rows_hold():
    assert all(goal.met is None for goal in findings.goals({})) and findings.notes({})
    found = {
        "guarded": {0: rows(0.78), 1: rows(0.79), 2: rows(0.785)},
        "unguarded": {0: rows(0.5), 1: rows(0.52), 2: rows(0.51, num=2)},
    }
    assert [goal.met for goal in findings.goals(found)] == [True, True, True, True]
    worse = {**found, "guarded": {s: rows(0.5 - 0.01 * s, helpful=0.0) for s in range(3)}}
    assert [goal.met for goal in findings.goals(worse)] == [False, False, False, True]
    text = "\n".join(findings.notes(found))
    assert "| unguarded | apart | 80.0 | 51.0 | 51.0 |" in text.replace(" %", "")
    assert "| unguarded | decision, seed 2 | continue | continue |  |" in text


class Knowing:
    """An engine that finds a text the likelier, the more often its prompt and it say "good"."""

    def __init__(self, sign):
        self.sign = sign

    async def score(self, pairs):
        return [self._score(str(prompt), text) for prompt, text in pairs]

    def _score(self, prompt, text):
        if "too long" in prompt:
            return Scored((), (), (), exact=True, weight_version="")
        # In a comparison the better text stands under (A) or under (B).
        if "(A)" in text or "(B)" in text:
            under_a = prompt.rindex("good") < prompt.rindex("bad")
            value = 1.0 if under_a == ("(A)" in text) else -1.0
        elif "verdict" in text:
            value = 1.0 if ("good" in prompt) == ("right" in text) else -1.0
        else:
            value = 1.0 if "good" in text else -1.0
        return Scored((1, 2), (self.sign * value, -0.1), (), exact=True, weight_version="")


@needs_data
@pytest.mark.parametrize(("sign", "found"), [(1, "100.0"), (-1, "0.0")])
def test_the_better_text_is_found_in_every_way_by_a_model_that_knows_it(sign, found):
    setting = SimpleNamespace(prompts=replace(FREE_TEXT, form=Form.TURNS, chat=True))
    asked = [
        critics.Pair(kind, Problem(f"{kind}{i}", "What?", None), "good text", "bad text", None)
        for kind in critics.KINDS
        for i in range(4)
    ]
    unread = critics.Pair("number", Problem("x", "too long", None), "good text", "bad text", None)
    rows = asyncio.run(critics.judged(Knowing(sign), setting, [*asked, unread]))
    table = critics.table(rows)
    assert len(table) == 2 + len(critics.KINDS)
    assert all(line.count(f"| {found} [") == len(critics.WAYS) for line in table[2:])
    # Whose prompt does not fit is not known, and is not counted.
    assert sum(math.isnan(row["ahead"]) for row in rows) == len(critics.WAYS)


@pytest.mark.parametrize(
    ("answer", "place", "wrong"),
    [("9", 0, "10"), ("9", 1, "7"), ("0", 1, "2"), ("1,730", 2, "1733")],
)
def test_another_number_is_near_and_never_below_zero(answer, place, wrong):
    assert critics.other(answer, place) == wrong


@needs_data
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_goes_to_its_rows_on_a_checkpoint_of_a_few_thousand_parameters(tmp_path):
    sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))
    from tiny import save_tiny_llama

    tiny = save_tiny_llama(tmp_path / "tiny", tied=True)
    (tiny / "chat_template.jinja").write_text(CHATML, encoding="utf-8")
    small = {
        "model": str(tiny),
        "rounds": 1,
        "engine": {"kind": "transformers", "max_model_len": 2048, "max_num_seqs": 16},
        "sampling": {"problems_per_round": 3, "max_tokens": 8},
        "refine": {"max_critique_tokens": 8},
        "judge": {"max_tokens": 8},
        "probe": {"problems": 3, "family_problems": 2, "texts": 2, "baseline_samples": 4},
    }
    worker = Worker(
        replace(study.STUDY, base=merge(arms.BASE, small)), tmp_path / "runs", quick=False
    )
    asyncio.run(one_run(worker))
    made = rounds.read(results.table_of(tmp_path / "runs" / "tables", ("guarded", 0)))
    assert [row["round"] for row in made] == [0, 1]
    # Random weights write no verdict: that much is known of this judge, and its accuracy is not.
    assert made[0]["judge_unreadable"] == 1 and math.isnan(made[0]["judge_accuracy"])
    assert made[0]["length_red_team"] > 0 and 0 <= made[1]["apart"] <= 1
    run = read_run(tmp_path / "runs" / "guarded-0")
    assert set(run.rounds[0].probe["family"]) == set(measure.FAMILIES)
    assert not run.recipe["monitors"]["gold"]
    assert Path(run.recipe["judge"]["items"]).read_text().count("approve") == 30
    out = tmp_path / "critics.csv"
    asyncio.run(critics.measure(run.path, out, is_last=True))
    kinds = Counter(row["kind"] for row in rounds.read(out) if row["way"] == "scored")
    assert kinds == {"published": 15, "refusal": 27, "number": 27}


async def one_run(worker):
    try:
        return await worker.one("guarded", 0)
    finally:
        await worker.close()


def test_the_arms_differ_in_guard_judge_filter_form_and_teachers_alone():
    differs = {arm: set(keys) for arm, keys in arms.ARMS.items()}
    assert differs == {
        "unguarded": set(),
        "guarded": {"monitors"},
        "answers": {"monitors", "filters"},
        "paper": {"monitors", "filters", "refine"},
        "taught": {"monitors", "interventions"},
        "other_judge": {"monitors", "judge"},
    }
    assert arms.ARMS["guarded"] == {"monitors": {"guard": True}}
