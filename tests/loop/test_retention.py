"""Checkpoints that are no longer needed make room, and everything else goes on as if they were
there."""

import shutil
from dataclasses import replace

import pytest
from scripted_world import SMALL as FEW
from scripted_world import Model, no_training, recipe
from scripted_world import carry as carry_on

from ouroloop.loop.errors import DamagedError, RunStateError
from ouroloop.loop.folder import retention
from ouroloop.loop.folder.integrity import MANIFEST
from ouroloop.loop.folder.store import Store, read_json
from ouroloop.loop.folder.sums import Status
from ouroloop.loop.round import Round
from ouroloop.loop.rows import RoundPlan
from ouroloop.loop.views import verify
from ouroloop.loop.views.endings import closing_text
from ouroloop.loop.views.reader import read_run
from ouroloop.monitors.base import Reading
from ouroloop.monitors.decision.records import Decision
from ouroloop.monitors.estimators.estimand import Estimand
from ouroloop.monitors.names import Action

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

SMALL = {
    "sampling": {"problems_per_round": 12, "samples_per_problem": 4, "max_tokens": 96},
    "refine": {"critique": False, "revisions": 0},
    "probe": {**FEW["probe"], "samples": 8, "baseline_samples": 8},
    "monitors": {"guard": False},
}
WEIGHTS = bytes(range(256))


def training(job, folder, report):
    """A trainer that leaves weights, and needs those that it starts from."""
    assert (job.init / "model.safetensors").exists(), f"{job.init} is needed"
    facts = no_training(job, folder, report)
    (folder / "checkpoint" / "model.safetensors").write_bytes(WEIGHTS)
    return facts


def carry(root, model=None, **changes):
    return carry_on(root, model or Model(), recipe(rounds=5, **{**SMALL, **changes}), training)[1]


def kept_in(run):
    return [int(p.parent.name) for p in sorted(run.glob("rounds/*/checkpoint"))]


