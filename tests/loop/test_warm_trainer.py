"""The trainer that waits for its jobs: each is alone, none outlives its parent, and none waits."""

import asyncio
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from scripted_world import Model, recipe

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import TrainerFaults, child_path, is_alive, wait_until

from ouroloop.loop import runner
from ouroloop.loop.controller import Campaign
from ouroloop.loop.errors import TrainerSilentError, TrainingError
from ouroloop.loop.folder.store import Store
from ouroloop.loop.models.sources import resolve_model
from ouroloop.loop.objectives import training
from ouroloop.loop.objectives.job import TrainingJob
from ouroloop.loop.objectives.warm import WarmTrainer
from ouroloop.loop.setup import prepare

ROOT = Path(__file__).parents[2]


@pytest.fixture
def rounds(tmp_path, monkeypatch):
    """Train round after round in one warm trainer; gives (facts, log) of each."""
    made = []

    def begin(faults=None, forks=True):
        for name, value in (faults or TrainerFaults()).environment().items():
            monkeypatch.setenv(name, value)
        warm = WarmTrainer("faulty_trainer", forks)
        made.append(warm)

        def train(number, **supervision):
            folder = tmp_path / "rounds" / f"{number:03d}"
            folder.mkdir(parents=True)
            limits = {"start_s": 60, "trainer_silence_s": 60, **supervision}
            settings = recipe(peft=None, engine={"dtype": "float32"}, supervision=limits)
            model = resolve_model("arithmetic/base")
            job = TrainingJob.from_recipe(settings, model, folder, seed=1)
            return training.train(job, folder, warm=warm), (folder / "train.log").read_text()

        return warm, train

    yield begin
    for warm in made:
        warm.close()


def pids_in(log):
    """(process that trained, its parent)"""
    return tuple(map(int, re.search(r"trained in (\d+) of (\d+)", log).groups()))


@pytest.mark.slow
def test_every_round_is_trained_in_a_process_of_its_own_beside_the_one_that_waits(
    rounds, monkeypatch
):
    warm, train = rounds()
    warm.start()
    waiting = warm.pid
    # As a recipe's secrets, which are exposed when a job is written.
    monkeypatch.setenv("TELL", "a secret that came later")
    logs = [train(number)[1] for number in (1, 2)]
    assert all("a secret that came later" in log for log in logs)
    children = [pids_in(log) for log in logs]
    assert [parent for _, parent in children] == [waiting, waiting] == [warm.pid, warm.pid]
    assert len({child for child, _ in children}) == 2
    assert not any(is_alive(child) for child, _ in children)
    warm.close()
    assert not is_alive(waiting)


@pytest.mark.slow
def test_where_a_fork_could_not_use_the_gpu_the_process_itself_trains_once(rounds, monkeypatch):
    warm, train = rounds(forks=False)
    monkeypatch.setenv("TELL", "here")
    waiting = []
    for number in (1, 2):
        warm.start()
        waiting.append(warm.pid)
        assert pids_in(train(number)[1]) == (waiting[-1], os.getpid())
        assert warm.pid is None and not is_alive(waiting[-1])
    assert waiting[0] != waiting[1]


@pytest.mark.slow
def test_a_fork_that_is_killed_for_its_memory_is_tried_with_half_the_batch_by_the_same_process(
    rounds,
):
    warm, train = rounds(TrainerFaults(fits=2, how="killed"))
    warm.start()
    waiting = warm.pid
    facts, _ = train(1)
    assert [retry["next_batch"] for retry in facts["retries"]] == [4, 2]
    assert {retry["cause"] for retry in facts["retries"]} == {"memory"}
    assert warm.pid == waiting and is_alive(waiting)


@pytest.mark.slow
def test_a_silent_fork_ends_with_its_process_and_another_one_goes_on(rounds, tmp_path):
    faults = TrainerFaults(silent_after=1, limit=1, tally=str(tmp_path / "tally"))
    warm, train = rounds(faults)
    warm.start()
    first = warm.pid
    facts, _ = train(1, trainer_silence_s=1.0)
    assert [retry["cause"] for retry in facts["retries"]] == ["silence"]
    wait_until(lambda: not group_of(first), 20)
    assert is_alive(warm.pid)


