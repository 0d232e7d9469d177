"""The harness of experiments: tables of results, order of arms, what is run and what is kept."""

import math
import shutil
import sys
from pathlib import Path

import pytest

from ouroloop.loop.errors import EngineError, RunStateError, UserError
from ouroloop.loop.experiments import harness, lending, results, rounds, tables
from ouroloop.loop.experiments.study import Study, merge
from ouroloop.loop.folder import integrity
from ouroloop.loop.folder.integrity import read_manifest
from ouroloop.loop.folder.store import Store, write_json
from ouroloop.loop.folder.sums import Status, sealed
from ouroloop.loop.recipes.recipe_file import resolve

for folder in ("loop", "engines"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))


def place(tmp_path):
    return harness.Place(tmp_path / "study", tmp_path / "runs", tmp_path / "results.csv")


STUDY = Study("s", {"model": "arithmetic/base"}, {"late": {"model": "@early"}, "early": {}})


class Workers:
    """Stand-ins for worker processes: each run leaves the table that `rows` says, or fails."""

    def __init__(self, monkeypatch, rows):
        self.began, self.threads = [], []
        monkeypatch.setattr(harness.Worker, "start", lambda place, threads: self.start(threads))
        monkeypatch.setattr(harness, "_work", self.work)
        self.rows = rows

    def start(self, threads):
        self.threads.append(threads)
        return self

    def work(self, study, place, workers, todo, progress, total):
        for run in todo:
            self.began.append(run)
            if self.rows(*run) is None:
                raise EngineError(f"{run} failed")
            rounds.write(self.rows(*run), results.table_of(place.tables, run))

    def end(self):
        pass


def test_what_is_finished_is_not_run_again_and_what_was_finished_is_kept(tmp_path, monkeypatch):
    scores = {("early", 0): [{"round": 1, "x": 0.5}], ("late", 0): None}
    workers = Workers(monkeypatch, lambda *run: scores[run])
    with pytest.raises(EngineError):
        harness.run(STUDY, place(tmp_path), ["late"], [0])
    assert list(results.read(STUDY, tmp_path / "results.csv")) == ["early"]
    scores["late", 0] = [{"round": 1, "x": 0.7}]
    harness.run(STUDY, place(tmp_path), ["late"], [0])
    assert workers.began == [("early", 0), ("late", 0), ("late", 0)]
    harness.run(STUDY, place(tmp_path), ["late"], [0])
    assert len(workers.began) == 3


@pytest.mark.parametrize(("jobs", "threads"), [(1, [8]), (2, [4, 4]), (3, [2, 2, 2])])
def test_the_cores_are_divided_among_the_workers(tmp_path, monkeypatch, jobs, threads):
    monkeypatch.setattr(harness.os, "cpu_count", lambda: 8)
    workers = Workers(monkeypatch, lambda *run: [{"round": 1, "x": 0.5}])
    harness.run(STUDY, place(tmp_path), ["early"], [0, 1, 2], jobs)
    assert workers.threads == threads


def test_arms_of_a_seed_run_one_after_the_other_where_there_are_other_seeds(tmp_path):
    """The later one is lent what they have in common; without other seeds nobody waits for it."""
    study = Study("s", {"model": "arithmetic/base"}, {**STUDY.arms, "other": {}})
    here = place(tmp_path)
    left = [("early", 0), ("other", 0), ("late", 0), ("early", 1), ("other", 1)]
    assert harness.next_run(study, here, left, []) == ("early", 0)
    assert harness.next_run(study, here, left[1:], [("early", 0)]) == ("early", 1)
    assert harness.next_run(study, here, left[1:3], [("early", 0)]) == ("other", 0)
    # What starts from a run that is under way cannot begin.
    assert harness.next_run(study, here, left[2:3], [("early", 0)]) is None
    rounds.write([{"round": 0}], results.table_of(here.tables, ("early", 0)))
    assert harness.next_run(study, here, left[2:3], [("other", 0)]) == ("late", 0)


