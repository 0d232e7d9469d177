"""The study of a constitution on a real model: its recipe, what is counted, what is asked."""

import asyncio
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ouroloop.loop.experiments import results, rounds
from ouroloop.loop.experiments.study import merge
from ouroloop.loop.experiments.worker import Worker
from ouroloop.loop.views.reader import read_run
from runs.experiments.real_constitution import arms, data, findings, measure, study

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
        "engine": {"kind": "transformers", "max_model_len": 8192, "max_num_seqs": 16},
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


async def one_run(worker):
    try:
        return await worker.one("guarded", 0)
    finally:
        await worker.close()


def test_the_arms_differ_in_guard_and_judge_alone():
    differs = {arm: set(keys) for arm, keys in arms.ARMS.items()}
    assert differs == {
        "unguarded": set(),
        "guarded": {"monitors"},
        "other_judge": {"monitors", "judge"},
    }
    assert arms.ARMS["guarded"] == {"monitors": {"guard": True}}
