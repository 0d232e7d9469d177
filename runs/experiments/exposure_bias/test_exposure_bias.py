"""The arms of the exposure-bias study, what counts as a right next line.

And its numbers and goals on made-up samples.
"""

import math

import pytest

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.records import Problem
from ouroloop.loop.setup import prepare
from runs.experiments.exposure_bias import findings, measure, study
from runs.experiments.exposure_bias.beginnings import FAMILIES, next_lines, steps_of, true_lines

STUDY = study.EXPERIMENT.study
ITEM = Problem("p", "Add 47 and 35.", "82", "sum2", metadata={"a": 47, "b": 35})
COLUMN, SPLIT = "47+35\n7+5=12\n4+3+1=8\nanswer 82", "47+35\n40+30=70\n7+5=12\n70+12=82\nanswer 82"


def test_one_arm_learns_from_true_traces_alone_the_other_from_its_own_right_ones():
    gold, own, few = (
        resolve(STUDY.keys(arm, 0)) for arm in ("gold_traces", "self_trained", "few_slips")
    )
    assert gold.dataset.gold and not gold.sampling.student and not gold.teachers
    assert own.sampling.student and not own.dataset.gold and own.filters.gold
    same = {"name": "", "dataset": own.dataset, "sampling": own.sampling}
    assert gold.model_copy(update=same) == own.model_copy(update=same)
    assert few.model_copy(update={"name": gold.name, "model": gold.model}) == gold


def test_the_probe_set_holds_every_family_and_asks_nothing_that_is_practised():
    setting = prepare(resolve(STUDY.keys("self_trained", 0)))
    assert set(FAMILIES) <= {p.family for p in setting.probe_set.problems} and {
        p.family for p in setting.problems
    } == {"sum2", "sum3"}
    assert not {p.question for p in setting.probe_set.problems} & {
        p.question for p in setting.problems
    }


def test_a_line_is_called_for_by_every_strategy_that_the_lines_before_it_follow():
    assert next_lines("sum2", ["47+35"]) == {
        "column": "7+5=12",
        "split": "40+30=70",
        "compensate": "47+3=50",
        "jump": "47+30=77",
    }
    assert next_lines("sum2", ["47+35", "7+5=13"]) == {"column": "4+3+1=8"}, (
        "a wrong value is built on"
    )
    assert next_lines("sum2", ["47+35", "7+5=9"]) == {"column": "4+3=7"}
    assert next_lines("sum2", ["47+35", "7+5=12", "4+3+1=8"]) == {"column": "answer 82"}
    for lost in (
        ["47+35", "7+6=13"],
        ["47+35", "7+5=12", "4+3+1=8", "8+1=9"],
        ["nonsense"],
        ["47*35"],
    ):
        assert next_lines("sum2", lost) == {}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_right_trace_is_right_line_by_line_and_on_course(family):
    task = ArithmeticTask()
    for item in [p for p in task.problems("heldout") if p.family == family][:40]:
        for name in world.st.STRATEGIES[family]:
            if lines := true_lines(item, name):
                steps = list(steps_of(item, "\n".join(lines)))
                assert [s.position for s in steps] == list(range(1, len(lines)))
                assert all(
                    s.right and s.on_course and list(s.beginning) == lines[: s.position]
                    for s in steps
                )


def test_a_slip_is_wrong_once_and_lines_honestly_built_on_it_are_right_but_off_course():
    steps = list(steps_of(ITEM, "47+35\n7+5=13\n4+3+1=8\nanswer 83"))
    assert [(s.right, s.on_course) for s in steps] == [(False, True), (True, False), (True, False)]
    assert steps[-1].beginning == ("47+35", "7+5=12", "4+3+1=8")
    derailed = list(steps_of(ITEM, "47+35\n7+5=12\n9+9=18\nanswer 3"))
    assert [(s.right, s.followed) for s in derailed] == [
        (True, True),
        (False, True),
        (False, False),
    ], "after a line that none calls for, none is"
    misread = list(steps_of(ITEM, "47+36\n7+6=13\n4+3+1=8\nanswer 83"))
    assert all(s.right for s in misread) and not any(s.on_course for s in misread)


def rows_of(texts):
    task = ArithmeticTask()
    return [
        {
            "text": t,
            "correct": float(bool(task.grade(ITEM, t).correct)),
            "answer": task.grade(ITEM, t).answer,
            "problem": "p",
        }
        for t in texts
    ]