@pytest.mark.slow
def test_silence_without_a_further_start_ends_the_training_and_every_process(rounds):
    warm, train = rounds(TrainerFaults(silent_after=0))
    warm.start()
    first = warm.pid
    # That it has taken the job is no progress.
    with pytest.raises(TrainerSilentError, match="no sign of progress for 6 s"):
        train(1, start_s=6, trainer_silence_s=50, restarts=0)
    assert warm.pid is None
    wait_until(lambda: not group_of(first), 20)


@pytest.mark.slow
def test_a_failure_is_reported_and_the_process_waits_for_the_next_round(rounds, tmp_path):
    warm, train = rounds(TrainerFaults(fails=True, limit=1, tally=str(tmp_path / "tally")))
    warm.start()
    waiting = warm.pid
    with pytest.raises(TrainingError, match="ended with status 3"):
        train(1)
    assert train(2)[0]["status"] == "trained" and warm.pid == waiting


@pytest.mark.slow
def test_a_process_that_dies_while_it_waits_costs_nothing_but_its_imports(rounds, monkeypatch):
    warm, train = rounds()
    warm.start()
    os.kill(warm.pid, signal.SIGKILL)
    facts, _ = train(1)
    assert facts["status"] == "trained" and facts["retries"] == []
    # Also where it dies between the look at it and the order.
    os.kill(warm.pid, signal.SIGKILL)
    wait_until(lambda: not is_alive(warm.pid))
    monkeypatch.setattr(warm._child, "poll", lambda: None)
    facts, _ = train(2)
    assert facts["status"] == "trained" and facts["retries"] == []


def group_of(pid):
    """Living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == pid and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


PARENT = """
import sys
from pathlib import Path
from ouroloop.loop.engines.pipe import TimeLimits
from ouroloop.loop.objectives.warm import WarmTrainer

warm = WarmTrainer("faulty_trainer", forks=True)
warm.start()
print(warm.pid, flush=True)
job = Path(sys.argv[1])
warm.run(job, job.with_name("train.log"), lambda done, total: print(done, flush=True), TimeLimits())
"""


@pytest.mark.slow
def test_nothing_outlives_a_parent_that_is_killed(tmp_path):
    settings = recipe(peft=None, engine={"dtype": "float32"})
    job = TrainingJob.from_recipe(settings, resolve_model("arithmetic/base"), tmp_path, seed=1)
    job.write(tmp_path / "job.json")
    faults = TrainerFaults(silent_after=1).environment()
    path = os.pathsep.join([str(ROOT), child_path()])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path / "job.json")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **faults, "PYTHONPATH": path},
    )
    waiting = int(parent.stdout.readline())
    assert parent.stdout.readline() == "1\n"
    assert len(group_of(waiting)) == 2, "the process that waits, and its fork"
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not group_of(waiting), 20)


@pytest.mark.slow
def test_a_run_trains_all_its_rounds_in_one_warm_process_which_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "MODULE", "faulty_trainer")
    for name, value in TrainerFaults().environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TELL", "run")
    settings = recipe(rounds=2, peft=None, engine={"dtype": "float32"})
    store = Store.create(tmp_path, settings, "none")
    campaign = Campaign(store, prepare(settings), Model().engine, lambda *what: None)
    asyncio.run(runner.carry(campaign))
    logs = [(store.path / f"rounds/00{n}/train.log").read_text() for n in (1, 2)]
    (_, first), (_, second) = map(pids_in, logs)
    assert first == second and not is_alive(first) and campaign.warm.pid is None


@pytest.mark.parametrize(
    ("keys", "is_warm"),
    [
        ({}, True),
        ({"supervision": {"warm_trainer": False}}, False),
        ({"launcher": "accelerate"}, False),
    ],
)
def test_the_recipe_says_whether_a_trainer_waits(keys, is_warm):
    assert training.warm_trainer(recipe(**keys)).is_on is is_warm
