"""The guarded constitution: its items, its recipe, what is measured, and simulated collapses."""

import functools
import json
import random
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ouroloop.evals.worlds.arithmetic import principles
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.recipes.recipe_file import load_recipe, resolve
from ouroloop.loop.round import Round
from ouroloop.loop.rows import JudgementRow, ProbeRow
from ouroloop.loop.setup import prepare
from ouroloop.monitors.strategies.responses import ResponseClusters
from runs.experiments.constitutional.measure import problems
from runs.experiments.guarded_constitution import findings, injected, items, measure, study

ITEMS = study.ITEMS.read_text(encoding="utf-8").splitlines()


# ----- the recipe -----


def test_the_committed_items_are_those_that_the_program_writes():
    assert [json.loads(line) for line in ITEMS] == items.items(random.Random("judge"))


def test_items_are_labelled_as_the_principles_programs_say_and_asked_by_no_run():
    asked = {p.question for p in problems().values()}
    counts = {}
    for line in ITEMS:
        item = json.loads(line)
        counts[item["principle"], item["approve"]] = (
            counts.get((item["principle"], item["approve"]), 0) + 1
        )
        assert item["question"] not in asked
    assert counts == {(n, a): items.NUM_EACH for n in principles.PRINCIPLES for a in (True, False)}


def test_the_shipped_recipe_is_guarded_and_sees_no_gold_answer_in_training_or_guard():
    recipe = load_recipe(injected.RECIPE)
    assert recipe.monitors.guard and not recipe.monitors.gold and recipe.judge is not None
    assert not recipe.filters.gold and not recipe.filters.critic and not recipe.dataset.gold
    assert recipe.dataset.replay_source == "baseline" and not recipe.probe.audit_items
    setting = prepare(recipe)
    assert setting.responses is not None, "response clusters without gold"
    assert set(setting.judge.criteria) == set(measure.APPROVALS)
    assert len(setting.judge.items) == len(ITEMS)


def test_the_study_is_the_shipped_recipe_in_two_stages_of_twenty_rounds():
    arm = resolve(study.STUDY.keys("guarded", 1))
    shipped = load_recipe(injected.RECIPE)
    assert arm.rounds == injected.ROUNDS
    assert [arm.at(n).objective.use for n in (1, 10, 11, 20)] == ["sft", "sft", "dpo", "dpo"]
    assert arm.judge == shipped.judge and arm.monitors == shipped.monitors
    assert arm.filters == shipped.filters
    assert arm.dataset.replay_source == "baseline" and not arm.dataset.gold
    unguarded = resolve(study.STUDY.keys("unguarded", 1))
    assert not unguarded.monitors.guard and not unguarded.monitors.gold
    assert unguarded.model_copy(update={"monitors": arm.monitors, "name": arm.name}) == arm


# ----- what is measured -----


def test_apart_is_the_share_of_pairs_in_different_clusters_whatever_their_number():
    def rows(*labels):
        return pd.DataFrame({"problem": ["p"] * len(labels), "cluster": labels})

    assert measure.apart(rows("a", "a", "b", "b")) == pytest.approx(4 / 6)
    assert measure.apart(pd.concat([rows("a", "b"), rows("a").assign(problem="q")])) == 1.0
    assert measure.apart(rows("a", None, None)) == pytest.approx(4 / 6)
    assert np.isnan(measure.apart(pd.DataFrame({"problem": ["p", "p"]})))
    assert np.isnan(measure.apart(rows(None, None))), "no cluster is no canned response"
    assert np.isnan(measure.apart(rows("a"))), "no pair"


APART = ("apart", "apart_helpful", "apart_red_team", "apart_revised")


def test_revised_rows_lie_in_the_clusters_of_what_programs_make_of_them(tmp_path):
    chosen = [p for p in problems().values() if p.family == "sum2"][:12]
    rng = random.Random(0)
    traces = [f"{p.question}\nanswer {n}" for p in chosen for n in range(40, 44)]
    owners = [p for p in chosen for _ in range(4)]
    spoilt = [principles.spoil(p, t, rng) for p, t in zip(owners, traces, strict=True)]
    clusters = ResponseClusters().fit(spoilt, [p.id for p in owners])
    folder = tmp_path / "rounds" / "000"
    found = type("Found", (), {"path": folder})
    rows = pd.DataFrame({"problem": [p.id for p in owners], "text": spoilt, "cluster": "?"})
    assert np.isnan(measure.apart(measure._revised(found, rows))), "no clusters: not known"
    (tmp_path / "clusters.json").write_text(clusters.to_json(), encoding="utf-8")
    clean = [
        functools.reduce(lambda t, name: principles.revise(name, p, t), principles.PRINCIPLES, t)
        for p, t in zip(owners, spoilt, strict=True)
    ]
    assert clean != spoilt
    found = measure._revised(found, rows)
    assert list(found["cluster"]) == clusters.labels(clean, [p.id for p in owners])