def test_an_arm_whose_results_came_from_elsewhere_runs_again_where_its_checkpoint_is_needed(
    tmp_path, monkeypatch
):
    elsewhere = {("early", 0): [{"round": "1", "x": "0.25"}]}
    results.write(STUDY, elsewhere, tmp_path / "results.csv")
    workers = Workers(monkeypatch, lambda arm, seed: [{"round": 1, "x": 0.5}])
    harness.run(STUDY, place(tmp_path), ["early"], [0])
    assert workers.began == []
    harness.run(STUDY, place(tmp_path), ["late"], [0])
    assert workers.began == [("early", 0), ("late", 0)]
    assert results.read(STUDY, tmp_path / "results.csv")["early"][0] == [{"round": 1.0, "x": 0.5}]


def test_a_results_file_keeps_every_digit_and_a_table_does_not_replace_what_is_there(tmp_path):
    path, run = tmp_path / "results.csv", ("late", 3)
    rounds.write([{"round": 0, "n": 123_456_789}], results.table_of(tmp_path, run))
    results.collect(STUDY, tmp_path, path)
    assert path.read_text() == "arm,seed,round,n\nlate,3,0,123456789\n"
    rounds.write([{"round": 0, "n": 1, "word": "x"}], results.table_of(tmp_path, run))
    results.collect(STUDY, tmp_path, path)
    assert "123456789" in path.read_text(), "what is in the file counts, it may be newer"
    results.collect(STUDY, tmp_path, path, again=[run])
    assert results.read(STUDY, path)["late"][3] == [{"round": 0.0, "n": 1.0, "word": "x"}]


def test_arms_stand_in_the_studys_order_and_columns_that_a_run_lacks_are_nan(tmp_path):
    path = tmp_path / "results.csv"
    rounds.write([{"round": 0, "a": 1.0}], results.table_of(tmp_path, ("early", 10)))
    rounds.write([{"round": 0, "b": 2.0}], results.table_of(tmp_path, ("early", 9)))
    rounds.write([{"round": 0, "b": 2.0}], results.table_of(tmp_path, ("late", 0)))
    results.collect(STUDY, tmp_path, path)
    found = results.read(STUDY, path)
    assert list(found) == ["late", "early"] and list(found["early"]) == [9, 10]
    assert math.isnan(found["early"][9][0]["a"]) and found["early"][9][0]["b"] == 2


def test_merging_keys_keeps_what_is_not_named():
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 5}, "e": [1]}) == {
        "a": {"b": 5, "c": 2},
        "d": 3,
        "e": [1],
    }


@pytest.mark.slow
def test_a_runs_rows_survive_their_file_and_hold_what_the_run_holds(tmp_path):
    from scripted_world import Model, carry, recipe

    _, path = carry(tmp_path, Model(), recipe())
    found = rounds.table(path)
    assert [r["round"] for r in found] == [0, 1, 2, 3] and found[0]["tokens"] == 0
    assert 0 < found[1]["tokens"] < found[2]["tokens"] < found[3]["tokens"]
    assert 0 <= found[2]["pass_1"] <= 1 and found[2]["alive"] >= 1
    assert (
        math.isnan(found[0]["kept_split"])
        and 0 < found[2]["kept_split"] < 1
        and 0 < found[2]["drafted_split"] < 1
    )
    rounds.write(found, tmp_path / "guarded-0.csv")
    again = rounds.read(tmp_path / "guarded-0.csv")
    for one, other in zip(found, again, strict=True):
        assert one.keys() == other.keys()
        for a, b in zip(one.values(), other.values(), strict=True):
            assert a == b or math.isclose(a, b, rel_tol=1e-4) or (math.isnan(a) and math.isnan(b))


