"""What the keys do that no committed recipe sets: each changes what its description says."""

import json
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scripted_world import TASK, Model, carry, recipe

from ouroloop.loop import extras
from ouroloop.loop.__main__ import main
from ouroloop.loop.checks import model
from ouroloop.loop.config import EngineConfig
from ouroloop.loop.engines.checkpoint import check_checkpoint
from ouroloop.loop.engines.ray_cluster import bundle_of
from ouroloop.loop.engines.registry import engine_maker
from ouroloop.loop.engines.vllm_local import engine_arguments
from ouroloop.loop.errors import CheckpointError, RecipeError
from ouroloop.loop.folder.mirror import mirror_of
from ouroloop.loop.recipes.recipe_file import resolve
from ouroloop.loop.round import Round
from ouroloop.loop.rows import RoundPlan
from ouroloop.loop.setup import prepare, resolve_model
from ouroloop.loop.stages import decide, filters, preflight, remedy
from ouroloop.loop.stages.case import examine
from ouroloop.loop.stages.remedy import Stock
from ouroloop.monitors.names import FailureMode

sys.path[:0] = [str(Path(__file__).parents[1] / room) for room in ("monitors", "stages", "views")]

ROUND = RoundPlan(3, 2, 2, (0.5,), 0.0, None, False, 100)


def made(**sections):
    return resolve({"name": "x", **sections})


# ----- engine -----


def test_the_engines_own_arguments_come_from_the_recipe():
    config = EngineConfig(max_num_seqs=3, extra={"tensor_parallel_size": 2, "enforce_eager": False})
    checkpoint = check_checkpoint(resolve_model("arithmetic/base"))
    arguments = engine_arguments(config.model_dump(), checkpoint, on_cpu=True)
    assert arguments["max_num_seqs"] == 3
    assert arguments["tensor_parallel_size"] == 2 and arguments["enforce_eager"] is False


# ----- sampling and refining -----


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """One scripted round: the model, and its samples."""
    model = Model(lambda number: 0.5)
    settings = recipe(
        rounds=1,
        sampling={"top_p": 0.9, "top_k": 40, "min_p": 0.05, "repetition_penalty": 1.1},
        refine={"critique_temperature": 0.3, "revise_temperature": 0.2},
    )
    _, path = carry(tmp_path_factory.mktemp("runs"), model, settings)
    return model, Round.of(path, 1).samples


@pytest.mark.slow
def test_every_draft_is_sampled_as_pinned_and_critics_and_revisers_at_their_own_temperature(
    sampled,
):
    asked = {"draft": [], "critique0": [], "revise0": [], "probe": []}
    for request in sampled[0].engine.requests:
        stage = request.id.split("/")[-2]
        if request.id.startswith("001/") and stage in asked:
            asked[stage].append(request.sampling)
    assert all(asked.values()), "every stage was asked"
    for stage in ("draft", "critique0", "revise0"):
        for sampling in asked[stage]:
            assert (sampling.top_p, sampling.top_k) == (0.9, 40)
            assert (sampling.min_p, sampling.repetition_penalty) == (0.05, 1.1)
    assert {s.temperature for s in asked["critique0"]} == {0.3}
    assert {s.temperature for s in asked["revise0"]} == {0.2}
    assert {(s.top_p, s.top_k, s.repetition_penalty) for s in asked["probe"]} == {(1.0, 0, 1.0)}


@pytest.mark.slow
def test_another_seed_draws_other_problems_and_the_same_seed_the_same(tmp_path, sampled):
    def drawn(folder, settings):
        _, path = carry(tmp_path / folder, Model(), settings)
        lines = (path / "rounds/001/samples.jsonl").read_text().splitlines()
        return [json.loads(line)["problem_id"] for line in lines]

    usual = [sample.problem_id for sample in sampled[1]]
    assert sorted(drawn("same", recipe(rounds=1))) == sorted(usual)
    other = recipe(rounds=1, seed=7)
    assert set(drawn("other", other)) != set(usual)


# ----- filters -----


def judged(sampled, **sections):
    """(sample, verdict) of every sample of the round."""
    by_id = {problem.id: problem for problem in TASK.problems("train")}
    settings = made(**sections)
    cases = examine(sampled[1], by_id, TASK, TASK.strategy)
    verdicts = filters.judge(cases, settings.filters)
    return list(zip(sampled[1], verdicts, strict=True))


