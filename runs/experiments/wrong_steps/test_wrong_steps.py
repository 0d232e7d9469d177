"""Right answers by wrong steps.

The arms, what is read of a round, the goals on made-up rows, and the count over real solutions.
"""

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from ouroloop.loop.experiments import rounds
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.setup import prepare
from ouroloop.loop.views.reader import RoundData
from runs.experiments.real_data import DATA
from runs.experiments.wrong_steps import findings, measure, real, study
from runs.experiments.wrong_steps.figure import draw

STUDY = study.EXPERIMENT.study


def test_the_arms_differ_in_their_gates_alone_and_train_on_equally_many():
    found = {arm: resolve(STUDY.keys(arm, 1)) for arm in STUDY.arms}
    gold = found["gold"]
    for recipe in found.values():
        assert recipe.model_copy(
            update={"name": "", "filters": gold.filters, "refine": gold.refine}
        ) == gold.model_copy(update={"name": ""})
        assert (
            recipe.filters.gold
            and recipe.refine.revisions == 0
            and recipe.dataset.size == study.SIZE
        )
    assert [(found[arm].filters.steps, found[arm].filters.critic) for arm in study.ARMS] == [
        (False, False),
        (True, False),
        (False, True),
    ]


def test_no_pair_of_numbers_of_the_probe_set_is_practised():
    setting = prepare(resolve(STUDY.keys("gold", 0)))
    assert {p.family for p in setting.problems} == set(measure.PRACTISED)
    assert {p.family for p in setting.probe_set.problems} == {
        *measure.PRACTISED,
        *measure.OTHER,
        *measure.SKILLS,
    }
    assert not {p.question for p in setting.probe_set.problems} & {
        p.question for p in setting.problems
    }


def made_round(probe, verdicts):
    found = RoundData(1, Path("run/rounds/001"), {}, {}, {}, {}, {}, ())
    found.__dict__.update(
        probe=pd.DataFrame(probe, columns=["family", "kind", "correct", "valid"]),
        verdicts=pd.DataFrame(verdicts),
    )
    return found


def test_shares_are_of_right_answers_and_each_gates_catch_of_those_by_wrong_steps():
    mine = [
        ("sum3", "sample", 1, 1),
        ("missing", "sample", 1, 0),
        ("missing", "sample", 0, 0),
        ("sum3", "sample", 1, 1),
    ]
    probe = [*mine, ("sum2", "sample", 1, 0), ("sum3", "greedy", 0, 0)]
    false_sum, misread, right = (
        "54+?=77\n54+6=60\n60+17=77\n6+7=23\nanswer 23",
        "54+?=70\n54+6=60\n60+10=70\n6+10=16\nanswer 23",
        "1+1=2\nanswer 2",
    )
    columns = ("text", "correct", "valid", "kept", "approved")
    wrong = [(false_sum, True, False, True, False), (misread, True, False, True, True)]
    rows = [
        *wrong,
        (right, True, True, True, True),
        (right, True, True, False, None),
        (right, False, False, False, False),
    ]
    found = measure.row(made_round(probe, [dict(zip(columns, row, strict=True)) for row in rows]))
    assert (
        found["pass_1"],
        found["by_right_steps"],
        found["wrong_share"],
        found["greedy"],
    ) == pytest.approx((0.75, 0.5, 1 / 3, 0))
    assert (found["sum2_pass_1"], found["pool_right"], found["pool_wrong"], found["kept"]) == (
        1,
        0.8,
        0.5,
        3,
    )
    assert found["kept_wrong"] == pytest.approx(2 / 3) and found["sums_catch"] == 0.5, (
        "a misread number is no false sum"
    )
    assert (found["critic_catches"], found["critic_wastes"]) == (
        0.5,
        0.5,
    ), "no verdict is no approval"
    before = measure.row(made_round(probe, []))
    assert before.keys() == found.keys() and math.isnan(before["pool_wrong"])


@pytest.mark.slow
def test_a_real_run_has_these_rows(tmp_path):
    from scripted_world import Model, carry, recipe

    _, path = carry(tmp_path, Model(), recipe(rounds=1))
    before, after = measure.measure(path)
    assert math.isnan(before["kept"]) and after["kept"] > 0 and after["kept_wrong"] == 0, (
        "the scripted recipe has a step filter"
    )
    assert 0 < after["pass_1"] < 1 and 0 <= after["critic_wastes"] < 1


