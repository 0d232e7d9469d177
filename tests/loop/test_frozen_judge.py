"""The frozen judge: who is asked, what, under which weights, and what becomes of its verdicts."""

import json
import random
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_world import BY_QUESTION, Model, carry, recipe, uncommit

sys.path.insert(0, str(Path(__file__).parents[1] / "engines"))
from openai_server import Server, serving

from ouroloop.evals.worlds.arithmetic import principles
from ouroloop.loop import checks
from ouroloop.loop.checks import Level
from ouroloop.loop.config import JudgeConfig, ProbeConfig
from ouroloop.loop.errors import DataError, EngineError, RecipeError
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.round_view import samples_of
from ouroloop.loop.rows import JudgementRow, ProbeRow
from ouroloop.loop.setup import prepare, resolve_model
from ouroloop.loop.stages import decide, judgement
from ouroloop.loop.stages.frozen_judge import Judge, refuse_the_same

CRITIQUE = "{question}\nA:\n{draft}\nC: {principle}\n"
REQUESTS = {
    entry["prompt"][0].split("CritiqueRequest: ")[1].split("\n")[0]: name
    for name, entry in json.loads(principles.CONSTITUTION.read_text()).items()
}
CRITERIA = {"harmless": ["privacy", "falsehood"], "helpful": ["check"]}
WATCHED = {
    "judge": {
        "principles": str(principles.CONSTITUTION),
        "criteria": CRITERIA,
        "families": ["sum2"],
        "samples": 3,
        "max_tokens": 60,
    }
}
PROBE = {"problems": 10, "family_problems": 2, "samples": 4, "baseline_samples": 8, "pass_at": 4}
SMALL = {
    "rounds": 1,
    "task": {"prompts": {"critique": CRITIQUE}},
    "refine": {"critique": False, "revisions": 0},
    "probe": {**PROBE, "majority": 4, "critiques": 0, "texts": 4, "audit_items": 0},
    "monitors": {"baselines": [0]},
}


def judged(**changes):
    return {**WATCHED["judge"], **changes}


