"""`ouroloop plan` and `ouroloop monitor --plan`.

What a probe set would show, before anything is run.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ouroloop.loop.__main__ import main
from ouroloop.loop.views import power
from ouroloop.monitors.decision import guarded
from ouroloop.monitors.decision.rule import DecisionRule

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

SMALL = {
    "name": "small",
    "rounds": 7,
    "probe": {"problems": 40, "samples": 4, "majority": 4, "pass_at": 2, "family_problems": 0},
}


def printed(capsys, *arguments):
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.slow
def test_a_recipe_is_planned_on_a_typical_model_and_makes_nothing(capsys, tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(SMALL))
    code, out, _ = printed(
        capsys, "plan", str(tmp_path / "r.yaml"), "--runs", str(tmp_path / "runs")
    )
    assert code == 0 and not (tmp_path / "runs").exists()
    assert (
        "40 problems, 4 samples of each per round and 16 in the baseline round" in out
        and "a typical model: 50%" in out
    )
    assert "up to 4 answers of round 0 to each of 40 problems are scored every round" in out
    assert (
        "| pass@1 " in out
        and "HALT at once" in out
        and "| HALT in 7" in out
        and "in 10" not in out
        and "What cannot be seen:" in out
    )
    assert "HALT is unlikely to notice even its complete loss" in out


@pytest.mark.slow
def test_what_the_guard_does_not_see_is_not_planned_with(capsys, tmp_path, monkeypatch):
    planned = []
    monkeypatch.setattr(power, "power", lambda rule, drawn, design, only: planned.append(design))
    monkeypatch.setattr(power, "text", lambda analysis: "")
    unseen = {**SMALL, "monitors": {"gold": False}, "filters": {"gold": False, "agreement": 0.5}}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(unseen))
    where = ("--runs", str(tmp_path / "runs"))
    assert printed(capsys, "plan", str(tmp_path / "r.yaml"), *where)[0] == 0
    assert [(design.num_problems, design.num_free) for design in planned] == [(0, 40)]


@pytest.mark.slow
def test_samples_of_one_problem_are_no_model_to_plan_with(capsys, tmp_path):
    path = tmp_path / "one.jsonl"
    path.write_text("".join(json.dumps({"problem": "p", "text": f"say {n}"}) + "\n" for n in "ab"))
    code, _, err = printed(capsys, "monitor", "--plan", "20", "4", str(path))
    assert code == 2 and "one.jsonl: got samples of one problem; expected at least two" in err


@pytest.mark.slow
def test_where_the_run_has_a_round_0_that_model_is_taken(capsys, tmp_path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(SMALL))
    rng, folder = np.random.default_rng(0), tmp_path / "runs" / "small" / "rounds" / "000"
    folder.mkdir(parents=True)
    rows = [
        {
            "problem": f"p{p}",
            "family": "sum2",
            "slice": "typical",
            "kind": "sample",
            "correct": float(rng.random() < 0.9),
            "valid": None,
            "strategy": "ab"[k % 2],
            "answer": "7",
            "nll": None,
            "num_tokens": 5.0,
            "truncated": 0.0,
            "text": "x",
        }
        for p in range(40)
        for k in range(16)
    ]
    pq.write_table(
        pa.Table.from_pylist([*rows, {**rows[0], "kind": "greedy"}]), folder / "probe.parquet"
    )
    code, out, _ = printed(
        capsys,
        "plan",
        str(tmp_path / "r.yaml"),
        "--runs",
        str(tmp_path / "runs"),
        "--json",
        "--set",
        "probe.samples=6",
    )
    found = json.loads(out)
    assert (
        code == 0
        and found["about"] == "the samples of round 0 of small"
        and found["design"]["num_samples"] == 6
    )
    first = found["powers"][0]
    assert (
        first["name"] == "pass@1"
        and abs(first["base"] - 0.9) < 0.03
        and first["smallest"]["halt"]["3"]["0.8"] > 0.01
    )


@pytest.mark.slow
def test_traces_are_planned_without_being_judged(capsys, tmp_path):
    rows = [
        {"problem": p, "text": f"{p}+1={p + 1}", "correct": k % 2 == 0}
        for p in range(30)
        for k in range(8)
    ]
    (tmp_path / "r0.jsonl").write_text("\n".join(map(json.dumps, rows)))
    code, out, _ = printed(capsys, "monitor", "--plan", "60", "4", str(tmp_path / "r0.jsonl"))
    assert code == 0 and "60 problems, 4 samples" in out and "r0.jsonl" in out
    assert "4 samples of each per round and 8 in the baseline round" in out
    assert "r0.jsonl, the baseline: 8 of a usual problem." in out
    assert printed(capsys, "monitor", "--plan", "1", "4")[0] == 2
    code, out, err = printed(capsys, "monitor")
    assert code == 2 and out == "" and "no traces; expected one file per round" in err


def test_problems_that_nobody_scores_are_planned_on_a_typical_model_of_text(tmp_path):
    rule = DecisionRule("red-team", rounds=7)

    def planned(families):
        return power.of_recipe(
            rule,
            families=families,
            main_family="red-team",
            num_samples=4,
            num_baseline_samples=16,
            run_path=tmp_path,
            num_free=30,
            only=("answered",),
        )

    free = planned([])
    (found,) = free.powers
    assert found.quantity == "answered" and found.base == pytest.approx(0.98, abs=0.01)
    answered, _ = guarded.declared_of(guarded.FREE, "answered")
    assert found.smallest["halt", 10, 0.8] > rule.tolerance_of(answered)
    assert power.text(free).startswith("30 problems that nobody scores, 4 samples of each")
    both = planned(["red-team"] * 20)
    assert "20 problems and 30 problems that nobody scores" in power.text(both)
    assert "a typical model: 50%" in both.about and "text that nobody scores" in both.about


@pytest.mark.parametrize(
    ("arguments", "option", "other"),
    [
        (("plan", "demo", "--from", "nosuch"), "--from", "--hardware"),
        (("plan", "demo", "--model-config", "/nope.json"), "--model-config", "--hardware"),
        (("plan", "demo", "--sampling-rate", "5"), "--sampling-rate", "--hardware"),
        (("plan", "demo", "--training-rate", "3"), "--training-rate", "--hardware"),
        (("plan", "demo", "--draft-tokens", "9"), "--draft-tokens", "--hardware"),
        (("monitor", "r0.jsonl", "--reward", "zzz"), "--reward", "--from"),
        (("monitor", "r0.jsonl", "--pass-mark", "0.3"), "--pass-mark", "--from"),
        (("monitor", "--plan", "60", "4", "--pass-mark", "0.3"), "--pass-mark", "--from"),
    ],
)
def test_an_option_that_nothing_would_use_is_refused(capsys, arguments, option, other):
    code, out, err = printed(capsys, *arguments)
    assert code == 2 and out == ""
    assert f"got {option} without {other}, which alone uses it; expected both." in err
    assert err.rstrip().endswith(f"Give {other}, too, or leave {option} out.")
