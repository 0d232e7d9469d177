"""The whole loop, end to end, with a scripted model.

What the controller does with samples, verdicts and decisions.
"""

import json
import shutil
from collections import Counter

import pytest
from scripted_world import SMALL, Model, carry, no_training, recipe, rows, small

from ouroloop.loop.errors import EngineError, PromptTooLongError, RunStateError
from ouroloop.loop.folder.store import Store, read_json
from ouroloop.loop.views.reader import read_run


def test_a_run_goes_through_every_round_and_every_file_is_there(finished_run):
    decision, path = finished_run
    run = read_run(path)
    assert [r.number for r in run.rounds] == [0, 1, 2, 3]
    assert decision.round == 3
    for number in (1, 2, 3):
        folder = path / "rounds" / f"{number:03d}"
        manifest = read_json(folder / "MANIFEST.json")["files"]
        names = {
            "plan.json",
            "samples.jsonl",
            "verdicts.parquet",
            "examples.parquet",
            "train.json",
            "probe.parquet",
            "critics.parquet",
            "texts.parquet",
            "audit.parquet",
            "readings.json",
            "decision.json",
        }
        assert names <= set(manifest)
        assert len(rows(path, number, "verdicts")) == 100
        assert all(r["kept"] == (not r["reasons"]) for r in rows(path, number, "verdicts"))


def test_every_kept_sample_is_right_and_every_rejection_has_a_reason(tmp_path):
    _, path = carry(
        tmp_path,
        Model(lambda n: 0.5),
        recipe(rounds=1, refine={"critique": False, "revisions": 0}, probe=SMALL["probe"]),
    )
    verdicts = rows(path, 1, "verdicts")
    assert 0 < sum(v["kept"] for v in verdicts) < len(verdicts)
    assert all(v["correct"] and v["valid"] for v in verdicts if v["kept"])
    assert all(v["reasons"] for v in verdicts if not v["kept"])
    assert {"gold", "steps", "duplicate"} <= set(
        Counter(reason for v in verdicts for reason in v["reasons"])
    )


def test_training_sees_the_engines_own_token_ids_and_no_held_out_question(finished_run):
    _, path = finished_run
    chains = {
        json.loads(line)["id"]: json.loads(line)
        for line in (path / "rounds/001/samples.jsonl").read_text().splitlines()
    }
    heldout = set(read_json(path / "probe_set.json")["heldout_questions"])
    for example in rows(path, 1, "examples"):
        chain = chains[example["sample_id"]]
        final = chain["revisions"][-1] if chain["revisions"] else chain["draft"]
        assert example["prompt_token_ids"] == chain["draft"]["prompt_token_ids"]
        assert (
            example["completion_token_ids"] == final["token_ids"]
            and final["finish_reason"] == "stop"
        )
        assert (
            bytes(example["prompt_token_ids"]).decode().split("\nA:")[0].rstrip(".?").lower()
            not in heldout
        )


@pytest.mark.slow
def test_a_wrong_draft_is_criticised_and_revised(tmp_path):
    _, path = carry(tmp_path, Model(lambda n: 0.3), recipe(rounds=1, probe=SMALL["probe"]))
    chains = [
        json.loads(line) for line in (path / "rounds/001/samples.jsonl").read_text().splitlines()
    ]
    revised = [c for c in chains if c["revisions"]]
    assert revised and all(c["critiques"][0]["approved"] is False for c in revised)
    assert all(c["critiques"][0]["approved"] is True for c in chains if not c["revisions"])
    assert all(0 <= c["critiques"][0]["probability"] <= 1 for c in chains)


def test_a_critique_of_several_lines_gets_its_probability_from_its_last_line(tmp_path):
    model = Model(lambda n: 0.5)
    plain = model.answer
    model.engine.answer = lambda request: (
        ("first the steps\nthen " if "\nC:\n" in request.prompt[-4:] else "") + plain(request)
    )
    _, path = carry(tmp_path, model, recipe(rounds=1, probe=SMALL["probe"]))
    chains = [
        json.loads(line) for line in (path / "rounds/001/samples.jsonl").read_text().splitlines()
    ]
    for critique in (c for chain in chains for c in chain["critiques"]):
        last = critique["completion"]["text"].splitlines()[-1]
        expected = 2.718281828 ** (-0.1 * (len(last.encode()) + 1))
        assert critique["probability"] == pytest.approx(
            expected if critique["approved"] else 1 - expected, abs=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["draft", "critique0", "revise0"])
def test_a_prompt_that_does_not_fit_costs_its_sample_and_not_the_run(tmp_path, stage):
    model = Model(lambda n: 0.3)
    plain = model.answer

    def answer(request):
        if f"/{stage}/" in request.id and request.seed % 2:
            raise PromptTooLongError("no room")
        return plain(request)

    model.engine.answer = answer
    _, path = carry(tmp_path, model, recipe(rounds=1, probe=SMALL["probe"]))
    verdicts = rows(path, 1, "verdicts")
    assert len(verdicts) == 100 and any(v["kept"] for v in verdicts)
    assert all(v["text"] for v in verdicts if v["kept"])
    assert any(not v["text"] for v in verdicts) == (stage == "draft")