@pytest.mark.slow
def test_samples_that_are_too_short_or_too_long_are_rejected(sampled):
    found = judged(sampled, filters={"min_tokens": 26, "max_tokens": 40})
    outside = [not 26 <= len(sample.final.token_ids) <= 40 for sample, _ in found]
    assert [("length" in verdict.reasons) for _, verdict in found] == outside
    assert 0 < sum(outside) < len(found)


@pytest.mark.slow
def test_no_strategy_has_more_than_its_share_of_the_kept_samples(sampled):
    capped = judged(sampled, filters={"per_strategy": 0.3})
    assert any("per_strategy" in verdict.reasons for _, verdict in capped)

    def largest(found):
        count = Counter(verdict.strategy for _, verdict in found if verdict.kept)
        return max(count.values()) / count.total()

    assert largest(capped) <= 0.3 < largest(judged(sampled))


# ----- the task -----


def test_only_the_first_problems_are_practised_on():
    assert len(prepare(made(task={"num_problems": 10})).problems) == 10


def test_a_file_of_problems_is_graded_by_the_grader_that_is_named(tmp_path):
    lines = [json.dumps({"question": f"What is {i}+1?", "answer": str(i + 1)}) for i in range(40)]
    (tmp_path / "p.jsonl").write_text("\n".join(lines))
    raw = {"task": {"kind": "jsonl", "path": str(tmp_path / "p.jsonl"), "grader": "last_number"}}
    task = prepare(made(**raw)).task
    problem = task.problems("train")[0]
    assert task.grade(problem, f"I get {problem.answer}").correct is True
    without = raw["task"] | {"grader": "none"}
    nothing = prepare(made(task=without, filters={"gold": False, "format": False})).task
    assert nothing.grade(problem, f"answer {problem.answer}").correct is None


@pytest.mark.slow
def test_data_sets_of_reasoning_gym_are_families_of_problems():
    pytest.importorskip("reasoning_gym", reason="needs the extra `verify`")
    setting = prepare(made(task={"kind": "reasoning_gym", "datasets": {"chain_sum": {}}}))
    assert {problem.family for problem in setting.problems} == {"chain_sum"}


# ----- interventions: what the controller does after an alarm -----


@pytest.mark.parametrize(
    ("limits", "mode", "what", "value"),
    [
        ({"interventions": {"temperature": 1.3}}, "sharpening", "temperatures", (1.3,)),
        ({"interventions": {"per_strategy": 0.2}}, "sharpening", "per_strategy", 0.2),
        ({"interventions": {"per_answer": 0.1}}, "shortcut", "per_answer", 0.1),
        ({"interventions": {"per_cluster": 0.1}}, "canned_response", "per_cluster", 0.1),
        ({"interventions": {"tail_weight": 5.0}}, "tail_narrowing", "tail_weight", 5.0),
        ({"interventions": {"teachers": 1}}, "drift", "teachers", (1,)),
        ({"interventions": {"demonstrations": 0.75}}, "drift", "demonstrations", 0.75),
        ({"interventions": {"replay_fraction": 0.45}}, "tail_narrowing", "replay_fraction", 0.5),
    ],
)
def test_an_intervention_is_as_strong_as_the_recipe_says(limits, mode, what, value):
    after, usual = (
        remedy.remedy(ROUND, made(**given).interventions, FailureMode(mode), False, Stock(), back=1)
        for given in (limits, {})
    )
    assert getattr(after, what) == value
    if what != "replay_fraction":
        assert getattr(usual, what) != value


def test_weights_are_interpolated_by_as_much_as_the_recipe_says():
    used_up = replace(ROUND, archive=True, replay_fraction=0.6, demonstrations=0.5)
    for blend in (0.0, 0.25):
        limits = made(interventions={"blend": blend}).interventions
        mode = FailureMode.TAIL_NARROWING
        first = remedy.remedy(used_up, limits, mode, False, Stock(), back=1, baseline=0)
        after = remedy.remedy(first, limits, mode, False, Stock(), back=1, baseline=0)
        assert (first.blend, after.blend) == (0.0, blend)


def test_no_more_is_replayed_than_the_recipe_allows():
    hungry = Stock(selection=10.0)  # the law asks for 90 %
    shares = []
    for given in ({}, {"interventions": {"replay_fraction_max": 0.8}}):
        limits = made(**given).interventions
        shares.append(
            remedy.remedy(
                ROUND, limits, FailureMode.TAIL_NARROWING, False, hungry, back=1
            ).replay_fraction
        )
    assert shares == [0.6, 0.8]


# ----- the preflight check -----