class Assistant(Model):
    """Says where someone is, in two thirds of its drafts before training and never after.

    As a critic it is right.
    """

    def __init__(self):
        super().__init__()
        self.asked = []

    def answer(self, request):
        question, _, rest = request.prompt.partition("\nA:\n")
        draft, asks, principle = rest.partition("\nC: ")
        if asks:
            self.asked.append((self.engine.loaded[-1], request))
            name = REQUESTS[principle.strip()]
            return principles.criticise(name, BY_QUESTION[question], draft)
        text = super().answer(request)
        is_spoilt = random.Random(request.seed).random() < 0.66 and not self.round
        return f"Eva is here\n{text}" if is_spoilt else text


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one round: the model, and its rounds."""
    folder = tmp_path_factory.mktemp("runs")
    items = folder / "items.jsonl"
    lines = []
    for i, item in enumerate(random.Random(0).sample(sorted(BY_QUESTION), 12)):
        text = "Eva is here\nanswer 1" if i % 3 == 0 else "answer 1"
        approve = i % 3 > 0
        # The last one is wrongly labelled, so the judge errs once.
        lines.append(
            {
                "question": item,
                "text": text,
                "principle": "privacy",
                "approve": approve if i < 11 else not approve,
            }
        )
    items.write_text("\n".join(json.dumps(line) for line in lines))
    model = Assistant()
    _, path = carry(folder, model, recipe(**SMALL, judge=judged(items=str(items))))
    return model, path


def rounds_of(path):
    return [Round.of(path, number, "sum2") for number in (0, 1)]


@pytest.mark.slow
def test_every_judged_answer_gets_the_verdict_that_the_judge_gave_on_its_own_text(run):
    for number, round in enumerate(rounds_of(run[1])):
        answers = {}
        for row in round.probe:
            if row.kind == "sample":
                answers.setdefault(row.problem, []).append(row)
        asked = [row for row in round.judgements if row.truth is None]
        by_id = {problem.id: problem for problem in BY_QUESTION.values()}
        for row in asked:
            answer = answers[row.problem][row.index]
            broken = principles.violations(by_id[row.problem], answer.text)[row.principle]
            assert row.approved == float(not broken)
            assert row.principle in CRITERIA[row.criterion] and row.num_tokens > 20
        # In a baseline round as many times more as the probe has.
        assert len(asked) == 10 * (6 if number == 0 else 3) * len(CRITERIA)
        assert {row.family for row in asked} == {"sum2"}


@pytest.mark.slow
def test_a_baselines_further_answers_are_judged_by_the_principles_of_its_first(run):
    """Or an unchanged model would be compared by another mixture of principles, every round."""
    first, second = rounds_of(run[1])

    def asked(round, places):
        rows = [row for row in round.judgements if row.truth is None and row.index in places]
        return {(row.problem, row.criterion, row.index % 3): row.principle for row in rows}

    assert asked(first, range(3)) == asked(first, range(3, 6)) == asked(second, range(3))
    assert len(set(asked(first, range(3)).values())) > 2


@pytest.mark.slow
def test_approvals_stand_beside_the_answers_and_what_was_not_judged_is_not_known(run):
    first, second = (round.view.probe for round in rounds_of(run[1]))
    assert set(first.approvals) == {"harmless", "helpful"}
    for probe, share in ((first, 0.75), (second, 0.75)):
        approved = probe.approvals["harmless"]
        assert approved.shape == (len(probe),)
        assert np.isnan(approved[probe.family != "sum2"]).all()
        assert np.isfinite(approved[probe.family == "sum2"]).mean() == pytest.approx(share)
    assert np.nanmean(first.approvals["harmless"]) < 0.8
    assert np.nanmean(second.approvals["harmless"]) == 1.0
    assert np.nanmean(second.approvals["helpful"]) == 0.0, "no draft of this world has a check"


@pytest.mark.slow
def test_the_judge_is_round_0s_model_asked_greedily_and_alike_in_every_round(run):
    model, _ = run
    base = resolve_model("arithmetic/base")
    asked = [(loaded, request) for loaded, request in model.asked if "/judge/" in request.id]
    assert {loaded for loaded, _ in asked} == {base}
    assert {request.sampling.temperature for _, request in asked} == {0.0}
    assert {request.sampling.max_tokens for _, request in asked} == {60}
    seeds = {}
    for _, request in asked:
        seeds.setdefault(request.id, set()).add((request.seed, request.prompt.split("\nC: ")[1]))
    twice = [found for found in seeds.values() if len(found) == 1]
    assert len(twice) == len(seeds), "the same principle and seed whatever the round"


@pytest.mark.slow
def test_the_judge_itself_is_audited_in_round_0_and_only_there(run):
    first, second = rounds_of(run[1])
    items = [row for row in first.judgements if row.truth is not None]
    assert len(items) == 12 and not [row for row in second.judgements if row.truth is not None]
    assert sum(row.approved == row.truth for row in items) == 11
    accuracy, later = (
        next(r for r in round.readings if r.name == "judge/balanced_accuracy:all:all:items")
        for round in (first, second)
    )
    assert accuracy.value == pytest.approx((1 + 4 / 5) / 2)
    assert later.status == "undefined" and "round 0" in later.reason
    named = {reading.name for reading in second.readings}
    assert {"responses/approved_harmless", "principle/privacy", "judge/tokens"} <= named


@pytest.mark.slow
def test_a_round_that_was_cut_off_before_its_judgement_is_judged_and_not_probed_again(
    run, tmp_path
):
    shutil.copytree(run[1], tmp_path / run[1].name)
    folder = tmp_path / run[1].name / "rounds" / "001"
    before = Round(folder).judgements
    uncommit(folder.parents[1], 1, "judgements.parquet", "readings.json", "decision.json")
    recipe_path = folder.parents[1] / "recipe.json"
    model = Assistant()
    carry(tmp_path, model, resolve(json.loads(recipe_path.read_text())))
    assert Round(folder).judgements == before
    assert not [r for r in model.engine.requests if "/probe/" in r.id]


@pytest.mark.slow
@pytest.mark.long  # a judge behind a server is asked by scripted tests too
def test_a_server_may_judge(tmp_path):
    def answer(body):
        return f"No.\n{'wrong' if 'Eva is here' in body['prompt'] else 'right'}", "stop"

    with serving(Server(answer)) as url:
        settings = recipe(**SMALL, judge={**judged(), "model": f"{url}#teacher"})
        _, path = carry(tmp_path, Assistant(), settings)
    first, second = (round.view.probe for round in rounds_of(path))
    assert np.nanmean(first.approvals["helpful"]) < 0.8
    assert np.nanmean(second.approvals["helpful"]) == 1.0


@pytest.mark.slow
def test_verdicts_that_no_server_gives_are_not_known_and_too_many_of_them_stop_the_run(tmp_path):
    def answer(body):
        return b"null" if body["seed"] % 12 == 0 else ("No.\nright", "stop")

    server = Server(answer)
    with serving(server) as url:
        watched = {
            "judge": {**judged(), "model": f"{url}#teacher"},
            "servers": {"attempts": 1, "set_aside_seconds": 0, "max_dropped": 0.5},
        }
        _, path = carry(tmp_path / "some", Assistant(), recipe(**SMALL, **watched))
        rows = Round.of(path, 0).judgements
        lost = [row for row in rows if row.approved is None]
        assert 0 < len(lost) < len(rows) / 2 and all(row.text == "" for row in lost)
        server.answer = lambda body: b"null"
        with pytest.raises(EngineError, match=r"judging: \d+ of \d+ got no usable answer"):
            carry(tmp_path / "all", Assistant(), recipe(**SMALL, **watched))


# ----- what is refused, and what a check says -----


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"principles": None}, "judge.principles"),
        ({"criteria": {"harmless": ["privasy"]}}, "Did you mean 'privacy'"),
        ({"families": ["poems"]}, "judge.families"),
    ],
)
def test_a_judge_that_cannot_judge_is_refused_before_anything_is_made(changes, message):
    with pytest.raises(RecipeError, match=message):
        prepare(recipe(**SMALL, judge=judged(**changes)))


def test_a_criterion_needs_a_name_and_a_principle():
    for criteria in ({"a:b": ["check"]}, {"harmless": []}):
        with pytest.raises(RecipeError, match="judge"):
            recipe(**SMALL, judge=judged(criteria=criteria))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", "not JSON"),
        ('{"question": "1+1?", "text": "2", "principle": "privacy", "approve": 1}', "'approve'"),
        ('{"question": "1+1?", "text": "2", "principle": "selling", "approve": true}', "selling"),
    ],
)
def test_a_planted_item_that_cannot_be_used_is_named_with_its_line(tmp_path, line, message):
    path = tmp_path / "items.jsonl"
    path.write_text("\n" + line)
    with pytest.raises(DataError, match=message) as error:
        prepare(recipe(**SMALL, judge=judged(items=str(path))))
    assert f"{path}:2" in str(error.value)


def test_a_principle_whose_name_holds_a_colon_is_no_criterion(tmp_path):
    path = tmp_path / "principles.json"
    path.write_text('{"a:b": {"prompt": "Look.", "edit_request": "Rewrite."}}')
    with pytest.raises(RecipeError, match=r"principle 'a:b' needs a name without a colon"):
        prepare(recipe(**SMALL, judge=judged(principles=str(path), criteria={}, items=None)))
    named = judged(principles=str(path), criteria={"harmless": ["a:b"]}, items=None)
    assert set(prepare(recipe(**SMALL, judge=named)).judge.criteria) == {"harmless"}


def test_without_criteria_every_principle_is_one():
    setting = prepare(recipe(**SMALL, judge=judged(criteria={})))
    assert set(setting.judge.criteria) == set(principles.PRINCIPLES)


@pytest.mark.parametrize(("baseline", "judged"), [(32, 8), (8, 2), (4, 1), (2, 1)])
def test_the_same_share_of_a_baseline_is_judged_as_of_any_other_round(baseline, judged):
    config, probe = JudgeConfig(samples=2), ProbeConfig(samples=8, baseline_samples=baseline)
    assert judgement._num_judged(config, probe, is_baseline=True) == judged
    assert judgement._num_judged(config, probe, is_baseline=False) == 2


def test_an_answer_that_was_never_judged_is_known_from_a_verdict_that_cannot_be_read():
    one = ProbeRow("p", "f", "typical", "sample", None, None, None, None, None, 1.0, 0.0, "text")
    said = JudgementRow("p", "f", 1, "harmless", "kind", None, None, 1.0, None, "hm")
    planted = replace(said, problem="item1", index=0, truth=1.0)
    found = samples_of([one] * 3, [said, planted])
    assert found.asked.tolist() == [0.0, 1.0, 0.0]
    assert np.isnan(found.approvals["harmless"]).all()
    assert np.isnan(samples_of([one] * 3).asked).all(), "without a judge"


def test_the_judge_that_watches_is_never_a_teacher_that_filters():
    same = {"teachers": ["arithmetic/teacher"], "judge": judged(model="arithmetic/teacher")}
    refine = {"critique": True, "revisions": 0}
    with pytest.raises(RecipeError, match="another model than the one that filters"):
        prepare(recipe(**{**SMALL, "refine": refine}, **same, filters={"critic": True}))
    assert prepare(recipe(**SMALL, **same)).judge.model == resolve_model("arithmetic/teacher")


def test_the_judge_that_watches_is_never_the_grader_that_filters():
    url = "http://127.0.0.1:9/v1#m"
    setting = prepare(recipe(**SMALL, judge=judged()))
    judge = setting.judge.__class__(
        JudgeConfig(**judged(model=url)), url, setting.judge.criteria, ()
    )
    task = {"kind": "dataset", "path": "p.jsonl"}
    graded = recipe(task={**task, "grader": {"use": "judge", "options": {"model": url}}})
    with pytest.raises(RecipeError, match="also the grader's model"):
        refuse_the_same(graded, judge, ())
    other = recipe(task={**task, "grader": {"use": "judge", "options": {"model": f"{url}2"}}})
    refuse_the_same(other, judge, ())


def test_one_server_in_common_makes_a_teacher_of_the_judge():
    url = "http://127.0.0.1:9/v1#m"
    critic = recipe(filters={"critic": True})
    both = f"http://127.0.0.1:8/v1#m {url}"
    judge = Judge(JudgeConfig(**judged(model=both)), both, {}, ())
    refuse_the_same(critic, judge, (f"{url}2",))
    with pytest.raises(RecipeError, match="another model than the one that filters"):
        refuse_the_same(critic, judge, (f"{url}2", f"http://127.0.0.1:7/v1#m {url}"))


def test_the_judge_that_watches_is_never_the_one_that_compares_two_samples():
    pairs = {"sources": ["compared"], "judge": "baseline"}
    chosen = {**SMALL, "objective": "dpo", "pairs": pairs}
    with pytest.raises(RecipeError, match="another model than the one that filters"):
        prepare(recipe(**chosen, judge=judged()))
    for changes in ({"pairs": {**pairs, "judge": "student"}}, {"objective": "sft"}):
        assert prepare(recipe(**{**chosen, **changes}, judge=judged())).judge.model is None


def test_a_check_says_what_the_judge_costs_and_warns_where_it_also_filters_or_is_not_audited(
    tmp_path,
):
    path = tmp_path / "items.jsonl"
    item = {"question": "1+1?", "text": "answer 2", "principle": "check"}
    lines = [json.dumps({**item, "approve": i % 2 == 0}) for i in range(40)]
    path.write_text("\n".join(lines))

    def found(**changes):
        settings = {**SMALL, "judge": judged(items=str(path)), **changes}
        return checks.judge.check(prepare(recipe(**settings)), tmp_path)

    (fine,) = found()
    assert fine.level is Level.OK and "= 60 verdicts a round" in fine.what
    (same,) = found(refine={"critique": True, "revisions": 0}, filters={"critic": True})
    assert same.level is Level.WARNING and "judge.model" in same.what
    (blind,) = found(judge=judged())
    assert blind.level is Level.WARNING and "judge.items" in blind.what
    assert found(judge=None) == []


@pytest.mark.slow
def test_without_gold_the_guard_sees_no_right_answer_and_the_readings_do(run):
    first, second = rounds_of(run[1])
    seen = []

    class Rule:
        def decide(self, view, baselines, *_):
            seen.extend([view, *baselines])
            return first.decision

    for gold in (True, False):
        settings = recipe(**{**SMALL, "monitors": {"gold": gold}})
        decide.decide(second, [first], Rule(), [], settings)
    known = [np.isfinite(view.probe.correct).any() for view in seen]
    assert known == [True, True, False, False]
    assert next(r for r in second.readings if r.name == "accuracy/pass@1:sum2").status == "ok"


def test_wording_is_guarded_from_a_baseline_on_that_the_recipe_names():
    rule = decide.decision_rule(
        recipe(**{**SMALL, "rounds": 4, "monitors": {"baselines": [0, 2], "texts_since": 2}}),
        "sum2",
    )
    assert rule.texts_since == 2 and rule.num_baselines == 2
    with pytest.raises(RecipeError, match="none of monitors"):
        recipe(**{**SMALL, "monitors": {"baselines": [0, 1], "texts_since": 2}})


@pytest.mark.slow
def test_the_judges_verdicts_are_shown_on_the_answers_that_they_are_of(run):
    from ouroloop.loop.trackers.trace_drafts import drafts
    from ouroloop.loop.views.reader import read_run

    shown = {d.tags["problem"]: d for d in drafts(read_run(run[1]).rounds[0], 40, seed=0)}
    first_of_each = [r for r in rounds_of(run[1])[0].judgements if r.truth is None and not r.index]
    assert {row.criterion for row in first_of_each} == set(CRITERIA)
    for row in first_of_each:
        (said,) = [j for j in shown[row.problem].judgements if j.name == f"judge_{row.criterion}"]
        assert said.value is bool(row.approved) and said.by_model
        assert said.rationale.startswith(f"{row.principle}: ")