@pytest.fixture(scope="module")
def pruned_run(tmp_path_factory):
    """Five rounds, of which the last and the best stay: (run, the same run with all of them)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        skill = {"skill": lambda n: 0.9 if n == 2 else 0.5}
        keep = {"best": 1, "last": 1, "baseline": False}
        run = carry(tmp_path_factory.mktemp("pruned"), Model(**skill), keep=keep)
        whole = carry(tmp_path_factory.mktemp("whole"), Model(**skill), keep={"last": "all"})
    return run, whole


def test_the_best_and_the_last_stay_and_no_table_changes(pruned_run):
    run, whole = pruned_run
    assert read_run(run).best_round == 2
    assert kept_in(run) == [2, 5] and kept_in(whole) == [1, 2, 3, 4, 5]
    compared = list(whole.rglob("*.parquet"))
    assert len(compared) > 20
    for file in compared:
        assert file.read_bytes() == (run / file.relative_to(whole)).read_bytes(), file


def test_what_was_pruned_is_said_by_the_events_the_manifest_and_verify(pruned_run):
    run, _ = pruned_run
    said = [e for e in read_run(run).events if e["event"] == "checkpoint_pruned"]
    assert {e["round"]: e["bytes"] for e in said} == {1: 256, 3: 256, 4: 256}
    assert read_json(run / "rounds/003" / MANIFEST)["pruned"] == ["checkpoint"]
    assert "pruned" not in read_json(run / "rounds/002" / MANIFEST)
    checks = verify.checks_of(run)
    assert verify.is_whole(checks)
    pruned = {check.file for check in checks if check.status is Status.PRUNED}
    assert pruned == {f"rounds/00{n}/checkpoint/model.safetensors" for n in (1, 3, 4)}
    assert "3 pruned" in verify.table(checks)
    Store.open(run).close()


def test_a_pruned_checkpoint_is_asked_for_in_vain_and_compared_once_it_is_put_back(
    pruned_run, tmp_path
):
    run, whole = (shutil.copytree(path, tmp_path / path.parent.name) for path in pruned_run)
    folder = run / "rounds/003/checkpoint"
    store = Store.open(run)
    with pytest.raises(RunStateError, match=r"003/checkpoint: was pruned .*`keep`"):
        store.prove(folder)
    store.close()
    shutil.copytree(whole / "rounds/003/checkpoint", folder)
    checks = verify.checks_of(run)
    assert verify.is_whole(checks) and sum(c.status is Status.PRUNED for c in checks) == 2
    (folder / "model.safetensors").write_bytes(WEIGHTS[::-1])
    with pytest.raises(DamagedError, match=r"003/checkpoint/model\.safetensors: sha256"):
        Store.open(run)


def test_the_views_say_where_the_best_model_was(tmp_path, pruned_run):
    keep = {"best": 0, "last": 1, "baseline": False}
    model = Model(skill=lambda n: 0.9 if n == 2 else 0.5)
    run = carry(tmp_path, model, keep=keep, init="base")
    # It is also the one to roll back to, so it stays whatever the recipe keeps.
    assert kept_in(run) == [2, 5] and "(pruned)" not in closing_text(read_run(run))
    data = read_run(pruned_run[0])
    assert data.place(3).endswith("rounds/003/checkpoint (pruned)")
    assert data.place(2).endswith("rounds/002/checkpoint") and data.place(9) == ""


def test_a_baseline_stays_where_the_recipe_says_so(tmp_path):
    monitors = {"guard": False, "baselines": [0, 1]}
    keep = {"best": 0, "last": 0, "baseline": True}
    model = Model(skill=lambda n: 0.9 if n == 3 else 0.5)
    assert kept_in(carry(tmp_path, model, keep=keep, monitors=monitors)) == [1, 3, 5]


@pytest.mark.parametrize(("small_bytes", "kept"), [(10**9, [1, 2, 3, 4, 5]), (100, [2, 4, 5])])
def test_by_default_small_checkpoints_stay_and_of_large_ones_the_last_two(
    tmp_path, monkeypatch, small_bytes, kept
):
    monkeypatch.setattr(retention, "SMALL_BYTES", small_bytes)
    monitors = {"guard": False, "baselines": [0]}
    model = Model(skill=lambda n: 0.9 if n == 2 else 0.5)
    assert kept_in(carry(tmp_path, model, monitors=monitors)) == kept


@pytest.mark.parametrize("at", ["mark", "delete", "commit"])
def test_a_kill_while_it_is_pruned_leaves_a_whole_run(tmp_path, monkeypatch, at):
    """Whether the manifest says it already, the folder is renamed, or neither."""
    keep = {"best": 1, "last": 1, "baseline": False}

    class Killed(Exception):
        pass

    def dies(*_):
        raise Killed

    plain = retention.prune

    def prune(store, history, recipe):
        if len(history) == 6:
            raise Killed
        plain(store, history, recipe)

    where, what, how = {
        "mark": (retention, "_mark", dies),
        "delete": (retention.shutil, "rmtree", dies),
        "commit": (retention, "prune", prune),
    }[at]
    with monkeypatch.context() as patch:
        patch.setattr(where, what, how)
        with pytest.raises(Killed):
            carry(tmp_path, keep=keep)
    run = tmp_path / "scripted"
    assert verify.is_whole(verify.checks_of(run))
    carry(tmp_path, keep=keep)
    assert verify.is_whole(verify.checks_of(run))
    assert not list(run.rglob("*.tmp")) and 5 in kept_in(run) and len(kept_in(run)) <= 3


@pytest.mark.slow
@pytest.mark.parametrize("init", ["base", "previous", "best"])
def test_a_run_that_rolls_back_finds_every_model_that_it_needs(tmp_path, init):
    """The trainer and the engine refuse what is not there."""

    class Needing(Model):
        def __init__(self, skill, mix):
            super().__init__(skill, mix)
            self.engine.load = self.load

        async def load(self, checkpoint, check=None):
            assert checkpoint.exists(), f"{checkpoint} is needed"
            self.engine.closed = False
            self.engine.loaded.append(checkpoint)

    def mix(number):
        even = {"column": 0.4, "split": 0.3, "compensate": 0.15, "jump": 0.15}
        return {"column": 1.0} if number in (3, 4) else even

    settings = recipe(
        rounds=6,
        init=init,
        keep={"best": 0, "last": 0, "baseline": False},
        probe={**FEW["probe"], "problems": 60, "samples": 8, "baseline_samples": 32},
    )
    model = Needing(lambda n: 0.6, mix)
    _, run = carry_on(tmp_path, model, settings, training)
    actions = [r.action for r in read_run(run).rounds]
    assert {"rollback", "reinject"} & set(actions), actions
    assert len(kept_in(run)) < len(actions) - 1


# -- what may still be needed ---------------------------------------------------------


def past(tmp_path, number, score, action=Action.CONTINUE, teachers=()):
    made = Round.of(tmp_path, number, "main")
    made.readings = [Reading(Estimand("accuracy/pass@1", "main"), score, score, score)]
    made.decision = Decision(number, action, ("why",))
    if number:
        plan = RoundPlan(number, number - 1, number - 1, (1.0,), 0.1, None, False, 10)
        made.plan = replace(plan, teachers=teachers)
    return made


def test_the_round_to_go_back_to_and_earlier_selves_that_draft_are_needed(tmp_path):
    history = [
        past(tmp_path, 0, 0.5),
        past(tmp_path, 1, 0.7),
        past(tmp_path, 2, 0.9, Action.ROLLBACK),
        past(tmp_path, 3, 0.6, teachers=(2, 0)),
    ]
    assert retention.needed(history, recipe()) == {3, 1, 2, 0}
    unblended = {"interventions": {"blend": 0.0}}
    assert retention.needed(history[:3], recipe(**unblended)) == {2, 1}
    assert retention.needed(history[:1], recipe(**unblended)) == {0}
    free = recipe(monitors={"gold": False}, filters={"gold": False, "steps": False}, **unblended)
    assert retention.needed(history[:3], free) == {2, 1}


def test_a_guard_that_draws_weights_to_a_baseline_needs_the_baselines(tmp_path):
    history = [past(tmp_path, number, 0.5 + 0.1 * number) for number in range(4)]
    for guard, baselines in ((True, {0, 2}), (False, set())):
        settings = recipe(monitors={"guard": guard, "baselines": [0, 2]})
        assert retention.needed(history, settings) == {3} | baselines


def test_the_best_rounds_are_those_that_no_decision_rejected(tmp_path):
    history = [
        past(tmp_path, 0, 0.5),
        past(tmp_path, 1, 0.7),
        past(tmp_path, 2, 0.9, Action.ROLLBACK),
        past(tmp_path, 3, 0.8),
    ]
    keep = {"best": 2, "last": 0, "baseline": False}
    assert retention.wanted(history, recipe(keep=keep)) == {1, 3}
    assert retention.wanted(history, recipe(keep={**keep, "best": 9})) == {0, 1, 3}
    assert retention.wanted(history, recipe(keep={"best": 0, "last": 3})) == {0, 1, 2, 3}