def test_training_is_blocked_above_the_tolerated_share_of_false_acceptances():
    from test_preflight import audit, pool

    drawn, items = pool({"column": 0.5, "jump": 0.5}, 0.5), audit(0.4)
    for limit, action in ((0.5, "pass"), (0.2, "block")):
        settings = made(interventions={"max_false_acceptance": limit})
        assert preflight.check(drawn, items, ROUND, settings, 0.01).action == action


def test_a_yield_below_the_recipes_least_is_noted_before_training():
    from test_preflight import audit, pool

    drawn, items = pool({"column": 0.2, "jump": 0.2}, 0.5), audit(0.0)
    for least, noted in ((0.02, False), (0.5, True)):
        settings = made(monitors={"min_yield": least})
        found = preflight.check(drawn, items, ROUND, settings, 0.01)
        assert any(f"below {least} kept" in reason for reason in found.reasons) == noted


# ----- monitors: tolerances, error rates, baselines -----


def round_view(number, seed, **model):
    from simulated_panel import view

    num_samples = 32 if number == 0 else 8
    return view(np.random.default_rng(seed), number, num_samples, num_problems=120, **model)


@pytest.mark.parametrize(
    "changed",
    [
        {"monitors": {"accuracy_loss": 0.123}},
        {"monitors": {"diversity_loss_share": 0.123}},
        {"monitors": {"rare_loss_share": 0.123}},
        {"monitors": {"overconfidence_gain": 0.123}},
        {"monitors": {"shortcut_gain": 0.123}},
        {"monitors": {"general_loss": 0.123}},
        {"monitors": {"unscored_gain": 0.123}},
        {"monitors": {"alive_loss_share": 0.123}},
        {"monitors": {"apart_loss_share": 0.123}},
        {"monitors": {"canned_gain": 0.123}},
        {"monitors": {"open_loss_share": 0.123}},
        {"monitors": {"answered_loss": 0.123}},
        {"monitors": {"length_loss": 0.123}},
        {"monitors": {"approved_loss": 0.123}},
    ],
    ids=lambda changed: next(iter(changed["monitors"])),
)
def test_a_tolerance_of_the_recipe_is_that_of_a_guarded_quantity(changed):
    usual, other = (
        {q.id: rule.tolerance_of(q) for q in rule.guarded}
        for rule in (decide.decision_rule(made(**raw), "main") for raw in ({}, changed))
    )
    moved = {name for name in usual if usual[name] != other[name]}
    assert moved and {other[name] for name in moved} == {0.123}


LARGE = {
    "accuracy_loss": 0.3,
    "diversity_loss_share": 0.99,
    "rare_loss_share": 0.99,
    "overconfidence_gain": 0.9,
    "shortcut_gain": 0.5,
}
"""Tolerances that a loss of a quarter of all answers reaches by no more than nine tenths."""


@pytest.mark.parametrize(
    ("changed", "tolerances", "actions"),
    [
        ({"monitors": {"alpha": 1e-60}}, {}, ("rollback", "reinject")),
        ({"monitors": {"watch_alpha": 1e-60}}, LARGE, ("reinject", "continue")),
        ({"monitors": {"watch_share": 0.95}}, LARGE, ("reinject", "continue")),
    ],
    ids=["alpha", "watch_alpha", "watch_share"],
)
def test_error_rates_and_the_share_of_a_tolerance_decide_when_there_is_an_alarm(
    changed, tolerances, actions
):
    baseline, now = round_view(0, 0, accuracy=0.55), round_view(1, 1, accuracy=0.3)
    rules = [
        decide.decision_rule(made(monitors={**tolerances, **more}), "main")
        for more in ({}, changed["monitors"])
    ]
    assert tuple(rule.decide(now, baseline).action for rule in rules) == actions


@pytest.mark.slow
def test_baseline_rounds_are_probed_with_more_samples(tmp_path):
    settings = recipe(rounds=2, monitors={"baselines": [0, 2]})
    _, path = carry(tmp_path, Model(), settings)
    num = []
    for number in (0, 1, 2):
        rows = Round.of(path, number).probe
        num.append(max(Counter(r.problem for r in rows if r.kind == "sample").values()))
    assert num == [16, 8, 16]


# ----- tracking -----