@pytest.mark.slow
def test_the_probe_asks_the_same_in_every_round_with_fresh_draws_and_larger_baselines(finished_run):
    _, path = finished_run
    probed = [Counter((r["problem"], r["kind"]) for r in rows(path, n, "probe")) for n in range(4)]
    assert (
        probed[0] == probed[1] and probed[2] == probed[3] and probed[0].keys() == probed[2].keys()
    )
    assert {(now, probed[0][key]) for key, now in probed[2].items()} == {(8, 16), (1, 1)}
    sampled = [[r["text"] for r in rows(path, n, "probe") if r["kind"] == "sample"] for n in (2, 3)]
    assert sampled[0] != sampled[1], "the same draws in every round would add up to false evidence"


def collapsing(number):
    return (
        {"column": 1.0}
        if number >= 1
        else {"column": 0.4, "split": 0.3, "compensate": 0.15, "jump": 0.15}
    )


@pytest.mark.slow
def test_a_collapse_of_strategies_at_rising_accuracy_is_answered_by_a_rollback_and_reinjection(
    tmp_path,
):
    model = Model(lambda n: 0.6 + 0.1 * min(n, 3), collapsing)
    settings = recipe(
        rounds=3,
        probe={"problems": 60, "samples": 16, "baseline_samples": 64, "majority": 8},
        monitors={"texts_since": 1},
    )
    _, path = carry(tmp_path, model, settings)
    run = read_run(path)
    assert run.rounds[1].action == "rollback", run.rounds[1].decision["reasons"]
    # Round 2 comes as far again as round 1, with which wording is compared: it takes its place.
    probed = (row["problem"] for row in rows(path, 2, "probe") if row["kind"] == "sample")
    assert set(Counter(probed).values()) == {64}
    assert run.rounds[1].score("pass@1")[0] > run.rounds[0].score("pass@1")[0], (
        "accuracy alone does not see it"
    )
    plan = run.rounds[2].plan
    assert plan["start_from"] == 0 and plan["sample_from"] == 0
    assert (
        0.3 <= plan["replay_fraction"] <= 0.6 and plan["per_strategy"] == 0.4 and plan["distinct"]
    )
    origins = Counter(r["origin"] for r in rows(path, 2, "examples"))
    assert (origins["demonstration"] + origins["archive"]) / sum(origins.values()) == pytest.approx(
        plan["replay_fraction"], abs=0.02
    )


@pytest.mark.slow
def test_rollbacks_used_up_halt_the_run_before_its_last_round(tmp_path):
    settings = recipe(
        rounds=5,
        probe={"problems": 60, "samples": 16, "baseline_samples": 64, "majority": 8},
        interventions={"max_rollbacks": 1},
    )
    decision, path = carry(tmp_path, Model(lambda n: 0.7, collapsing), settings)
    assert decision.action == "halt" and decision.round == 2
    assert len(read_run(path).rounds) == 3


@pytest.mark.slow
def test_an_unguarded_run_writes_the_decisions_down_and_goes_on(tmp_path):
    settings = recipe(
        rounds=3,
        probe={"problems": 60, "samples": 16, "baseline_samples": 64, "majority": 8},
        monitors={"guard": False},
    )
    _, path = carry(tmp_path, Model(lambda n: 0.7, collapsing), settings)
    run = read_run(path)
    assert len(run.rounds) == 4
    assert run.rounds[1].action == "rollback" and not run.rounds[1].carried_out
    assert run.rounds[2].plan["start_from"] == 1 and run.rounds[2].plan["replay_fraction"] == 0.0


@pytest.mark.slow
def test_nothing_that_passes_halts_with_a_plain_sentence(tmp_path):
    decision, path = carry(
        tmp_path, Model(lambda n: 0.0), recipe(refine={"critique": False, "revisions": 0})
    )
    assert decision.action == "halt" and decision.round == 1
    assert "nothing passes: 0 of 100" in decision.reasons[0]
    assert read_json(path / "rounds/001/train.json")["status"] == "skipped"


@pytest.mark.slow
def test_a_loop_without_gold_answers_keeps_what_the_critic_approves(tmp_path):
    settings = recipe(
        rounds=1,
        probe=SMALL["probe"],
        refine={"revisions": 0},
        filters={"gold": False, "steps": False, "critic": True, "agreement": 0.25},
    )
    _, path = carry(tmp_path, Model(lambda n: 0.5), settings)
    verdicts = rows(path, 1, "verdicts")
    assert {"critic"} <= {reason for v in verdicts for reason in v["reasons"]}
    assert all(v["approved"] and v["agreement"] >= 0.25 for v in verdicts if v["kept"])


