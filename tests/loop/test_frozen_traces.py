"""Round 0's answers, chosen once and scored under every round's model."""

from collections import Counter, defaultdict

import numpy as np
import pytest
from scripted_world import Model, carry, recipe, recommit, rows, uncommit

from ouroloop.loop.checks import traces as cost_check
from ouroloop.loop.errors import PromptTooLongError, RecipeError
from ouroloop.loop.round import Round
from ouroloop.loop.rows import ProbeRow
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages import decide
from ouroloop.loop.stages.traces import choose, costs

DYING = "split"


@pytest.fixture(scope="module")
def narrowed(tmp_path_factory):
    """A run of three rounds in which one strategy loses its probability."""
    model = Model()
    settings = recipe(
        rounds=2,
        probe={"traces": 6},
        monitors={"guarded": [{"use": "retained", "options": {"loss": 0.9}}], "guard": False},
    )
    setting = prepare(settings)
    problems = {problem.question: problem for problem in setting.probe_set.problems}

    def surprise(prompt, text):
        problem = problems.get(prompt.partition("\nA:\n")[0])
        is_dying = problem is not None and setting.strategy(problem, text) == DYING
        return (-0.1 - 0.4 * model.round if is_dying else -0.1), 0.2

    model.engine.surprise = surprise
    _, path = carry(tmp_path_factory.mktemp("runs"), model, settings)
    return path, settings


def row(problem, strategy, text, correct=1.0, **changes):
    fields = {
        "problem": problem,
        "family": "f",
        "slice": "typical",
        "kind": "sample",
        "correct": correct,
        "valid": None,
        "strategy": strategy,
        "answer": None,
        "nll": 0.1,
        "num_tokens": 5.0,
        "truncated": 0.0,
        "text": text,
    }
    return ProbeRow(**{**fields, **changes})


def test_traces_are_right_answers_dealt_out_over_the_strategies_no_text_twice():
    given = [
        *[row("p", "a", text) for text in ("1", "1", "2", "3")],
        row("p", "b", "4"),
        row("p", "b", "5", correct=0.0),
        row("p", None, "6"),
        row("p", "a", "7", truncated=1.0),
        row("p", "a", "8", kind="greedy"),
        row("q", "a", "9", correct=0.0),
    ]
    found = choose(given, 3)
    assert [(t.problem, t.group, t.text) for t in found] == [
        ("p", "a", "1"),
        ("p", "b", "4"),
        ("p", "a", "2"),
    ]
    # Shares are of all samples of the problem, the greedy answer left out.
    assert [t.share for t in found] == pytest.approx([4 / 8, 1 / 8, 4 / 8])
    assert len(choose(given, 99)) == 4 and choose(given, 0) == []


def test_where_nobody_scores_the_response_clusters_are_the_groups():
    given = [row("p", "s", str(i), correct=None, cluster=f"c{i % 2}") for i in range(4)]
    assert Counter(t.group for t in choose(given, 9)) == {"c0": 2, "c1": 2}
    scored = [row("p", "s", str(i), correct=float(i % 2), cluster=f"c{i}") for i in range(4)]
    assert {t.group for t in choose(scored, 9)} == {"s"}
    # Without gold nobody may see which answers are right.
    assert {t.group for t in choose(scored, 9, gold=False)} == {"c0", "c1", "c2", "c3"}


@pytest.mark.slow
def test_the_same_answers_are_scored_in_every_round_and_reach_the_monitors(narrowed):
    path, _ = narrowed
    tables = [rows(path, number, "traces") for number in range(3)]
    fixed = [[(r["problem"], r["group"], r["text"]) for r in table] for table in tables]
    assert fixed[0] and fixed[0] == fixed[1] == fixed[2]
    per_problem = Counter(r["problem"] for r in tables[0])
    assert max(per_problem.values()) <= 6
    right = defaultdict(set)
    for r in rows(path, 0, "probe"):
        if r["correct"] == 1 and r["kind"] == "sample":
            right[r["problem"], r["strategy"]].add(r["text"])
    assert all(r["text"] in right[r["problem"], r["group"]] for r in tables[0])
    view = Round.of(path, 2).view
    per_token = np.where(view.traces.group == DYING, -0.9, -0.1)
    assert view.traces.logprob == pytest.approx(per_token * view.traces.num_tokens)


@pytest.mark.slow
def test_a_dying_strategy_is_read_and_warned_of_at_once(narrowed):
    path, settings = narrowed
    values = []
    for number in range(3):
        found = {r.name: r.value for r in Round.of(path, number).readings}
        values.append(found["traces/retained:all:all:traces"])
    assert values[0] == 1.0 and values[2] < values[1] < 1.0
    decision = Round.of(path, 2).decision
    guards = {(g.quantity, g.baseline): g for g in decision.guards}
    guard = guards["retained", 0]
    assert guard.after == pytest.approx(values[2]) and guard.baseline_se == 0
    assert guard.tolerance == 0.9
    rule = decide.decision_rule(settings, "sum2")
    assert rule.to_json()["retained_loss"] == 0.9


@pytest.mark.slow
def test_a_resumed_round_scores_what_round_0_chose(tmp_path):
    model, settings = Model(), recipe(rounds=1)
    _, path = carry(tmp_path, model, settings)
    before = rows(path, 0, "traces"), rows(path, 1, "traces")
    uncommit(path, 1, "traces.parquet", "readings.json", "decision.json")
    carry(tmp_path, model, settings)
    assert (rows(path, 0, "traces"), rows(path, 1, "traces")) == before


@pytest.mark.slow
def test_a_text_that_does_not_fit_costs_itself_and_switched_off_nothing_is_scored(tmp_path):
    model, settings = Model(), recipe(rounds=1)

    def surprise(prompt, text):
        if model.round and "1" in text[:12]:
            raise PromptTooLongError("no room")
        return -0.1, 0.2

    model.engine.surprise = surprise
    _, path = carry(tmp_path / "some", model, settings)
    lost = [r["logprob"] is None for r in rows(path, 1, "traces")]
    assert 0 < sum(lost) < len(lost)
    off = recipe(rounds=1, probe={"traces": 0})
    _, path = carry(tmp_path / "off", Model(), off)
    assert Round.of(path, 1).view.traces is None
    assert cost_check.check(prepare(off), path) == [] and costs(off.probe, 9) == ()


@pytest.mark.slow
def test_a_run_whose_round_0_has_no_traces_goes_on_without(tmp_path):
    settings = recipe(rounds=1)
    _, path = carry(tmp_path, Model(), settings)
    (path / "rounds/000/traces.parquet").unlink()
    recommit(path, 0)
    uncommit(path, 1, "traces.parquet", "readings.json", "decision.json")
    carry(tmp_path, Model(), settings)
    assert Round.of(path, 1).traces == ()


def test_the_cost_is_said_before_the_run():
    (finding,) = cost_check.check(prepare(recipe(probe={"traces": 5})), None)
    num = len(prepare(recipe()).probe_set.problems)
    assert f"at most {5 * num:,} texts" in finding.what
    assert f"{9 * num:,} answers" in finding.what


def test_a_tolerance_that_means_nothing_is_refused():
    with pytest.raises(RecipeError, match="expected a number above 0"):
        prepare(recipe(monitors={"guarded": [{"use": "retained", "options": {"loss": 0.0}}]}))