def test_differences_between_arms_are_taken_seed_by_seed():
    found = {
        "a": {0: [{"x": 0.5}], 1: [{"x": 0.7}], 2: [{"x": 9.0}]},
        "b": {0: [{"x": 0.25}], 1: [{"x": 0.35}]},
    }
    assert tables.times(found, "a", "b", tables.last("x"))[:3] == pytest.approx((2, 2, 2))
    gained = tables.gain(found, "a", "b", tables.last("x"))
    assert (
        gained.value == pytest.approx(0.3)
        and gained.num_clusters == 2
        and gained.low < 0.3 < gained.high
    )
    assert math.isnan(tables.gain(found, "a", "c", tables.last("x")).value)


def test_a_table_too_wide_to_read_is_turned():
    found = {"a": {0: [{"x": 0.5}]}, "b": {0: [{"x": 0.25}]}}
    few, many = (
        {f"c{i}": (tables.last("x"), "%") for i in range(n)} for n in (2, tables.WIDEST + 1)
    )
    lines = [
        "| arm | seeds | c0 | c1 |",
        "|---|---|---|---|",
        "| a | 1 | 50.0 % | 50.0 % |",
        "| b | 1 | 25.0 % | 25.0 % |",
    ]
    assert tables.arm_table(found, few) == lines
    turned = tables.arm_table(found, many)
    assert (
        turned[:3] == ["| arm | a | b |", "|---|---|---|", "| seeds | 1 | 1 |"]
        and turned[3] == "| c0 | 50.0 % | 25.0 % |"
        and len(turned) == 14
    )
    arms = {f"a{i}": found["a"] for i in range(len(many))}
    assert tables.arm_table(arms, many)[0].startswith("| arm | seeds | c0 |")


def test_a_table_says_of_how_many_seeds_a_mean_is_and_gives_two_no_interval():
    seeds = {"a": [0.5, 0.7, 0.6], "b": [0.5, 0.9, math.nan], "c": [0.5, 0.9], "d": [math.nan] * 2}
    found = {arm: {s: [{"x": x}] for s, x in enumerate(all)} for arm, all in seeds.items()}
    assert tables.arm_table(found, {"x": (tables.last("x"), "%")})[2:] == [
        "| a | 3 | 60.0 [35.2, 84.8] % |",
        "| b | 3 | 70.0 % (2 of 3 seeds) |",
        "| c | 2 | 70.0 % |",
        "| d | 2 | - |",
    ]


def test_an_arm_that_starts_from_another_comes_after_it_and_gets_its_checkpoint(tmp_path):
    arms = {
        "late": {"model": "@early", "teachers": ["@other"]},
        "early": {"model": "$thing"},
        "other": {"seed": 100},
    }
    study = Study(
        "s",
        {"model": "arithmetic/base", "rounds": 1},
        arms,
        made={"thing": lambda folder: folder / "made"},
    )
    assert study.in_order(["late"]) == ["early", "other", "late"]
    assert study.recipe("early", 2, tmp_path)["model"] == str(tmp_path / "made" / "thing" / "made")
    assert study.recipe("other", 2, tmp_path)["seed"] == 102
    with pytest.raises(RunStateError, match="early-2"):
        study.recipe("late", 2, tmp_path)
    for name in ("early-2/rounds/001", "early-2/rounds/003", "other-2/rounds/001"):
        (tmp_path / name / "checkpoint").mkdir(parents=True)
    found = study.recipe("late", 2, tmp_path)
    assert found["model"] == str(tmp_path / "early-2" / "rounds" / "003" / "checkpoint")
    assert found["teachers"] == [str(tmp_path / "other-2" / "rounds" / "001" / "checkpoint")]


