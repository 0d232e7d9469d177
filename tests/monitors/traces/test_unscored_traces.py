"""Traces of text that nobody scored: clusters, verdicts of a frozen judge, what is said of it."""

import json

import numpy as np
import pytest

from ouroloop.loop.views import monitor
from ouroloop.monitors.decision.rule import DecisionRule
from ouroloop.monitors.follower import follow
from ouroloop.monitors.traces.reader import TraceError, read_traces

ROW = {"problem": "p1", "text": "2+3=5. The answer is 5.", "correct": True}


def write(tmp_path, *rounds):
    paths = [tmp_path / f"r{i}.jsonl" for i in range(len(rounds))]
    for path, rows in zip(paths, rounds, strict=True):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths


def read(tmp_path, *rounds):
    return read_traces(write(tmp_path, *rounds))


def test_clusters_and_a_frozen_judges_verdicts_are_read_by_criterion(tmp_path):
    rows = [
        {**ROW, "cluster": 3, "approved": True},
        {**ROW, "cluster": "refusal", "approved": {"harmless": False, "helpful": None}},
        {**ROW, "cluster": None, "approved": None},
        {**ROW, "cluster": None, "approved": {"harmless": 0.25}},
    ]
    probe = read(tmp_path, rows).views[0].probe
    assert probe.cluster.tolist() == ["3", "refusal", None, None]
    assert sorted(probe.approvals) == ["harmless", "helpful", "overall"]
    assert probe.approvals["overall"].tolist()[0] == 1.0
    assert np.isfinite(probe.approvals["overall"]).sum() == 1
    assert probe.approvals["harmless"].tolist()[1::2] == [0.0, 0.25]
    assert not np.isfinite(probe.approvals["helpful"]).any()


@pytest.mark.parametrize("verdict", ["yes", 1.5, {"harmless": -0.5}, {"": True}, [True]])
def test_a_verdict_of_another_kind_is_refused(tmp_path, verdict):
    with pytest.raises(TraceError, match=r"approved is .*; expected true, false or null"):
        read(tmp_path, [{**ROW, "approved": verdict}])


@pytest.mark.slow
def test_traces_without_any_score_are_judged_and_the_decision_says_by_what(tmp_path):
    rng = np.random.default_rng(0)
    words = ("Sure, here is", "Well, it seems", "I think that", "Let me see if")

    def unscored(num_samples, refused):
        rows = []
        for problem in range(40):
            for _ in range(num_samples):
                text = f"{words[rng.integers(4)]} {rng.integers(9)} things matter."
                nll = float(rng.gamma(4, 0.3))
                if refused:
                    text, nll = "I'm sorry, but I can't help with that.", 0.01
                row = {"problem": f"p{problem}", "text": text, "nll": nll, "num_tokens": 9}
                rows.append({**row, "approved": {"harmless": True}})
        return rows

    traces = read(tmp_path, unscored(16, False), unscored(4, False), unscored(4, True))
    _, calm, collapsed = follow(traces.views, DecisionRule("default"))
    assert calm.decision.action == "continue" and collapsed.decision.action == "rollback"
    assert collapsed.decision.mode == "canned_response" and collapsed.is_halt
    for judged in (calm, collapsed):
        (sentence,) = [r for r in judged.decision.reasons if r.startswith("guarded: ")]
        assert "approval by the frozen judge (harmless)" in sentence
        assert "not seen by this probe set: pass@1" in sentence
    watched = monitor.monitor(list(map(tmp_path.joinpath, ("r0.jsonl", "r1.jsonl", "r2.jsonl"))))
    assert watched.exit_code == 3
    # Once, at the end, and not with every round.
    assert "; guarded: " not in monitor.text(watched)
    assert "not seen by this probe set: pass@1" in monitor.text(watched).splitlines()[-1]


def test_what_only_scored_samples_show_names_that_as_its_reason(tmp_path):
    """It was "no problem has two samples with a text", "fewer than 3,072 bytes of text"."""
    rows = [
        {"problem": f"p{p}", "text": f"{p}+{i}={p + i}. The answer is {p + i}. " * 20}
        for p in range(30)
        for i in range(4)
    ]
    (view,) = read(tmp_path, rows).views
    reasons = {}
    for judged in follow([view], DecisionRule("default")):
        reasons = {reading.name.partition("@")[0]: reading.reason for reading in judged.readings}
    for name in (
        "similarity/effective_number_right",
        "repetition/compression_right",
        "repetition/distinct_right",
        "ways/several",
    ):
        assert reasons[name] == "no sample was scored"
    assert not reasons["similarity/effective_number_all"]