def run_of(*values, action="continue", carried_out=1.0):
    names = ("violations", "greedy_violations", "pass_1", "greedy", "helpful", "helpful_greedy")
    rows = []
    for number, (broken, right, apart) in enumerate(values):
        row = {name: broken if "violations" in name else right for name in names}
        last = number == len(values) - 1
        row |= dict.fromkeys(APART, apart) | {"round": number, "carried_out": carried_out}
        rows.append({**row, "action": action if last else "continue"})
    return rows


def test_the_model_that_stands_is_the_last_that_was_not_rejected():
    values = [(2.0, 0.7, 0.5), (1.0, 0.7, 0.5), (0.1, 0.1, 0.1)]
    halted = run_of(*values, action="halt")
    assert findings.standing("violations")(halted) == 1.0
    unguarded = run_of(*values, action="halt", carried_out=0.0)
    assert findings.standing("violations")(unguarded) == 0.1
    assert findings.fall("violations")(halted) == 0.5


def test_goals_are_met_by_what_is_hoped_for_and_not_by_a_collapse(monkeypatch):
    simulated = [
        {"kind": "own", "watch": "5", "halt": "0", "onset": "5"},
        {"kind": "null", "watch": "0", "halt": "0", "onset": "0"},
    ] * 100
    monkeypatch.setattr(findings, "read_injected", lambda: simulated)

    def seeds(*values):
        moved = [
            [tuple(x * (1 + s * i / 1e3) for x in v) for i, v in enumerate(values)]
            for s in range(5)
        ]
        return {seed: run_of(*each) for seed, each in enumerate(moved)}

    good = {"guarded": seeds((2.0, 0.7, 0.5), (0.2, 0.75, 0.48))}
    assert {goal.met for goal in findings.goals(good)} == {True}
    assert len(findings.goals(good)) == 11
    bad = {"guarded": seeds((2.0, 0.7, 0.5), (1.5, 0.4, 0.2))}
    assert {goal.met for goal in findings.goals(bad)[:9]} == {False}
    assert {goal.met for goal in findings.goals({})} == {None}
    (called,) = (line for line in findings.notes(good) if line.startswith("| of round 0 |"))
    assert "| 100.0 [" in called


def test_an_alarm_before_the_onset_is_no_call():
    early = {"kind": "own", "watch": "2", "halt": "0", "onset": "5"}
    late = {"kind": "own", "watch": "0", "halt": "0", "onset": "5"}
    called = {"kind": "own", "watch": "6", "halt": "0", "onset": "5"}
    found = findings.called_in_time([early, late, called, called], "own", "watch")
    assert found.value == pytest.approx(2 / 3)


# ----- simulated collapses -----

VERDICT = JudgementRow("", "sum2", 0, "harmless", "privacy", 1.0, None, 1.0, None, "")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A run's round 0 of 40 problems with 16 varied samples each, every other one judged."""
    run = tmp_path_factory.mktemp("run")
    round = Round.of(run, 0)
    chosen = [p for p in ArithmeticTask().problems("heldout") if p.family == "sum2"][:40]
    rng = random.Random(0)
    rows, verdicts = [], []
    for problem in chosen:
        for index in range(16):
            text = principles.spoil(
                problem, f"{problem.question}\nanswer {rng.randint(1, 99)}", rng
            )
            row = ProbeRow(
                problem.id, "sum2", "typical", "sample", 1.0, None, None, None, 0.4, 30.0, 0.0, text
            )
            rows.append(row)
            if index % 2:
                verdicts.append(replace(VERDICT, problem=problem.id, index=index))
    round.probe, round.judgements = rows, verdicts
    found = injected.World(run)
    probe = found.recipe.probe.model_copy(update={"samples": 8, "baseline_samples": 16})
    found.recipe = found.recipe.model_copy(update={"probe": probe})
    return found


def test_a_drawn_probe_has_as_many_samples_and_verdicts_as_a_round_and_no_gold(world):
    rows, verdicts = world.draw(np.random.default_rng(0), 8, None)
    assert len(rows) == 40 * 8 and len(verdicts) == 40 * 2
    assert {row.correct for row in rows} == {None}
    assert {verdict.index for verdict in verdicts} == {0, 1}


def test_a_tenth_of_the_samples_becomes_the_canned_text_and_is_judged_as_that(world):
    text = replace(world.canned(np.random.default_rng(1), "own"), text="Eva is here\nanswer 1")
    rows, verdicts = world.draw(np.random.default_rng(2), 200, text)
    share = np.mean([row.text == text.text for row in rows])
    assert share == pytest.approx(injected.SHARE, abs=0.02)
    assert {row.problem for row in rows if row.text == text.text} == set(world.answers)
    rejected = np.mean([verdict.approved == 0 for verdict in verdicts])
    assert rejected == pytest.approx(injected.SHARE, abs=0.03)


@pytest.mark.slow
def test_a_canned_text_is_called_and_an_unchanged_model_is_not(world, monkeypatch):
    # Half of the mass: forty problems are too few for a tenth within two rounds.
    monkeypatch.setattr(injected, "SHARE", 0.5)
    monkeypatch.setattr(injected, "ROUNDS", 4)
    called = list(injected.runs(world, 3, "new", 0))
    assert all(row.onset <= row.watch < row.onset + injected.WITHIN for row in called)
    assert not any(row.halt for row in injected.runs(world, 3, "null", 0))
