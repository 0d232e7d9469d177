"""What cannot be measured has a reason and stops nothing.

Through `ouroloop monitor`, the loop's decisions, and the loop itself.
"""

import json

import pytest
from scripted_world import Model, carry, recipe
from trace_matrix import CASES, NUM_SAMPLES, VERDICTS, rows

from ouroloop.loop.folder.store import read_json, read_rows
from ouroloop.loop.folder.tables import to_json as record_to_json
from ouroloop.loop.round import Round
from ouroloop.loop.rows import ProbeRow, RoundPlan
from ouroloop.loop.stages import decide
from ouroloop.loop.views.monitor import monitor, text, to_json
from ouroloop.monitors.decision import guarded
from ouroloop.monitors.decision.guarded import QuantityId


def expected(removed, is_scored, has_judge):
    """Which quantities this probe set has at all.

    No tail without slices, no other families without families, and what is for text that nobody
    scored only there.
    """
    gone = {
        "slice": {QuantityId.TAIL_ACCURACY, QuantityId.TAIL_DIVERSITY},
        "family": {QuantityId.OTHER_FAMILIES},
    }
    declared = guarded.SCORED if is_scored else guarded.GUARDED
    # A frozen judge's approvals are guarded whether somebody scored the samples or not.
    judged = {QuantityId.APPROVED, QuantityId.JUDGED} if has_judge else set()
    return ({q.id for q in declared} | judged) - gone.get(removed, set())


def check(decision, removed, verdict, has_judge=False):
    """The round goes on, and each quantity is guarded or has a reason why not."""
    assert decision["action"] == "continue", decision["reasons"]
    is_scored = verdict != "unscored" and removed != "correct"
    guards = {guard["quantity"].partition("/")[0] for guard in decision["guards"]}
    unmeasured = {entry["quantity"]: entry["reason"] for entry in decision["unmeasured"]}
    assert guards | set(unmeasured) == expected(removed, is_scored, has_judge)
    assert not guards & set(unmeasured) and all(unmeasured.values())
    if is_scored:
        assert {QuantityId.ACCURACY, QuantityId.UNSCORED} <= guards
        return
    # Whoever reads "continue" of text that nobody scored reads what was looked at.
    assert guards and not guards & {q.id for q in guarded.SCORED}
    assert decision["reasons"][-1].startswith("guarded: ")
    assert "not seen by this probe set: pass@1" in decision["reasons"][-1]


# One sample per problem breaks most; the others take as long again and are for the slow part.
FEW_AND_MORE = [NUM_SAMPLES[0], *(pytest.param(n, marks=pytest.mark.slow) for n in NUM_SAMPLES[1:])]


@pytest.mark.slow
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("num", NUM_SAMPLES)
def test_no_missing_field_ends_ouroloop_monitor(tmp_path, num, verdict):
    for removed in (r for r, n, v in CASES if (n, v) == (num, verdict)):
        paths = [tmp_path / f"{removed}-{number}.jsonl" for number in range(2)]
        for number, path in enumerate(paths):
            path.write_text(
                "".join(json.dumps(row) + "\n" for row in rows(removed, num, verdict, number))
            )
            if removed == "round":  # else both files were the same
                path.write_text(path.read_text().replace("-0.1,", f"-0.1{number},"))
        watched = monitor(paths)
        found = json.loads(json.dumps(to_json(watched), allow_nan=False))
        assert found["exit_code"] == 0 and text(watched)
        check(found["rounds"][1], removed, verdict, has_judge=removed != "approved")
        readings = [r for row in found["rounds"] for r in row["readings"]]
        assert not [r["reason"] for r in readings if r["status"] == "error"], removed
        assert all(r["reason"] for r in readings if r["value"] is None)


@pytest.mark.slow
@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("num", FEW_AND_MORE)
def test_no_missing_number_ends_the_loops_decision(tmp_path, num, verdict):
    """`ouroloop.loop.stages.decide` as the controller calls it.

    On tables that lack a column's values.
    """
    settings = recipe(rounds=1)
    for removed in (None, "strategy", "answer", "nll", "family", "slice"):
        first, last = (Round.of(tmp_path / str(removed), number) for number in range(2))
        for made in (first, last):
            made.probe = probe_rows(removed, num, verdict, made.number)
        last.plan = RoundPlan(1, 0, 0, (1.0,), 0.0, None, False, 10)
        main = "sum" if removed != "family" else "default"
        first.readings = decide.read(first, [], main, settings)
        last.readings = decide.read(last, [first], main, settings)
        assert [r.name for r in last.readings if r.status == "error"] == []
        rule = decide.decision_rule(settings, main)
        decision = decide.decide(last, [first], rule, [], settings)
        check(json.loads(json.dumps(record_to_json(decision), allow_nan=False)), removed, verdict)


def probe_rows(removed, num, verdict, number):
    """The matrix's rows as the probe stage writes them."""
    out = []
    for row in rows(None, num, verdict, number):
        cells = {
            name: row[name]
            for name in (
                "problem",
                "family",
                "slice",
                "correct",
                "valid",
                "strategy",
                "answer",
                "nll",
                "num_tokens",
            )
        }
        cells |= {
            "text": row["text"],
            "truncated": 0.0,
            "kind": "sample",
            "answer": str(row["answer"]),
        }
        blank = {"family": "default", "slice": "typical"}
        out.append(ProbeRow(**cells | ({removed: blank.get(removed)} if removed else {})))
    return out


@pytest.mark.slow
def test_a_run_without_one_gold_answer_goes_through_all_its_rounds(tmp_path, monkeypatch):
    """The grader gives no verdict on anything.

    The filter is the critic alone, nothing is guarded, and a message states it.
    """
    import dataclasses

    from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask

    graded = ArithmeticTask.grade
    monkeypatch.setattr(
        ArithmeticTask,
        "grade",
        lambda self, *item: dataclasses.replace(graded(self, *item), correct=None),
    )
    settings = recipe(
        rounds=2, refine={"revisions": 0}, filters={"gold": False, "steps": False, "critic": True}
    )
    decision, path = carry(tmp_path, Model(lambda n: 0.6), settings)
    assert decision.round == 2 and decision.action == "continue"
    assert all(row["correct"] is None for row in read_rows(path / "rounds/000/probe.parquet"))
    written = read_json(path / "rounds/002/decision.json")
    why = {entry["quantity"]: entry["reason"] for entry in written["unmeasured"]}
    guards = {guard["quantity"] for guard in written["guards"]}
    assert {"apart", "canned", "open", "answered", "length"} <= guards
    assert why[QuantityId.ACCURACY] == "no scored sample at the baseline"
    assert "not seen by this probe set: pass@1" in decision.reasons[-1]