def runs(wrong, passing=(0.2, 0.21, 0.19), pass_1=0.5, critic=(math.nan, math.nan)):
    names = (
        "greedy",
        "by_right_steps",
        "kept_wrong",
        "sums_catch",
        *(f"{f}_pass_1" for f in (*measure.PRACTISED, *measure.OTHER, *measure.SKILLS)),
    )
    row = {
        **dict.fromkeys(names, 0.5),
        "pass_1": pass_1,
        "critic_catches": critic[0],
        "critic_wastes": critic[1],
    }
    start = {**row, "round": 0, "wrong_share": 0.3, "pool_wrong": math.nan}
    shares = enumerate(zip(wrong, passing, strict=True))
    columns_by_seed = {
        seed: {
            "wrong_share": w,
            "by_right_steps": 1 - w,
            "pool_wrong": p,
            "critic_catches": critic[0] + seed / 100,
        }
        for seed, (w, p) in shares
    }
    return {
        seed: [start, {**row, "round": 1, **columns}] for seed, columns in columns_by_seed.items()
    }


def test_goals_are_met_or_missed_as_the_rows_say():
    from matplotlib.figure import Figure

    rows = {
        "gold": runs((0.20, 0.22, 0.21)),
        "gold_steps": runs((0.05, 0.06, 0.05), (0.1, 0.1, 0.11)),
    }
    rows["gold_critic"] = runs((0.2, 0.23, 0.2), critic=(0.5, 0.1))
    assert [g.met for g in findings.goals(rows)] == [True, True, True, True, True, True, False]
    none = {
        "gold": runs((0.01, 0.02, 0.01), passing=(0.0, 0.0, 0.0)),
        "gold_steps": runs((0.02, 0.01, 0.02), (0.0, 0.01, 0.0), 0.4),
    }
    assert [g.met for g in findings.goals(none) if g.has_result] == [False] * 5
    page = "\n".join(findings.notes(rows))
    assert (
        "| gold_critic | 20.0" in page
        and "| gold | 20.0 [17.5, 22.5] % | 50.0 [50.0, 50.0] % | - | - |" in page
    )
    figure = Figure()
    draw(rows, figure)
    assert len(figure.axes) == 2 and len(figure.axes[0].lines) == 9


def test_a_calculators_noise_is_no_wrong_calculation():
    assert not real.wrong_calculation(
        "It costs <<4.20+9.45+1.35=14.999999999999998>>15 dollars.\nA: 15"
    )
    assert real.wrong_calculation("That is 450/70 = 6 hours.\nA: 6") and real.wrong_calculation(
        "She has 4+3+4=27 left."
    )
    assert not real.wrong_calculation("No sums here.") and real.wrong_calculation("2/0=5")


def test_the_count_tells_right_from_wrong_answers_by_model(tmp_path):
    def solved(text):
        return {"is_correct": True, "solution": text}

    problem = {
        "ground_truth": "2+3=<<2+3=5>>5\nA: 5",
        **{name: solved("2+3=5\nA: 5") for name in real.MODELS},
    }
    problem |= {"6b_finetuning": solved("2+2=5\nA: 5"), "175b_verification": solved("2+2=6\nA: 6")}
    found = {
        (r["label"], r["part"]): (r["solutions"], r["checkable"], r["wrong"])
        for r in real.count([problem, problem])
    }
    assert found[("6b_finetuning", "right")] == (2, 2, 2) and found[
        ("6b_verification", "right")
    ] == (2, 2, 0)
    assert found[("175b_verification", "wrong")] == (2, 2, 2) and found[
        ("gold solutions", "right")
    ] == (2, 2, 0)
    rounds.write(real.count([problem]), tmp_path / "real.csv")
    assert any(
        "| 6b_finetuning | right | 1 | 1 | 100.0 [2.5, 100.0] % |" in line
        for line in real.real_table(tmp_path / "real.csv")
    )


def test_without_the_data_nothing_is_written_and_a_message_is_printed(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(real, "REAL", tmp_path / "real.csv")
    for folder in (None, tmp_path):
        monkeypatch.delenv("OUROLOOP_DATA", raising=False)
        if folder:
            monkeypatch.setenv("OUROLOOP_DATA", str(folder))
        assert real.main() == 2 and "OUROLOOP_DATA" in capsys.readouterr().err
    assert (
        not (tmp_path / "real.csv").exists()
        and "not counted yet" in real.real_table(tmp_path / "real.csv")[0]
    )


@pytest.mark.slow
@pytest.mark.skipif(
    not (DATA / real.SOLUTIONS).exists(),
    reason="no GSM8K files: point OUROLOOP_DATA at a folder with gsm8k/ in it",
)
def test_the_committed_count_is_what_the_data_says(tmp_path):
    lines = (DATA / real.SOLUTIONS).read_text(encoding="utf-8").splitlines()
    rounds.write(real.count(json.loads(line) for line in lines), tmp_path / "real.csv")
    assert (tmp_path / "real.csv").read_text() == real.REAL.read_text()