@pytest.mark.slow
def test_arms_that_begin_alike_share_the_first_probe_and_come_to_the_same_rounds(tmp_path):
    from scripted_world import Model, carry, recipe

    def begun(name, **changes):
        settings = recipe(name=name, rounds=1, **changes)
        Store.create(tmp_path, settings, "none").close()
        return lending.lend(tmp_path / name, settings, 0)

    model, other = (
        Model(),
        {
            "dataset": {"replay_fraction": 0.5},
            "sampling": {"temperatures": [0.7]},
            "sft": {"num_train_epochs": 2},
        },
    )
    carry(tmp_path, model, recipe(name="first-3", rounds=1))
    assert begun("second-3", **other)
    assert not lending.lend(tmp_path / "second-3", recipe(name="second-3"), 0), (
        "a run that has begun keeps what it has"
    )
    for name, changes in (
        ("a-3", {"seed": 1}),
        ("b-3", {"probe": {"samples": 12}}),
        ("c-3", {"refine": {"revisions": 0}}),
        ("d-4", {}),
    ):
        assert not begun(name, **changes), name
    model.engine.requests.clear()
    carry(tmp_path, model, recipe(name="second-3", rounds=1, **other))
    assert not any(
        request.id.startswith("000/") and "/probe/" in request.id
        for request in model.engine.requests
    )
    _, alone = carry(tmp_path / "alone", Model(), recipe(name="second-3", rounds=1, **other))
    for file in (
        "000/probe.parquet",
        "000/readings.json",
        "001/samples.jsonl",
        "001/decision.json",
    ):
        assert (tmp_path / "second-3" / "rounds" / file).read_bytes() == (
            alone / "rounds" / file
        ).read_bytes(), file


# Its critiques are asked for no verdict unless something needs one.
FREE = {"form": "paper", "revise_when": "always"}


def test_what_changes_the_first_round_makes_another_beginning(tmp_path):
    from fake_checkpoint import write_fake_checkpoint

    turns = write_fake_checkpoint(tmp_path / "turns")
    (turns / "chat_template.jinja").touch()
    plain = write_fake_checkpoint(tmp_path / "plain")

    def lent(*, model=turns, warm_start=None, learned=False, **changed):
        runs = tmp_path / "runs"
        shutil.rmtree(runs, ignore_errors=True)
        same = {"model": str(model), "refine": FREE, "warm_start": warm_start}
        round_0 = runs / "first-3" / "rounds" / "000"
        round_0.mkdir(parents=True)
        for name in (*lending.BEGINNING, "MANIFEST.json"):
            (round_0 / name).touch()
        first = resolve({"name": "first-3", **same})
        write_json(runs / "first-3" / "recipe.json", first.to_json())
        if learned:
            (runs / "first-3" / "clusters.json").touch()
        second = resolve({"name": "second-3", **same, **changed})
        return lending.lend(runs / second.name, second, 0) == "first-3"

    assert lent() and lent(filters={"steps": True}) and lent(sft={"num_train_epochs": 2})
    assert not lent(filters={"critic": True}), "then the critics of round 0 are asked"
    assert not lent(teachers=[str(plain)]), "then nobody is asked in chat turns"
    assert lent(model=plain, teachers=[str(turns)])
    assert not lent(warm_start={}, sft={"num_train_epochs": 2}), "it learns as `sft` says"
    drawn_once = "clusters are learned on texts that would not be drawn again"
    assert not lent(learned=True, sft={"num_train_epochs": 2}), drawn_once