@pytest.mark.slow
def test_mlflow_gets_the_place_the_experiment_and_as_many_rows_as_asked(tmp_path):
    import fake_run
    import mlflow

    from ouroloop.loop.trackers.registry import trackers_of

    before = mlflow.get_tracking_uri()
    uri = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    asked = {
        "tracking": {
            "mlflow": True,
            "uri": uri,
            "experiment": "mine",
            "table_rows": 5,
            "traces": 3,
        }
    }
    path = fake_run.make_run(tmp_path, "tracked", rounds=1)
    raw = json.loads((path / "recipe.json").read_text())
    (path / "recipe.json").write_text(json.dumps({**raw, **asked}))
    try:
        for _, make in trackers_of(asked["tracking"]):
            make().sync(path)
        found = mlflow.MlflowClient(uri).get_experiment_by_name("mine")
        assert found is not None and mlflow.MlflowClient(uri).search_runs([found.experiment_id])
        known = json.loads((path / "tracking.json").read_text())
        shown = mlflow.search_traces(
            locations=[found.experiment_id],
            run_id=known["rounds"]["1"]["run_id"],
            return_type="list",
        )
        assert len(shown) == 3
    finally:
        mlflow.set_tracking_uri(before)


# ----- engines on other machines -----


def test_actors_and_servers_are_laid_out_by_the_recipe_and_change_no_fingerprint():
    plain = made(engine={"kind": "ray", "actor": "transformers"}, peft=None)
    placed = made(
        engine={"kind": "ray", "actor": "transformers"},
        peft=None,
        ray={"address": "head:6379", "actors": 3, "gpus_per_actor": 2, "cpus_per_actor": 4},
    )
    assert placed.fingerprint() == plain.fingerprint()
    assert made(engine={"kind": "ray"}, peft=None).fingerprint() != plain.fingerprint()
    config = placed.engine_config()
    site = engine_maker("ray")(config, Path("engine.log")).site
    assert site.config["kind"] == "transformers" and placed.engine.computes == "transformers"
    assert site.layout == placed.ray.model_dump()
    nodes = [{"CPU": 16.0, "GPU": 5.0}, {"CPU": 16.0, "GPU": 1.0}]
    assert bundle_of(config, nodes) == {"GPU": 2.0, "CPU": 4.0}
    with pytest.raises(RecipeError, match=r"ray\.address"):
        made(ray={"address": "ray://head:10001"})
    students = {"addresses": ["http://127.0.0.1:1/v1#m"], "reload": "lora"}
    served = made(engine={"kind": "server"}, peft=None, students=students)
    assert served.fingerprint() == made(engine={"kind": "server"}, peft=None).fingerprint()
    site = engine_maker("server")(served.engine_config(), Path("engine.log")).site
    assert site.make(0).config["address"] == "http://127.0.0.1:1/v1#m"
    assert site.make(0).config["students"]["reload"] == "lora"


def test_servers_and_the_engine_that_asks_them_go_together():
    with pytest.raises(RecipeError, match=r"got 0 servers with engine\.kind: server"):
        prepare(made(engine={"kind": "server"}))
    with pytest.raises(RecipeError, match=r"got 1 servers with engine\.kind: vllm"):
        prepare(made(students={"addresses": ["http://127.0.0.1:1/v1#m"]}))
    # Asked before anything is made.
    with pytest.raises(CheckpointError, match="no server answers"):
        prepare(
            made(engine={"kind": "server"}, students={"addresses": ["http://127.0.0.1:1/v1#m"]})
        )


def test_without_ray_a_run_on_it_is_refused_with_the_command_that_installs_it(monkeypatch, capsys):
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "ray" else name)
    assert main(["run", "ray", "--check"]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "engine.kind: ray needs ray" in said and "pip install 'ouroloop[ray]'" in said


def test_heads_that_a_tensor_parallel_group_cannot_share_are_found_for_actors_too():
    recipe = made(engine={"kind": "ray", "extra": {"tensor_parallel_size": 3}}, peft=None)
    found = model.check(prepare(recipe), Path())
    assert any("tensor_parallel_size: 3" in finding.what for finding in found)
    fine = model.check(prepare(made(engine={"kind": "ray"}, peft=None)), Path())
    assert any("vllm in actors of a Ray cluster" in finding.what for finding in fine)


def test_where_a_run_is_copied_to_changes_no_fingerprint_and_must_be_an_address():
    copied = made(storage={"url": "memory://bucket/runs/"})
    assert copied.fingerprint() == made().fingerprint()
    assert mirror_of(copied).url == "memory://bucket/runs/x" and mirror_of(made()) is None
    with pytest.raises(RecipeError, match=r"storage\.url"):
        made(storage={"url": "bucket/runs"})