def test_the_gap_holds_a_line_against_the_same_line_after_true_ones():
    slipped = "47+35\n7+5=13\n4+3+1=9\nanswer 93"
    rows = rows_of([COLUMN, slipped])
    lines = [
        {"problem": "p", "beginning": "47+35\n7+5=12", "text": t}
        for t in ("4+3+1=8", "4+3+1=8", "4+3+1=8", "4+3=7")
    ]
    lines += [
        {"problem": "p", "beginning": "47+35", "text": "7+5=12"},
        {"problem": "p", "beginning": "47+35\n7+5=12\n4+3+1=8", "text": "answer 82"},
    ]
    found = {
        part["at"]: part
        for part in measure.by_position([(ITEM, rows)], lines)
        if not math.isnan(part["at"])
    }
    assert [found[2.0][key] for key in ("own", "true", "on_course", "kept", "gap", "fall")] == [
        0.5,
        0.75,
        0.5,
        0.5,
        0.25,
        0.25,
    ]
    assert [found[3.0][key] for key in ("own", "true", "on_course", "kept", "gap", "fall")] == [
        1.0,
        1.0,
        0.5,
        0.5,
        0.0,
        0.5,
    ]
    assert (found[1.0]["own"], found[1.0]["true"], found[1.0]["on_course"]) == (0.5, 1.0, 1.0)
    (later,) = [
        part for part in measure.by_position([(ITEM, rows)], lines) if math.isnan(part["at"])
    ]
    assert (later["gap"], later["fall"]) == (
        0.125,
        0.375,
    ), "lines 2 and 3; line 1 has no calculation before it"


def test_the_vote_and_the_critic_choose_among_the_same_samples():
    rows = rows_of([COLUMN, SPLIT, "47+35\n7+5=13\nanswer 83"])
    words = [
        {"problem": "p", "index": i, "approved": 1.0, "probability": p}
        for i, p in enumerate((0.2, None, 0.9))
    ]
    found = measure.accuracies([(ITEM, rows)], [{"problem": "p", "correct": 1.0}], words)
    assert (found["single"], found["majority"], found["verified"], found["greedy"]) == (
        pytest.approx(2 / 3),
        1.0,
        0.0,
        1.0,
    )
    assert [(part["at"], part["single"]) for part in measure.by_length([(ITEM, rows)])] == [
        (4.0, 0.5),
        (5.0, 1.0),
    ]


def run(single, gap, gain):
    out = []
    for number in (0.0, 1.0):
        for family in FAMILIES:
            score = single[family]
            common = {**measure.EMPTY, "round": number, "family": family, "num": 60.0}
            gains = {
                f"{name}_gain{end}": gain + d
                for name in ("majority", "verified")
                for end, d in (("", 0.0), ("_low", -0.02), ("_high", 0.02))
            }
            accuracies = dict.fromkeys(("single", "greedy", "majority", "verified"), score)
            accuracies |= {"single_low": score - 0.05, "single_high": score + 0.05}
            line = {"own": 0.5, "true": 0.5 + gap, "kept": 0.4, "on_course": 0.3}
            line |= {
                f"{name}{end}": gap + d
                for name in ("gap", "fall")
                for end, d in (("", 0.0), ("_low", -0.01), ("_high", 0.01))
            }
            out += [{**common, "part": "family", **accuracies, **gains}]
            out += [{**common, "part": "line", "at": at, **line} for at in (1.0, 2.0, math.nan)]
            out += [{**common, "part": "length", "at": 5.0, **accuracies}]
    return out


def test_goals_are_met_or_missed_as_the_rows_say():
    falls = {"sum2": 0.6, "sum3": 0.2, "missing": 0.4}
    seeds = {0: run(falls, 0.05, 0.1), 1: run(falls, 0.06, 0.1)}
    good = {"gold_traces": seeds, "few_slips": seeds}
    assert [g.met for g in findings.goals(good)] == [True] * 16
    level = {"sum2": 0.4, "sum3": 0.4, "missing": 0.4}
    assert [g.met for g in findings.goals({"self_trained": {0: run(level, 0.005, 0.01)}})] == [
        False
    ] * 13
    assert findings.goals({}) == [] and "| missing |" in "\n".join(findings.notes(good))
