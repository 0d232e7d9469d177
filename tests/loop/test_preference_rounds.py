"""Stages of a run: rounds of sft, then rounds of dpo on pairs, on the scripted engine."""

import functools
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from scripted_world import SMALL, TASK, Model, carry, no_training, recipe, small

from ouroloop.loop import checks
from ouroloop.loop.engines.scripted import STOP_TOKEN
from ouroloop.loop.errors import EngineError, RecipeError
from ouroloop.loop.objectives.registry import OBJECTIVES, learns_from
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.setup import prepare
from ouroloop.loop.stages import plan
from ouroloop.loop.trackers.points import curve, points, tags
from ouroloop.loop.views.account import sentences
from ouroloop.loop.views.progress import rounds_table
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.names import Action

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

TWO_STAGES = [
    {"rounds": 1, "objective": "sft", "sft": {"learning_rate": 1e-3}},
    {
        "rounds": 2,
        "objective": {"use": "dpo", "options": {"reference": "baseline"}},
        "dpo": {"learning_rate": 1e-5},
    },
]
KEYS = {
    "rounds": 3,
    "stages": TWO_STAGES,
    "sft": {"num_train_epochs": 2},
    "dpo": {"beta": 0.3},
    # The scripted model scores every text alike: a confidence of one half takes the first.
    "pairs": {"sources": ["revision", "gold", "compared"], "per_problem": 3, "confidence": 0.5},
}


class Recording:
    """A trainer that trains nothing and keeps the jobs that it is given."""

    def __init__(self):
        self.jobs = {}

    def __call__(self, job, folder, report):
        self.jobs[int(folder.name)] = job
        return no_training(job, folder, report)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    trainer = Recording()
    _, path = carry(tmp_path_factory.mktemp("runs"), Model(), recipe(**KEYS), trainer)
    return trainer.jobs, path


def test_each_round_trains_with_its_stages_objective_and_settings(finished):
    jobs, path = finished
    assert [jobs[n].objective for n in (1, 2, 3)] == ["sft", "dpo", "dpo"]
    assert jobs[1].settings == {"num_train_epochs": 2, "learning_rate": 1e-3}
    assert jobs[2].settings == {"beta": 0.3, "learning_rate": 1e-5}
    assert jobs[2].objective_options == {"reference": "baseline"}
    assert [jobs[n].examples.name for n in (1, 2)] == ["examples.parquet", "pairs.parquet"]
    base = prepare(recipe(**KEYS)).base
    assert jobs[3].baseline == base and jobs[3].init == path / "rounds/002/checkpoint"


def test_the_plan_says_the_stage_and_where_it_begins(finished):
    rounds = [Round.of(finished[1], n) for n in (1, 2, 3)]
    assert [(r.plan.stage, r.plan.objective) for r in rounds] == [
        (1, "sft"),
        (2, "dpo"),
        (2, "dpo"),
    ]
    assert "stage 1 of 2 begins: objective sft" in rounds[0].plan.why
    assert "stage 2 of 2 begins: objective dpo" in rounds[1].plan.why
    assert not any("stage" in sentence for sentence in rounds[2].plan.why)


def test_a_preference_round_has_pairs_of_its_own_samples_and_no_examples(finished):
    _, path = finished
    by_id = {problem.id: problem for problem in TASK.problems("train")}
    round = Round.of(path, 2)
    assert round.is_committed and not (round.folder / "examples.parquet").exists()
    assert len(round.pairs) >= 16 and {p.origin for p in round.pairs} >= {"revision", "compared"}
    kept = {verdict.sample_id: verdict.kept for verdict in round.verdicts}
    for pair in round.pairs:
        question = bytes(pair.prompt_token_ids).decode()
        assert by_id[pair.problem_id].question in question
        assert kept[pair.chosen_id] and pair.chosen_id.startswith("002/")
        for ids, text in (
            (pair.chosen_token_ids, pair.chosen),
            (pair.rejected_token_ids, pair.rejected),
        ):
            assert ids == (*text.encode(), STOP_TOKEN)
    assert not (Round.of(path, 1).folder / "pairs.parquet").exists()


def test_views_and_trackers_say_which_round_trained_with_what(finished):
    run = read_run(finished[1])
    first, third = run.rounds[1], run.rounds[3]
    num = [len(round.pairs) for round in run.rounds]
    assert f"sft in round 1 and dpo on {num[2] + num[3]} preference pairs" in " ".join(
        sentences(run)
    )
    assert f"dpo, {num[3]} pairs" in rounds_table(run)
    assert points(run, third)["data/pairs"] == num[3] and "data/pairs" not in points(run, first)
    assert (tags(run, third)["objective"], tags(run, third)["stage"]) == ("dpo", "2")


def test_runs_of_sft_alone_look_as_before(finished_run):
    run = read_run(finished_run[1])
    assert "objective" not in rounds_table(run)
    assert not any("Trained with" in sentence for sentence in sentences(run))


