"""The arms of the teacher-ceiling study, its problem files, and its goals on made-up rows."""

import json

import pytest

from ouroloop.evals.worlds.arithmetic import world
from ouroloop.evals.worlds.arithmetic.task import ArithmeticTask
from ouroloop.loop.folder.store import write_json
from ouroloop.loop.folder.tables import to_json
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.rows import Preflight, PreflightAction
from ouroloop.loop.setup import prepare
from runs.experiments.teacher_ceiling import findings, measure, problems, study

STUDY = study.EXPERIMENT.study


def recipe(arm, runs):
    return resolve(STUDY.recipe(arm, 0, runs))


def test_the_sums_are_right_their_traces_too_and_splits_share_no_pair_of_numbers():
    rows = {split: problems.sums(problems.BEYOND, split, 60) for split in ("train", "heldout")}
    for split, found in rows.items():
        for row in found:
            a, b = (int(n) for n in row["solution"].split("\n")[0].split("+"))
            assert (
                str(a + b) == row["answer"]
                and row["solution"].endswith(f"answer {row['answer']}")
                and min(a, b) >= 1000
            )
            assert str(a) in row["question"] and world.split_of("sum3", a, b) == split
    assert not {row["question"] for row in rows["train"]} & {
        row["question"] for row in rows["heldout"]
    }
    item = ArithmeticTask().problems("heldout")[0]
    assert ArithmeticTask().grade(item, f"answer {item.answer}").correct


def test_a_problem_file_is_the_same_every_time_and_made_once(tmp_path):
    one, other = (STUDY.made["scarce"](tmp_path / name) for name in "ab")
    assert one.read_text() == other.read_text()
    families = [json.loads(line)["family"] for line in one.read_text().splitlines()]
    assert (families.count(problems.REACHED), families.count(problems.BEYOND)) == (6, 394)
    before = one.stat().st_mtime_ns
    assert (
        STUDY.made["scarce"](tmp_path / "a").stat().st_mtime_ns == before
        and len(list((tmp_path / "a").iterdir())) == 1
    )


def test_the_arms_see_what_they_may_see(tmp_path):
    found = {arm: recipe(arm, tmp_path) for arm in STUDY.arms}
    for arm in ("distilled", "imitated", "unreachable", "scarce"):
        assert (
            not found[arm].sampling.student
            and found[arm].teachers == ("arithmetic/teacher",)
            and not found[arm].dataset.gold
        )
    for arm in ("self_taught", "teacher_self_taught"):
        assert (
            found[arm].sampling.student
            and not found[arm].teachers
            and not found[arm].dataset.gold
            and found[arm].filters.gold
        )
    assert (
        not found["imitated"].filters.gold
        and found["gold_traces"].dataset.gold
        and not found["gold_traces"].sampling.student
    )
    assert [arm for arm in found if found[arm].monitors.guard] == ["unreachable", "scarce"]
    gold = found.pop(
        "gold_traces"
        # shows what the student can learn, not what as many traces do: more problems, more epochs,
        # nothing else
    )
    assert (
        len(
            {
                (
                    r.sampling.problems_per_round * r.sampling.samples_per_problem,
                    r.rounds,
                    str(r.sft),
                )
                for r in found.values()
            }
        )
        == 1
    )
    other = found["distilled"]
    assert (
        gold.sampling.problems_per_round >= len(prepare(gold).problems)
        and gold.rounds == other.rounds
    )
    assert {**gold.sft, "num_train_epochs": 3} == dict(other.sft)


def test_every_arm_is_probed_on_both_families_and_practises_on_neither_of_their_held_out_questions(
    tmp_path,
):
    for arm, practised in (
        ("distilled", {"sum3", "sum4"}),
        ("unreachable", {"sum4"}),
        ("scarce", {"sum3", "sum4"}),
    ):
        setting = prepare(recipe(arm, tmp_path))
        assert {p.family for p in setting.problems} == practised and {
            p.family for p in setting.probe_set.problems
        } == {"sum3", "sum4"}
        assert not {p.question for p in setting.probe_set.problems} & {
            p.question for p in (*setting.problems, *setting.demonstrations)
        }
        assert setting.prompts.draft == world.PROMPTS.draft and not setting.prompts.chat


@pytest.mark.parametrize("starved", [True, False])
def test_a_warning_is_the_preflight_checks_own_flag(tmp_path, starved):
    # The words of the reason do not count.
    found = Preflight(PreflightAction.PASS, ("the training set starves",), 0.0, None, starved)
    write_json(tmp_path / "preflight.json", to_json(found))
    assert measure.warned(tmp_path) == float(starved)


def test_a_round_without_a_preflight_check_has_no_warning(tmp_path):
    assert measure.warned(tmp_path) == 0.0


def run(sum3, sum4, warned=0.0, trained=1.0, solved=0):
    out = []
    for i, (three, four) in enumerate(zip(sum3, sum4, strict=True)):
        scores = {}
        for family, value in ((problems.REACHED, three), (problems.BEYOND, four)):
            scores |= {
                f"{family}_pass_1": value,
                f"{family}_pass_k": value,
                f"{family}_problems": 60.0,
                f"{family}_solved": float(solved * i),
                f"{family}_sampled": 400.0 * i,
                f"{family}_right": 400.0 * i * value,
            }
        out.append(
            {
                "round": float(i),
                "action": "continue",
                "examples": 100.0,
                "warned": warned,
                "trained": trained,
                **scores,
            }
        )
    return out


def test_goals_are_met_or_missed_as_the_rows_say():
    def seeds(*values, **more):
        apart = (
            [(before, after + 0.001 * seed * (after > 0)) for before, after in values]
            for seed in range(3)
        )
        return {seed: run(*pairs, **more) for seed, pairs in enumerate(apart)}

    starved = seeds((0.15, 0.15), (0.0, 0.0), warned=1.0, trained=0.0)
    good = {
        "distilled": seeds((0.15, 0.5), (0.0, 0.0)),
        "imitated": seeds((0.15, 0.3), (0.0, 0.0)),
        "self_taught": seeds((0.15, 0.3), (0.0, 0.0)),
        "teacher_self_taught": seeds((0.37, 0.6), (0.0, 0.0)),
        "gold_traces": seeds((0.15, 0.6), (0.0, 0.2)),
        "unreachable": starved,
        "scarce": starved,
    }
    assert [g.met for g in findings.goals(good)] == [True] * 11
    bad = {
        "distilled": seeds((0.15, 0.1), (0.0, 0.4), solved=30),
        "imitated": seeds((0.15, 0.5), (0.0, 0.0)),
        "self_taught": seeds((0.15, 0.1), (0.0, 0.0)),
        "teacher_self_taught": seeds((0.37, 0.3), (0.0, 0.0)),
        "gold_traces": seeds((0.15, 0.6), (0.0, 0.0)),
        "unreachable": seeds((0.15, 0.2), (0.0, 0.0)),
        "scarce": seeds((0.15, 0.2), (0.0, 0.0)),
    }
    assert [g.met for g in findings.goals(bad)] == [False] * 11
    assert findings.notes({}) == [] and "| scarce | 0 | 1 |" in "\n".join(findings.notes(good))
    assert findings.right(problems.REACHED)(good["distilled"][0]) == pytest.approx(0.5)
