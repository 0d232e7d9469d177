"""`ouroloop study`: any study, from a folder or a file, in Python or YAML."""

import asyncio
import sys
from pathlib import Path

import pytest

from ouroloop.loop.__main__ import main
from ouroloop.loop.errors import UserError
from ouroloop.loop.experiments import harness, loading, report, results, worker
from ouroloop.loop.recipes.recipe_file import resolve

# Every test starts processes, or carries a run or a page out: see `make test-fast`.
pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).parents[1] / "loop"))
ROOT = Path(__file__).resolve().parents[2]

YAML = """
name: mine
claim: More samples, more right answers.
seeds: [0, 1]
base:
  rounds: 1
  engine: {weight_sync_check: false}
  sampling: {problems_per_round: 6, samples_per_problem: 2, max_tokens: 96}
  refine: {critique: false, revisions: 0}
  dataset: {min_examples: 1}
  probe: {problems: 4, family_problems: 1, samples: 2, baseline_samples: 2, pass_at: 2, majority: 2,
          critiques: 0, texts: 4, audit_items: 0}
arms:
  few:
  many: {sampling: {samples_per_problem: 4}}
"""


@pytest.fixture
def scripted(monkeypatch):
    """Runs in this process, on the scripted model, training nothing."""
    from scripted_world import Model, no_training

    def work(study, place, workers, todo, progress, total):
        process = worker.Worker(study, place.runs, place.quick)
        for arm, seed in todo:
            asyncio.run(process.one(arm, seed))

    class NoProcess:
        def end(self):
            pass

    monkeypatch.setattr(harness, "_work", work)
    monkeypatch.setattr(harness.Worker, "start", lambda place, threads: NoProcess())
    monkeypatch.setattr(worker, "build_engine", lambda recipe, log: Model().engine)
    monkeypatch.setattr(
        worker.training, "train", lambda job, folder, report, here: no_training(job, folder, report)
    )


def test_a_yaml_study_runs_and_goes_on_where_it_was(tmp_path, scripted, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "study.yaml").write_text(YAML)
    command = ["study", str(folder), "--runs", str(tmp_path / "runs"), "--no-mlflow"]
    assert main([*command, "--seeds", "0"]) == 0
    assert main(command) == 0
    assert "mine: 2 of 4 runs are finished" in capsys.readouterr().err
    found = results.read(loading.load(folder).study, folder / results.NAME)
    assert [(arm, list(runs)) for arm, runs in found.items()] == [("few", [0, 1]), ("many", [0, 1])]
    rows = found["many"][1]
    assert [row["round"] for row in rows] == [0, 1] and 0 < rows[1]["pass_1"] <= 1
    assert rows[1]["tokens"] > found["few"][1][1]["tokens"]
    page = (folder / "README.md").read_text()
    assert "# mine\n\n**Claim under test.** More samples, more right answers.\n" in page
    assert "| many | 2 |" in page
    assert not (folder / report.FIGURE).exists()


def test_a_file_alone_keeps_its_results_beside_its_runs_and_quick_leaves_the_folder_as_it_is(
    tmp_path, scripted
):
    path = tmp_path / "lone.yml"
    path.write_text(YAML)
    options = ["--runs", str(tmp_path / "runs"), "--no-mlflow", "--arms", "few", "--quick"]
    assert main(["study", str(path), *options]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lone.yml", "runs"]
    out = tmp_path / "runs" / "studies" / "mine-quick"
    assert (out / results.NAME).exists() and report.QUICK in (out / report.PAGE).read_text()


def test_table_runs_nothing_and_out_names_the_folder(tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(YAML)
    options = ["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--table"]
    assert main(["study", str(tmp_path), *options]) == 0
    assert "nothing is finished" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


def test_a_python_study_may_use_the_files_beside_it_and_those_of_another_study(tmp_path):
    for name, text in {
        "first/arms.py": "ARMS = {'a': {'rounds': 2}}\n",
        "second/study.py": "from ..first.arms import ARMS\nfrom .words import CLAIM\n"
        "from ouroloop.loop.experiments.experiment import Experiment\n"
        "from ouroloop.loop.experiments.study import Study\n"
        "EXPERIMENT = Experiment(Study('second', {}, ARMS), claim=CLAIM)\n",
        "second/words.py": "CLAIM = 'It works.'\n",
        "plain.py": "from ouroloop.loop.experiments.study import Study\n"
        "STUDY = Study('p', {}, {})\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    made = loading.load(tmp_path / "second")
    assert made.claim == "It works." and made.study.keys("a", 1)["rounds"] == 2
    assert loading.load(tmp_path / "plain.py").study.name == "p"


def test_a_yaml_study_takes_a_recipe_and_its_paths_count_from_its_own_place(tmp_path, monkeypatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "base.yaml").write_text(
        "model: arithmetic/base\nrounds: 4\ntask: {kind: jsonl, path: problems.jsonl}\n"
    )
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "else"))
    (tmp_path / "study.yaml").write_text(
        "name: s\nrecipe: recipes/base.yaml\nbase: {rounds: 2, filters: {extra: [own.py:Mine]}}\n"
        "arms:\n"
        "  a: {task: {path: $ELSEWHERE/x.jsonl}, judge: {scorers: {kind: parts/own.py:Kind}}}\n"
        "  b: {}\n"
        "  c: {teachers: ['@b', ./stronger]}\n"
    )
    study = loading.load(tmp_path).study
    a, b = (resolve(study.keys(arm, 3)) for arm in "ab")
    assert (b.rounds, b.seed, b.name, b.tracking.mlflow) == (2, 3, "b-3", False)
    assert b.task.path == str(tmp_path / "recipes" / "problems.jsonl")
    assert a.task.path == str(tmp_path / "else" / "x.jsonl")
    assert b.filters.extra[0].use == f"{tmp_path}/own.py:Mine"
    assert a.judge.scorers["kind"].use == f"{tmp_path}/parts/own.py:Kind"
    assert study.keys("c", 3)["teachers"] == ["@b", str(tmp_path / "stronger")]
    assert study.needs("c") == ("b",)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arms: {a: {}}\nnmae: x\n", "nmae"),
        ("name: x\n", "arms"),
        ("- a\n", "expected a mapping"),
        ("arms: {a: {}}\nmeasure: no.such:thing\n", "module:function"),
        ("arms: {a: {}}\nrecipe: gone.yaml\n", "gone.yaml"),
        ("arms: {a: {task: {path: $NOT_SET_HERE/x}}}\n", "NOT_SET_HERE"),
    ],
)
def test_a_wrong_study_file_is_named_with_what_is_wrong(tmp_path, text, says):
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(UserError, match=says):
        loading.load(tmp_path)