SLOW = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy",
    [
        pytest.param("replace", marks=SLOW),
        pytest.param("accumulate", marks=SLOW),
        "accumulate_subsample",
    ],
)
def test_training_set_policies_hold_what_they_say(tmp_path, policy):
    size = {"size": 50} if policy == "accumulate_subsample" else {}
    _, path = carry(
        tmp_path,
        Model(),
        recipe(probe=SMALL["probe"], dataset={"policy": policy, "min_examples": 4, **size}),
    )
    origins = [Counter(r["origin"] for r in rows(path, n, "examples")) for n in (1, 2, 3)]
    kept = [sum(v["kept"] for v in rows(path, n, "verdicts")) for n in (1, 2, 3)]
    if policy == "replace":
        assert [o["kept"] for o in origins] == kept and all(not o["earlier"] for o in origins)
    elif policy == "accumulate":
        assert [o["earlier"] for o in origins] == [0, kept[0], kept[0] + kept[1]]
    else:
        assert [o["kept"] + o["earlier"] for o in origins] == [50, 50, 50]


STARTS = [
    ("base", [0, 0, 0]),
    pytest.param("previous", [0, 1, 2], marks=SLOW),
    pytest.param("best", [0, 1, 2], marks=SLOW),
]


@pytest.mark.slow
@pytest.mark.parametrize(("init", "starts"), STARTS)
def test_init_says_what_training_starts_from(tmp_path, init, starts):
    seen = []

    def trainer(job, folder, report):
        seen.append(job.init)
        return no_training(job, folder, report)

    _, path = carry(tmp_path, Model(lambda n: 0.3 + 0.2 * n), recipe(init=init), trainer)
    assert [read_run(path).rounds[n].plan["start_from"] for n in (1, 2, 3)] == starts
    assert [
        p.name == "base" or int(p.parent.name) == s for p, s in zip(seen, starts, strict=True)
    ] == [True] * 3


# (by a critic, after this share of all requests): in every stage of both rounds.
KILLED = [
    *((False, share) for share in (0.003, 0.05, 0.16, 0.27, 0.46, 0.7)),
    *((True, share) for share in (0.02, 0.06, 0.27, 0.44)),
]


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """(the run of some settings that nothing interrupted, its requests), made once for each."""
    made = {}

    def get(settings):
        key = settings.filters.critic
        if key not in made:
            model = Model()
            _, path = carry(tmp_path_factory.mktemp("whole"), model, settings)
            made[key] = path, len(model.engine.requests)
        return made[key]

    return get


@pytest.mark.slow
@pytest.mark.parametrize(("critic", "share"), KILLED)
def test_a_run_killed_anywhere_and_resumed_equals_an_uninterrupted_one(
    tmp_path, whole_run, critic, share
):
    settings = small(rounds=2, filters={"critic": critic})
    whole, num_requests = whole_run(settings)
    model = Model()
    model.engine.fail_after = int(share * num_requests)
    with pytest.raises(EngineError):
        carry(tmp_path / "cut", model, settings)
    second = Model()
    _, cut = carry(tmp_path / "cut", second, settings)
    for file in sorted(whole.rglob("*")):
        name = file.relative_to(whole)
        if not file.is_file() or file.name in (
            "events.jsonl",
            "LOCK",
            "env.json",
            "RUN.json",
            "MANIFEST.json",
            "train.json",
        ):
            continue
        assert file.read_bytes() == (cut / name).read_bytes(), name


@pytest.mark.slow
def test_finished_stages_are_not_repeated_on_resume(tmp_path):
    settings = small(rounds=2)
    trained = []

    def dies(job, folder, report):
        if len(trained) == 1:
            raise KeyboardInterrupt
        trained.append(folder.name)
        return no_training(job, folder, report)

    with pytest.raises(KeyboardInterrupt):
        carry(tmp_path, Model(), settings, dies)
    model = Model()
    carry(tmp_path, model, settings)
    assert not any(
        r.id.startswith(("000/student", "001/student")) and "/draft/" in r.id
        for r in model.engine.requests
    )
    assert not any(r.id.startswith("002") and "/draft/" in r.id for r in model.engine.requests), (
        "round 2 had been sampled before the kill"
    )


def test_a_resumed_run_refuses_a_changed_recipe_and_lists_the_keys(finished_run, tmp_path):
    path = shutil.copytree(finished_run[1], tmp_path / "scripted")
    with pytest.raises(RunStateError, match=r"rounds: 3 -> 4"):
        Store.open(path, recipe(rounds=4))


def test_two_processes_cannot_hold_one_run(finished_run, tmp_path):
    path = shutil.copytree(finished_run[1], tmp_path / "scripted")
    first = Store.open(path)
    with pytest.raises(RunStateError, match="held by process"):
        Store.open(path)
    first.close()
    Store.open(path).close()


@pytest.mark.slow
def test_teachers_draft_beside_the_student(tmp_path):
    settings = recipe(rounds=1, probe=SMALL["probe"], teachers=["arithmetic/teacher"])
    model = Model()
    _, path = carry(tmp_path, model, settings)
    sources = Counter(v["sample_id"].split("/")[1] for v in rows(path, 1, "verdicts"))
    assert sources == {"student": 100, "teacher0": 100}
    assert "teacher" in {p.name for p in model.engine.loaded}