PAIRS_ALONE = {
    **KEYS,
    "rounds": 1,
    "stages": [{"rounds": 1, "objective": "dpo"}],
    "probe": {**SMALL["probe"], "texts": 0, "audit_items": 0},
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A preference round that nothing interrupted."""
    return carry(tmp_path_factory.mktemp("whole"), Model(), recipe(**PAIRS_ALONE))[1]


@pytest.mark.parametrize("where", ["sampling", pytest.param("comparing", marks=pytest.mark.slow)])
def test_a_preference_round_that_was_cut_off_goes_on_to_the_same_pairs(tmp_path, whole, where):
    keys = PAIRS_ALONE
    model = Model()
    answer = model.engine.answer

    def dies(request):
        asked = [r for r in model.engine.requests if is_draft(r)]
        # Problems wait for each other: by then some are finished.
        if is_draft(request) and len(asked) > 80:
            raise EngineError("gone")
        return answer(request)

    def dies_comparing(prompt, text):
        if "Options:" in prompt:
            raise EngineError("gone")
        return -0.1, 0.2

    if where == "sampling":
        model.engine.answer = dies
    else:
        model.engine.surprise = dies_comparing
    with pytest.raises(EngineError):
        carry(tmp_path / "cut", model, recipe(**keys))
    second = Model()
    _, cut = carry(tmp_path / "cut", second, recipe(**keys))
    file = "rounds/001/pairs.parquet"
    assert (cut / file).read_bytes() == (whole / file).read_bytes()
    drafts = [request for request in second.engine.requests if is_draft(request)]
    assert len(drafts) < 100, "what was sampled before is not sampled again"


def is_draft(request):
    return request.id.startswith("001") and "/draft/" in request.id


def test_too_few_pairs_skip_the_training_and_the_decision_says_that_supply_starves(tmp_path):
    keys = {
        "rounds": 1,
        "objective": "dpo",
        "pairs": {"sources": ["gold"]},
        "monitors": {"guard": True},
    }
    # All right: no sample is wrong, and nothing stands against anything.
    decision, path = carry(tmp_path, Model(lambda number: 1.0), recipe(**keys))
    round = Round.of(path, 1)
    assert round.training.status == "skipped"
    reason = "0 preference pairs (pairs.sources: gold); dataset.min_examples asks for 4"
    assert round.training.reason == reason
    assert round.decision.starved and decision.action in (Action.REINJECT, Action.HALT)
    assert round.decision.reasons[0] == f"{reason}: the training set starves"


@pytest.mark.parametrize(
    ("judge", "rounds"),
    [("student", {0, 1}), pytest.param("baseline", {0}, marks=pytest.mark.slow)],
)
def test_who_compares_is_the_model_that_samples_or_round_0s(tmp_path, judge, rounds):
    model, served = Model(), set()

    def surprise(prompt, text):
        if "Options:" in prompt:
            served.add(model.round)
        return -0.1, 0.2

    model.engine.surprise = surprise
    settings = small(
        rounds=2,
        objective="dpo",
        sampling={"samples_per_problem": 4},
        pairs={"sources": ["compared"], "judge": judge, "confidence": 0.5},
    )
    carry(tmp_path, model, settings)
    assert served == rounds


# -- recipes ---------------------------------------------------------------------------------


def test_the_stages_say_how_many_rounds_there_are():
    stages = [{"rounds": 4, "objective": "sft"}, {"rounds": 4, "objective": "dpo"}]
    settings = resolve({"name": "x", "stages": stages})
    assert settings.rounds == 8
    assert [settings.at(n).objective.use for n in (1, 4, 5, 8)] == ["sft", "sft", "dpo", "dpo"]
    assert resolve(settings.to_json()) == settings
    assert plan.first_plan(settings).stage == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rounds": 3, "stages": [{"rounds": 4, "objective": "sft"}]}, "got 3; expected 4"),
        ({"objective": "dpo", "stages": [{"rounds": 4, "objective": "sft"}]}, "Leave `objective`"),
        ({"stages": [{"round": 4, "objective": "sft"}]}, "unknown key 'stages.0.round'"),
        ({"stages": [{"rounds": 4}]}, "stages.0.objective is missing"),
        ({"pairs": {"source": ["gold"]}}, "Did you mean 'sources'?"),
        ({"pairs": {"confidence": 0.4}}, "pairs.confidence"),
        ({"pairs": {"sources": []}}, "pairs.sources"),
    ],
)
def test_a_schedule_that_contradicts_itself_is_refused(changes, says):
    with pytest.raises(RecipeError) as caught:
        resolve({"name": "x", **changes})
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dpo": {"bta": 1}}, "unknown key 'dpo.bta'"),
        ({"dpo": {"loss_type": "sigmoud"}}, "Did you mean 'sigmoid'"),
        ({"objective": {"use": "dpo", "options": {"refrence": "start"}}}, "'reference'"),
        ({"objective": {"use": "dpo", "options": {"reference": "x"}}}, "start, baseline"),
        ({"refine": {"revisions": 0}}, "refine.revisions is 0"),
        ({"pairs": {"sources": ["compared"]}, "filters": {"per_problem": 1}}, "two kept samples"),
        ({"pairs": {"sources": ["gold"]}, "sampling": {"samples_per_problem": 1}}, "two samples"),
        ({"dataset": {"target": "answer"}}, "dataset.target"),
        ({"dataset": {"gold": True}, "sampling": {"student": False}}, "nobody drafts"),
        ({"pairs": {"sources": ["compared"], "principles": "/nowhere.json"}}, "no such file"),
    ],
)
def test_a_preference_stage_that_cannot_work_is_refused_before_anything_is_made(changes, says):
    with pytest.raises(ValueError, match=r"(?s).*") as caught:
        prepare(recipe(**{"objective": "dpo", **changes}))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("stage", "says"),
    [
        ({"objective": "dpo", "dpo": {"b": 1}}, "stages.1: unknown key 'dpo.b'"),
        ({"objective": "dpoo"}, "stages.1: objective: no objective is called 'dpoo'"),
    ],
)
def test_what_is_wrong_with_a_later_stage_is_refused_with_its_place(stage, says):
    stages = [{"rounds": 1, "objective": "sft"}, {"rounds": 1, **stage}]
    with pytest.raises(RecipeError) as caught:
        prepare(recipe(rounds=2, stages=stages))
    assert str(caught.value).startswith(says)


def test_trackers_follow_margin_and_accuracy_of_the_rewards_along_a_training():
    step = {"step": 1, "loss": 0.7, "entropy": None}
    rewards = {"rewards/margins": 0.1, "rewards/accuracies": 0.5}
    round = SimpleNamespace(train={"loss": [{**step, **rewards}]})
    followed = {"train/loss": 0.7, "train/rewards/margins": 0.1, "train/rewards/accuracies": 0.5}
    assert list(curve(round)) == [(1, followed)]


def test_gold_pairs_need_gold_answers(tmp_path):
    lines = [json.dumps({"question": f"Say {i}."}) for i in range(40)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    raw = {
        "task": {"kind": "jsonl", "path": str(tmp_path / "p.jsonl"), "grader": "none"},
        "filters": {"gold": False, "format": False},
        "objective": "dpo",
    }
    with pytest.raises(RecipeError, match="no training problem has a gold answer"):
        prepare(resolve({"name": "x", **raw, "pairs": {"sources": ["gold"]}}))
    prepare(resolve({"name": "x", **raw, "pairs": {"sources": ["compared"]}}))


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """What the check of a recipe finds; each recipe is checked once."""

    @functools.cache
    def of(room):
        keys = {"objective": "dpo"} if room is None else {**KEYS, "engine": {"max_model_len": room}}
        return checks.check(prepare(recipe(**keys)), tmp_path_factory.mktemp("checked"))

    return of


@pytest.mark.slow
def test_the_check_of_a_recipe_shows_its_stages(checked):
    (shown,) = [finding.what for finding in checked(512) if finding.about == "stages"]
    assert shown == ("round 1: sft; rounds 2 to 3: dpo on pairs (revision, gold, compared)")


@pytest.mark.slow
@pytest.mark.parametrize(("room", "level"), [(512, "ok"), (128, "warning")])
def test_the_check_of_a_recipe_says_whether_comparisons_fit(checked, room, level):
    (shown,) = [finding for finding in checked(room) if finding.about == "comparisons"]
    assert shown.level == level
    assert ("leave pairs.few_shots out" in shown.what) == (level == "warning")


@pytest.mark.slow
def test_the_check_of_a_recipe_without_comparisons_says_nothing_of_them(checked):
    assert not any(finding.about == "comparisons" for finding in checked(None))


def test_a_replay_that_a_remedy_began_waits_for_a_round_of_sft(finished):
    settings = recipe(**KEYS, dataset={"replay_fraction": 0.2})
    history = [Round.of(finished[1], n) for n in (0, 1)]
    planned = plan.next_plan(settings, history[:1]), plan.next_plan(settings, history)
    waits = [any("nothing is replayed" in sentence for sentence in p.why) for p in planned]
    # The first round is one of sft; the second takes over the first one's plan as it was.
    assert waits == [False, False]
    history[1].memory["plan.json"] = replace(history[1].plan, replay_fraction=0.2)
    later = plan.next_plan(settings, history)
    assert later.objective == "dpo" and later.replay_fraction == 0.2
    assert "preference pairs are the round's own: nothing is replayed beside them" in later.why


def test_every_objective_says_what_it_learns_from():
    assert {name: learns_from(name, {}) for name in OBJECTIVES} == {
        "sft": "examples",
        "dpo": "pairs",
    }


def test_paths_of_a_stages_own_objective_are_relative_to_the_recipe(tmp_path):
    stages = [{"rounds": 1, "objective": "own.py:Mine"}]
    settings = resolve({"name": "x", "stages": stages}, base=tmp_path)
    assert settings.stages[0].objective.use == f"{tmp_path}/own.py:Mine"


def test_a_warm_start_before_a_preference_stage_is_supervised(tmp_path):
    from ouroloop.loop.stages import warm_start

    settings = recipe(objective="dpo", warm_start={"epochs": 2}, peft=None)
    job = warm_start.job_of(settings, tmp_path / "base", tmp_path / "warm_start")
    assert job.objective == "sft" and job.settings == {"num_train_epochs": 2.0}