@pytest.mark.slow
def test_twins_share_their_rounds_until_the_guard_acts(tmp_path):
    from scripted_world import Model, carry, recipe

    def settings(name, guard):
        return recipe(name=name, rounds=4, monitors={"guard": guard})

    def model():
        # The guard acts on the second round.
        return Model(skill=lambda number: (0.6, 0.6, 0.2, 0.6, 0.6)[number])

    carry(tmp_path, model(), settings("unguarded-3", False))
    assert lending.lendable(tmp_path / "unguarded-3") == 2
    (tmp_path / "unguarded-3" / "rounds" / "001" / "left.tmp").touch()
    twin, lent = model(), []
    mine = settings("guarded-3", True)
    path = tmp_path / mine.name

    def lend(number):
        lent.append(lending.lend(path, mine, number))

    Store.create(tmp_path, mine, "none").close()
    lend(0)
    decision, _ = carry(tmp_path, twin, mine, committed=lambda number: lend(number + 1))
    assert lent == ["unguarded-3"] * 3 + [""] * (decision.round - 1)
    first_asked = {request.id[:3] for request in twin.engine.requests}
    assert not first_asked & {"000", "001", "002"}, "nothing is asked again"
    _, alone = carry(tmp_path / "alone", model(), mine)
    for number in range(decision.round + 1):
        for name in ("probe.parquet", "readings.json", "decision.json", "plan.json"):
            file = f"rounds/{number:03d}/{name}"
            assert (path / file).read_bytes() == (alone / file).read_bytes(), file
    assert not list(verify_failures(path))


def verify_failures(path):
    return (check for check in integrity.verify(path) if check.status is not Status.OK)


@pytest.mark.slow
def test_a_round_is_lent_only_by_a_twin_that_made_the_rounds_before_it_alike(tmp_path):
    from scripted_world import Model, carry, recipe

    carry(tmp_path, Model(), recipe(name="first-3", rounds=2))
    mine = recipe(name="second-3", rounds=2, monitors={"guard": False})
    _, path = carry(tmp_path, Model(), mine)

    def lent(**changed):
        (path / "rounds" / "002").rename(tmp_path / "kept")
        try:
            return lending.lend(path, mine.model_copy(update=changed), 2)
        finally:
            shutil.rmtree(path / "rounds" / "002", ignore_errors=True)
            (tmp_path / "kept").rename(path / "rounds" / "002")

    assert lent() == "first-3"
    assert not lent(seed=4) and not lent(rounds=3)
    other = tmp_path / "first-3" / "rounds"
    # Where the last round's answers differ, by another batch's rounding, the next one's do too.
    manifest = other / "001" / "MANIFEST.json"
    was = manifest.read_bytes()
    listed = read_manifest(manifest)
    listed["files"]["probe.parquet"]["sha256"] = "0" * 64
    write_json(manifest, sealed(listed))
    assert not lent()
    manifest.write_bytes(was)
    assert lent() == "first-3"
    shutil.rmtree(other / "002" / "checkpoint")
    assert not lent(), "its model made room"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"sampling": {"temperature": 1}}, "unknown key 'sampling.temperature'"),
        ({"model": "no/where"}, "no/where"),
        ({"sft": {"learning_rate": -1}}, "sft.learning_rate: got -1"),
        ({"model": "@early", "engine": {"kind": "nope"}}, "no engine is called 'nope'"),
        ({"model": "@early", "sft": {"max_steps": "x"}}, "sft.max_steps: got 'x'"),
        ({"model": "@erly"}, "'@erly' names no arm"),
    ],
)
def test_a_wrong_arm_is_refused_before_the_first_one_runs(tmp_path, keys, says):
    study = Study("s", {"model": "arithmetic/base"}, {"early": {}, "late": keys})
    with pytest.raises(UserError) as caught:
        harness.refuse_wrong_arms(study, place(tmp_path), ["early", "late"], [0, 1])
    assert str(caught.value).startswith(f"{tmp_path / 'study'}: arm late: ")
    assert says in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_arms_that_are_right_or_finished_are_not_refused(tmp_path):
    wrong = Study("s", {"model": "arithmetic/base"}, {"early": {}, "late": {"rouns": 1}})
    results.write(wrong, {("late", 0): [{"round": 1}]}, tmp_path / "results.csv")
    harness.refuse_wrong_arms(wrong, place(tmp_path), ["early", "late"], [0])
    # The same arm is, where it has a run to make.
    with pytest.raises(UserError, match="arm late"):
        harness.refuse_wrong_arms(wrong, place(tmp_path), ["early", "late"], [1])