def test_a_study_that_is_not_there_or_defines_nothing_is_a_users_error(tmp_path, capsys):
    assert main(["study", str(tmp_path / "rfft")]) == 2
    assert "runs/experiments/rft" in capsys.readouterr().err
    (tmp_path / "study.py").write_text("x = 1\n")
    assert main(["study", str(tmp_path)]) == 2
    assert "expected `EXPERIMENT = Experiment" in capsys.readouterr().err
    (tmp_path / "broken.py").write_text("import no_such_module\n")
    assert main(["study", str(tmp_path / "broken.py")]) == 2
    assert "no_such_module" in capsys.readouterr().err
    for text, says in (("a = (\n", "SyntaxError"), ("import sys\nsys.exit(0)\n", "SystemExit: 0")):
        (tmp_path / "broken.py").write_text(text)
        assert main(["study", str(tmp_path / "broken.py")]) == 2
        assert f"broken.py: cannot be imported: {says}" in capsys.readouterr().err
    assert main(["study", "runs/experiments/rft", "--arms", "k10"]) == 2
    assert "There are gold, gold_long" in capsys.readouterr().err


def test_elsewhere_the_list_says_that_there_is_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["study", "--list"]) == 0 and "nothing in" in capsys.readouterr().out


def test_an_index_is_kept_only_where_there_is_one(tmp_path, monkeypatch, scripted):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "experiments" / "mine"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text(YAML)
    command = ["study", "runs/experiments/mine", "--no-mlflow", "--runs", "runs"]
    assert main([*command, "--arms", "few", "--seeds", "0"]) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]
    (tmp_path / "REPRODUCTIONS.md").write_text("old")
    (tmp_path / "README.md").write_text("<!-- goals -->\nold\n<!-- /goals -->\n")
    assert main([*command, "--table"]) == 0
    assert "[mine](runs/experiments/mine/README.md)" in (tmp_path / "REPRODUCTIONS.md").read_text()
    assert "1 experiments, 0 goals" in (tmp_path / "README.md").read_text()


def test_the_command_lists_what_there_is(capsys):
    assert main(["study", "--list"]) == 0
    shown = capsys.readouterr().out
    assert all(str(path) in shown for path in loading.available()) and "2308.01825" in shown


@pytest.mark.slow
@pytest.mark.long
def test_the_example_runs_on_worker_processes_with_real_training(tmp_path):
    command = ["study", "runs/experiments/replay_fraction", "--quick", "--runs", str(tmp_path)]
    assert main([*command, "--arms", "replay_0", "replay_50", "--jobs", "2", "--no-mlflow"]) == 0
    out = tmp_path / "studies" / "replay_fraction-quick"
    study = loading.load(Path("runs/experiments/replay_fraction")).study
    found = results.read(study, out / results.NAME)
    assert {arm: list(runs) for arm, runs in found.items()} == {"replay_0": [0], "replay_50": [0]}
    shares = [found[arm][0][-1]["replay_fraction"] for arm in ("replay_0", "replay_50")]
    assert shares == [0.0, 0.5]
